"""A CLIP that reads noisy images: its gradient is CLIP guidance (GLIDE, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from generators.clip.model import Clip
from generators.diffusion.guidance import Gradient, clip_gradient
from generators.tokenizer import BytePairTokenizer, tokenizer_of
from generators.weights.zoo import ZooWeights


@dataclass(frozen=True, eq=False)
class NoisedClip:
    """A CLIP that reads noisy images, and its tokenizer: what CLIP guidance needs."""

    network: Clip
    tokenizer: BytePairTokenizer

    @classmethod
    def of(cls, weights: ZooWeights, name: str) -> NoisedClip:
        """Build it from the weights of a training; `name` is what errors call it."""
        network = weights.network(Clip, name).requires_grad_(False)
        return cls(network, tokenizer_of(weights))

    def gradient(self, captions: Sequence[str], scale: float, device: str) -> Gradient:
        """Return scale * gradient of the similarity of noisy images and their captions.

        The network must be on the device then, and whenever the gradient is evaluated.
        """
        clip = self.network.requires_grad_(False)
        tokens = self.tokenizer.pad(captions, clip.config.context_length)
        with torch.no_grad(), torch.autocast(torch.device(device).type, enabled=False):
            texts = clip.encode_text(tokens.ids.to(device), tokens.mask.to(device))
        return clip_gradient(clip.encode_image, texts, float(clip.logit_scale.exp()), scale)
