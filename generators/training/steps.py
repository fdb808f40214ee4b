"""Shared parts of training steps: crops, dropped captions, timesteps and their noise.

All randomness comes from the batch's rng on the CPU, so a step is a function of (seed, step).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from evalkit.core.errors import ConfigError
from generators.diffusion.process import DiffusionProcess
from generators.tokenizer import BytePairTokenizer, Tokens
from generators.training.data import IMAGE_PX, Batch


def check_image_size(size_px: int, setting: str = "model.image_size") -> int:
    """Return the edge of the images that a network is trained on, if it divides the data's.

    Raises:
        ConfigError: It does not: shrinking by a broken factor would blur.
    """
    if size_px < 1 or IMAGE_PX % size_px:
        raise ConfigError(
            f"{setting} must divide {IMAGE_PX}, the edge of the training images, got {size_px}."
        )
    return size_px


def check_crops(size_px: int, low_res_px: int, crop_px: int) -> tuple[int, int]:
    """Return the factor of an upsampler and the edge of its training crops, if they fit.

    Args:
        size_px: Edge of the whole images.
        low_res_px: Edge of the whole low-resolution images.
        crop_px: Edge of the crops.

    Raises:
        ConfigError: The edges don't divide each other, or the crops are larger than the images.
    """
    check_image_size(size_px)
    if not 1 <= low_res_px < size_px or size_px % low_res_px:
        raise ConfigError(
            f"objective.low_res_px must divide model.image_size ({size_px}) and be smaller, got "
            f"{low_res_px}."
        )
    factor = size_px // low_res_px
    if not factor <= crop_px <= size_px or crop_px % factor:
        raise ConfigError(
            f"objective.crop_px must be a multiple of {factor} (model.image_size / low_res_px) and "
            f"at most {size_px}, got {crop_px}."
        )
    return factor, crop_px


def random_crops(images: Tensor, crop_px: int, grid_px: int, rng: torch.Generator) -> Tensor:
    """Crop each image once, its corner on a grid so that low-resolution pixels stay whole."""
    places = (images.shape[-1] - crop_px) // grid_px + 1
    corners = torch.randint(places, (len(images), 2), generator=rng) * grid_px
    crops = [
        image[:, y : y + crop_px, x : x + crop_px]
        for image, (y, x) in zip(images, corners.tolist(), strict=True)
    ]
    return torch.stack(crops)


def drop_captions(batch: Batch, share: float) -> Sequence[str]:
    """Replace a share of the captions by an empty one."""
    dropped = torch.rand(len(batch.captions), generator=batch.rng) < share
    return ["" if drop else text for drop, text in zip(dropped, batch.captions, strict=True)]


class Timesteps:
    """How a training step's timesteps are drawn: evenly, or with a focus.

    Args:
        focus: None, or mean and deviation of a logit-normal share of the way to pure noise (Esser
            et al. 2024, section 3.1), which four of five timesteps are drawn from; the fifth is
            drawn evenly, so that no noise level is forgotten.
    """

    FOCUSED_SHARE = 0.8

    def __init__(self, focus: Sequence[float] | None = None) -> None:
        self.focus = None if focus is None else (float(focus[0]), float(focus[1]))

    def draw(self, count: int, num_steps: int, rng: torch.Generator) -> Tensor:
        """Draw int64 timesteps, (count,)."""
        even = torch.randint(num_steps, (count,), generator=rng)
        if self.focus is None:
            return even
        mean, deviation = self.focus
        share = torch.sigmoid(mean + deviation * torch.randn(count, generator=rng))
        focused = (share * num_steps).long().clamp(max=num_steps - 1)
        chosen = torch.rand(count, generator=rng) < self.FOCUSED_SHARE
        return torch.where(chosen, focused, even)


def noised(
    process: DiffusionProcess,
    x_0: Tensor,
    rng: torch.Generator,
    timesteps: Timesteps | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a timestep and noise for each image; return x_t, timesteps and noise."""
    drawn = (timesteps or Timesteps()).draw(len(x_0), process.num_steps, rng)
    t = drawn.to(x_0.device)
    noise = torch.randn(x_0.shape, generator=rng).to(x_0.device)
    return process.q_sample(x_0, t, noise), t, noise


def labels_of(batch: Batch) -> Tensor:
    """Return the labels, if each image has one.

    Raises:
        ConfigError: An image has no label.
    """
    if bool((batch.labels < 0).any()):
        raise ConfigError(
            "This network learns classes, but some images have none. Set data.kinds to "
            "{single = 1.0} in the recipe."
        )
    return batch.labels


def on_device(
    tokenizer: BytePairTokenizer, captions: Sequence[str], length: int, device: torch.device
) -> Tokens:
    """Encode captions to padded tokens on a device."""
    tokens = tokenizer.pad(captions, length)
    return Tokens(tokens.ids.to(device), tokens.mask.to(device), tokens.truncated)
