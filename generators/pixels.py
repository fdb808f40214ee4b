"""The conversions between the images of networks and those that leave this package.

Inside: float, batch x channels x height x width, in [-1, 1]. Outside: uint8, batch x height x
width x channels, 0-255.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from generators.errors import NonFiniteImageError


def to_uint8(
    images: Float[Tensor, "batch channels height width"],
) -> UInt8[Tensor, "batch height width channels"]:
    """Round to the nearest of 256 levels, so that `to_uint8(from_uint8(u))` is `u`.

    ADM's code truncates instead, GLIDE's and Imagen's round; rounding is used for every model.

    Args:
        images: In [-1, 1]; values outside are clipped.

    Returns:
        Contiguous, 0-255.

    Raises:
        NonFiniteImageError: A value is NaN or infinite; as a level it would be an arbitrary one.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)).flatten().tolist()
    [0, 128, 255]
    """
    if not bool(torch.isfinite(images).all()):
        bad = int((~torch.isfinite(images).flatten(1).all(dim=1)).sum())
        raise NonFiniteImageError(
            f"{bad} of {len(images)} images have values that are NaN or infinite, expected numbers "
            "in [-1, 1]. Make failed samples of them: generators.finite."
        )
    levels = ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return levels.permute(0, 2, 3, 1).contiguous()


def unit_to_uint8(image: Float[np.ndarray, "height width channels"]) -> np.ndarray:
    """Round an image of another library, in [0, 1], to the nearest of 256 levels.

    Args:
        image: One channel, which is repeated, or three.

    >>> unit_to_uint8(np.array([[[0.0], [0.999], [1.0]]]))[0, :, 2].tolist()
    [0, 255, 255]
    """
    levels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels


def from_uint8(
    images: UInt8[Tensor, "batch height width channels"],
) -> Float[Tensor, "batch channels height width"]:
    """Invert `to_uint8` on its range.

    >>> from_uint8(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1)).flatten().tolist()
    [-1.0, 1.0]
    """
    return images.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1


def requantise(
    images: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """Round images in [-1, 1] to 256 levels, as an upsampler saw them in training."""
    return ((images + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def shrink(
    images: Float[Tensor, "batch channels height width"], size_px: int
) -> Float[Tensor, "batch channels {size_px} {size_px}"]:
    """Shrink by area means, exact for whole factors; images of that size are returned as is.

    Args:
        images: Square, of any range.
        size_px: Edge of the images that are returned.

    >>> shrink(torch.arange(4.0).reshape(1, 1, 2, 2), 1).item()
    1.5
    """
    if images.shape[-1] == size_px:
        return images
    return F.interpolate(images, (size_px, size_px), mode="area")
