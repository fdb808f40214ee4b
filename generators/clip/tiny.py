"""The tiny CLIPs: `clip:tiny` for the models' own use, `clip:tiny-judge`, which only ever scores.

They differ in seed, width and training images, so that no model is judged by what re-ranked it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from generators.clip.model import Clip
from generators.diffusion.schedules import REFERENCE_STEPS
from generators.numerics import full_float32
from generators.pixels import from_uint8
from generators.tokenizer import BytePairTokenizer, tiny_tokenizer, tokenizer_of
from generators.weights.zoo import zoo_weights

RECIPES = {"clip:tiny": "clip-tiny", "clip:tiny-judge": "clip-tiny-judge"}


class TinyClip:
    """Embeddings of 64 px images and captions of shapes, each of length 1."""

    def __init__(
        self,
        name: str,
        network: Clip,
        weights_sha256: str,
        device: str,
        tokenizer: BytePairTokenizer | None = None,
    ) -> None:
        self.name = name
        self.weights_sha256 = weights_sha256
        self.size_px = network.config.image_size
        self.dim = network.config.embed_dim
        self.device = device
        self._network = network.to(device).eval()
        self._tokenizer = tokenizer or tiny_tokenizer()

    @full_float32()
    @torch.inference_mode()
    def embed_images(
        self, images: UInt8[np.ndarray, "batch size size 3"]
    ) -> Float32[np.ndarray, "batch dim"]:
        """Embed uint8 images of `size_px`."""
        pixels = from_uint8(torch.from_numpy(np.ascontiguousarray(images))).to(self.device)
        return self._network.encode_image(pixels).float().cpu().numpy()

    @full_float32()
    @torch.inference_mode()
    def embed_texts(self, captions: Sequence[str]) -> Float32[np.ndarray, "batch dim"]:
        """Embed captions; those longer than the context are truncated."""
        tokens = self._tokenizer.pad(captions, self._network.config.context_length)
        ids, mask = tokens.ids.to(self.device), tokens.mask.to(self.device)
        return self._network.encode_text(ids, mask).float().cpu().numpy()

    def num_cut(self, captions: Sequence[str]) -> int:
        """Count the captions that are longer than the context and lose their end."""
        return sum(self._tokenizer.pad(captions, self._network.config.context_length).truncated)


def load(name: str, device: str = "cpu", path: Path | None = None) -> TinyClip:
    """Load one of `RECIPES`, from the zoo or from a file that `evalkit train` wrote."""
    part = RECIPES[name]
    weights = zoo_weights(part, path)
    network = weights.network(Clip, part)
    return TinyClip(name, network, weights.sha256, device, tokenizer_of(weights))


def build_noised(settings: Mapping[str, Any]) -> Clip:
    """Build the noised CLIP of a recipe, which knows `REFERENCE_STEPS` timesteps."""
    return Clip.from_flat({**settings, "num_timesteps": REFERENCE_STEPS})
