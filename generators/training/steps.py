"""Shared parts of training steps: crops, dropped captions, timesteps and their noise.

All randomness comes from the batch's generators on the CPU, one per image, so a step is a function
of (seed, step), however it is split. What is drawn is copied without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evalkit.core.errors import ConfigError
from generators.diffusion.process import DiffusionProcess
from generators.tokenizer import BytePairTokenizer, Tokens
from generators.training.data import IMAGE_PX, Batch
from generators.training.draws import Draws


def check_image_size(size_px: int, image_px: int = IMAGE_PX) -> int:
    """Return the edge of the images that a network is trained on, if it divides the data's.

    Args:
        size_px: The network's `image_size`.
        image_px: Edge of the training images.

    Raises:
        ConfigError: It does not: shrinking by a broken factor would blur.
    """
    if size_px < 1 or image_px % size_px:
        raise ConfigError(
            f"model.image_size must divide {image_px}, the edge of the training images, got "
            f"{size_px}."
        )
    return size_px


def check_crops(
    size_px: int, low_res_px: int, crop_px: int, image_px: int = IMAGE_PX
) -> tuple[int, int]:
    """Return the factor of an upsampler and the edge of its training crops, if they fit.

    Args:
        size_px: Edge of the whole images.
        low_res_px: Edge of the whole low-resolution images.
        crop_px: Edge of the crops.
        image_px: Edge of the training images.

    Raises:
        ConfigError: The edges don't divide each other, or the crops are larger than the images.
    """
    check_image_size(size_px, image_px)
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


def random_crops(images: Tensor, crop_px: int, grid_px: int, draws: Draws) -> Tensor:
    """Crop each image once, its corner on a grid so that low-resolution pixels stay whole."""
    places = (images.shape[-1] - crop_px) // grid_px + 1
    if places == 1:
        return images
    corners = draws.randint(places, 2) * grid_px
    crops = [
        image[:, y : y + crop_px, x : x + crop_px]
        for image, (y, x) in zip(images, corners.tolist(), strict=True)
    ]
    return torch.stack(crops)


def drop_captions(batch: Batch, share: float) -> Sequence[str]:
    """Replace a share of the captions by an empty one."""
    dropped = (batch.draws.rand() < share).tolist()
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

    def draw(self, num_steps: int, draws: Draws) -> Tensor:
        """Draw one int64 timestep per image."""
        even = draws.randint(num_steps)
        if self.focus is None:
            return even
        mean, deviation = self.focus
        share = torch.sigmoid(mean + deviation * draws.randn())
        focused = (share * num_steps).long().clamp(max=num_steps - 1)
        chosen = draws.rand() < self.FOCUSED_SHARE
        return torch.where(chosen, focused, even)


def noised(
    process: DiffusionProcess,
    x_0: Tensor,
    draws: Draws,
    timesteps: Timesteps | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw a timestep and noise for each image; return x_t, timesteps and noise."""
    drawn = (timesteps or Timesteps()).draw(process.num_steps, draws)
    t = drawn.to(x_0.device, non_blocking=True)
    noise = draws.randn(*x_0.shape[1:]).to(x_0.device, non_blocking=True)
    return process.q_sample(x_0, t, noise), t, noise


def require_labels(labels: Tensor | np.ndarray) -> None:
    """Check that each image has a label, before training: reading a GPU's tensors would wait.

    Raises:
        ConfigError: An image has no label.
    """
    if bool((labels < 0).any()):
        raise ConfigError(
            "This network learns classes, but some images have none. Set data.kinds to "
            "{single = 1.0} in the recipe, or give --data with a class for each image."
        )


def on_device(
    tokenizer: BytePairTokenizer, captions: Sequence[str], length: int, device: torch.device
) -> Tokens:
    """Encode captions to padded tokens on a device."""
    tokens = tokenizer.pad(captions, length)
    ids, mask = (x.to(device, non_blocking=True) for x in (tokens.ids, tokens.mask))
    return Tokens(ids, mask, tokens.truncated)
