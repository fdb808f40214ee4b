"""Noise-conditioning augmentation (Saharia et al. 2022, section 2.4; Ho et al. 2021).

An upsampler is trained on low-resolution images with noise of a random level, and reads the level.
When sampling, the level is a setting: little noise preserves the previous stage's image, more
noise lets the upsampler correct it.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

OFFSET = 0.008
"""The cosine schedule's (Nichol & Dhariwal 2021, eq. 17)."""


def augmented(
    low_res: Float[Tensor, "batch 3 height width"],
    aug_level: Float[Tensor, " batch"],
    noise: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 3 height width"]:
    """Noise images to a continuous level: variance-preserving, on the cosine schedule.

    Args:
        low_res: Images in [-1, 1].
        aug_level: In [0, 1]; 0 leaves an image as it is, 1 leaves nothing of it.
        noise: Standard normal.
    """
    alpha_bar = signal_share(aug_level).view(-1, 1, 1, 1)
    return alpha_bar.sqrt().to(low_res) * low_res + (1 - alpha_bar).sqrt().to(noise) * noise


def trusted(
    seen: Float[Tensor, "batch 3 height width"], aug_level: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 3 height width"]:
    """Return the best linear guess of images from their augmented ones.

    Args:
        seen: Augmented images, as if their pixels had unit variance.
        aug_level: In [0, 1]; at 0 the guess is the image itself, at 1 it is zero.
    """
    return signal_share(aug_level).sqrt().view(-1, 1, 1, 1).to(seen) * seen


def residual_scale_at(
    scale: float, aug_level: Float[Tensor, " batch"]
) -> Float[Tensor, "batch 1 1 1"]:
    """Return what makes residuals of about unit variance, whose noise grows with the level.

    Args:
        scale: Without augmentation.
        aug_level: In [0, 1].
    """
    variance = scale**-2 + (1 - signal_share(aug_level))
    return variance.rsqrt().float().view(-1, 1, 1, 1)


def signal_share(level: Float[Tensor, " batch"]) -> Float64[Tensor, " batch"]:
    """Return the alpha_bar of a level, exactly 1 at level 0.

    >>> signal_share(torch.tensor([0.0, 0.5, 1.0])).round(decimals=3).tolist()
    [1.0, 0.494, 0.0]
    """
    angle = (level.double() + OFFSET) / (1 + OFFSET) * math.pi / 2
    start = math.cos(OFFSET / (1 + OFFSET) * math.pi / 2) ** 2
    return (torch.cos(angle).square() / start).clamp(0, 1)
