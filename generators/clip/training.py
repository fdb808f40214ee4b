"""Training of CLIP on clean images, and of the noised CLIP that guides a base network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from evalkit.core.errors import ConfigError
from generators.clip.model import Clip, clip_loss
from generators.clip.tiny import build_noised
from generators.diffusion.process import DiffusionProcess
from generators.pixels import shrink
from generators.tokenizer import BytePairTokenizer, tiny_tokenizer
from generators.training.data import SHAPES_INPUTS, Batch, Inputs
from generators.training.steps import check_image_size, noised, on_device


class ClipTraining(nn.Module):
    """CLIP on its symmetric loss; equal captions in a batch are not each other's wrong answer.

    Args:
        model: Settings of `ClipConfig`.
        objective: None.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = Clip.from_flat(model)
        if self.network.config.image_size != inputs.image_px:
            raise ConfigError(
                f"model.image_size must be {inputs.image_px}, the edge of the training images, got "
                f"{self.network.config.image_size}."
            )
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats."""
        return contrastive_loss(
            self.network, self.tokenizer, self.network.encode_image(batch.images), batch.captions
        )


class NoisedClipTraining(nn.Module):
    """CLIP on noisy images, for guiding a base model (GLIDE, section 2.4).

    Args:
        model: Settings of `ClipConfig`, its `image_size` being the base model's.
        objective: `schedule`, the base model's.
    """

    def __init__(
        self,
        model: Mapping[str, Any],
        objective: Mapping[str, Any],
        inputs: Inputs = SHAPES_INPUTS,
    ) -> None:
        super().__init__()
        self.network = build_noised(model)
        check_image_size(self.network.config.image_size, inputs.image_px)
        self.tokenizer = inputs.tokenizer or tiny_tokenizer()
        self.process = DiffusionProcess.from_objective(objective)

    def forward(self, batch: Batch) -> Tensor:
        """Return the mean loss of the batch, in nats."""
        x_0 = shrink(batch.images, self.network.config.image_size)
        x_t, t, _ = noised(self.process, x_0, batch.draws)
        images = self.network.encode_image(x_t, t)
        return contrastive_loss(self.network, self.tokenizer, images, batch.captions)


def contrastive_loss(
    clip: Clip, tokenizer: BytePairTokenizer, images: Tensor, captions: Sequence[str]
) -> Tensor:
    """Compute CLIP's loss; equal captions are not negatives of each other."""
    tokens = on_device(tokenizer, captions, clip.config.context_length, images.device)
    seen: dict[str, int] = {}
    groups = [seen.setdefault(caption.lower(), len(seen)) for caption in captions]
    texts = clip.encode_text(tokens.ids, tokens.mask)
    return clip_loss(images, texts, clip.logit_scale, groups)
