"""The preparations of images that published evaluations use beyond a crop and one resizing.

`pixels.to_square` knows the centre crop and the squash. Others differ in the last pixel, and so are
rules of their own:

| crop | rule | used by |
|---|---|---|
| `short-side` | shorter side to S, longer side truncated, crop at floor((L - S) / 2) | mosaicml |
| `torchvision` | the same resizing, crop at round((L - S) / 2), half to even | Sana |
| `adm` | halved with a box while at least 2 S, bicubic to S, crop at floor((L - S) / 2) | ADM |

A lossy file format between generation and features, and a Gaussian blur, change a number as well.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from evalkit.core import pixels
from evalkit.core.errors import ConfigError
from evalkit.core.pixels import RGBImage

Crop = Literal["none", "center", "squash", "short-side", "torchvision", "adm"]
SIZED_CROPS = ("squash", "short-side", "torchvision", "adm")
"""Crops that are defined by the size that they lead to."""
Reencode = Literal["none", "png", "jpeg-75", "jpeg-90", "jpeg-95"]


def crop_to_square(
    image: RGBImage,
    size_px: int,
    *,
    crop: Crop,
    filter: pixels.Filter,  # noqa: A002
    name: str,
) -> RGBImage:
    """Bring a decoded image to a square of `size_px` by any of the crops.

    Args:
        image: What `read_rgb` returned.
        size_px: Side of the result.
        crop: One of `Crop`.
        filter: Antialiased resampling filter; `adm` has its own two.
        name: The image's name in errors.

    Raises:
        DataError: The image isn't square with `crop="none"`.
        ConfigError: No such crop or filter, or a size below 1 px.
    """
    if crop == "adm":
        return _floor_crop(_adm_resized(image, size_px), size_px)
    if crop == "short-side":
        return _floor_crop(_short_side(image, size_px, filter), size_px)
    if crop == "torchvision":
        return _cropped(_short_side(image, size_px, filter), size_px, lambda gap: round(gap / 2))
    return pixels.to_square(image, size_px, crop=crop, filter=filter, name=name)


def reencode(image: RGBImage, file_format: Reencode) -> RGBImage:
    """Save an image in a format and decode it again; PNG is lossless, so nothing happens.

    JPEG is Pillow's, with its default subsampling and tables.

    >>> flat = np.full((8, 8, 3), 77, np.uint8)
    >>> reencode(flat, "png") is flat, reencode(flat, "jpeg-75").shape
    (True, (8, 8, 3))

    Raises:
        ConfigError: No such format.
    """
    if file_format not in get_args(Reencode):
        raise ConfigError(
            f"Unknown file format {file_format!r}; use {', '.join(get_args(Reencode))}."
        )
    if not file_format.startswith("jpeg-"):
        return image
    buffer = io.BytesIO()
    quality = int(file_format.removeprefix("jpeg-"))
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return pixels.read_rgb(buffer.getvalue())


def blur(image: RGBImage, radius_px: float) -> RGBImage:
    """Blur an image by Pillow's Gaussian filter; a radius of 0 leaves it unchanged."""
    if radius_px <= 0:
        return image
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius_px)))


def squashed_gray(image: RGBImage, *, width: int, height: int) -> UInt8[np.ndarray, "h w"]:
    """Return a small gray version of an image, for perceptual hashes."""
    small = Image.fromarray(image).convert("L").resize((width, height), Image.Resampling.BOX)
    return np.array(small)


def _short_side(image: RGBImage, size_px: int, resampling: pixels.Filter) -> RGBImage:
    height, width = image.shape[:2]
    short, long = sorted((height, width))
    longer = int(size_px * long / short)
    wanted = (size_px, longer) if height <= width else (longer, size_px)
    return _resized(image, *wanted, resampling)


def _adm_resized(image: RGBImage, size_px: int) -> RGBImage:
    """Resize as `center_crop_arr` of ADM's data loader does."""
    while min(image.shape[:2]) >= 2 * size_px:
        height, width = image.shape[:2]
        image = _resized(image, height // 2, width // 2, "box")
    height, width = image.shape[:2]
    scale = size_px / min(height, width)
    return _resized(image, round(height * scale), round(width * scale), "bicubic")


def _resized(image: RGBImage, height: int, width: int, resampling: pixels.Filter) -> RGBImage:
    return pixels.resize_to(image, height, width, resampling)


def _floor_crop(image: RGBImage, size_px: int) -> RGBImage:
    return _cropped(image, size_px, lambda gap: gap // 2)


def _cropped(image: RGBImage, size_px: int, offset: Callable[[int], int]) -> RGBImage:
    height, width = image.shape[:2]
    top, left = offset(height - size_px), offset(width - size_px)
    return image[top : top + size_px, left : left + size_px]
