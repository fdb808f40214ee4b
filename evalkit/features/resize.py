"""The five ways in which FID tools resize an image to 299 x 299, by name.

| mode | grid | filter | used by |
|---|---|---|---|
| `tf1` | corner-aligned at 0, src = dst * in / out | bilinear | TTUR, torch-fidelity |
| `pytorch-fid` | half pixel | bilinear | pytorch-fid |
| `clean` | half pixel, antialiased | bicubic, not re-quantised | clean-fid |
| `legacy_pytorch` | half pixel | bilinear | clean-fid's mode of this name |
| `torchmetrics` | half pixel, antialiased | bilinear | torchmetrics 1.9 (its default) |

All return float32 in the network's range and need no torch, so they run in worker threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from evalkit.core.errors import ConfigError

ResizeMode = Literal["tf1", "pytorch-fid", "clean", "legacy_pytorch", "torchmetrics"]
RESIZE_MODES: tuple[str, ...] = get_args(ResizeMode)
INPUT_SIZE_PX = 299

Grid = tuple[np.ndarray, np.ndarray, Float32[np.ndarray, " out"]]


def resize_for_inception(
    image: UInt8[np.ndarray, "height width 3"], mode: str
) -> Float32[np.ndarray, "299 299 3"]:
    """Resize one image for the Inception network, to values of about -1 to 1.

    Raises:
        ConfigError: An unknown mode.
    """
    return _function(mode)(image)


def check_mode(mode: str) -> None:
    """Check that a resize mode is known.

    Raises:
        ConfigError: Lists the modes.
    """
    _function(mode)


def _function(mode: str) -> Callable[[np.ndarray], np.ndarray]:
    functions = {
        "tf1": _tf1,
        "pytorch-fid": _half_pixel,
        "clean": _clean,
        "legacy_pytorch": _half_pixel,
        "torchmetrics": _antialiased,
    }
    if mode not in functions:
        raise ConfigError(f"Unknown resize mode {mode!r}; choose one of {', '.join(functions)}.")
    return functions[mode]


def _tf1(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return (_bilinear(image, _tf1_grid(height), _tf1_grid(width)) - 128) / 128


def _half_pixel(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    unit = image.astype(np.float32) / 255
    return 2 * _bilinear(unit, _half_pixel_grid(height), _half_pixel_grid(width)) - 1


def _clean(image: np.ndarray) -> np.ndarray:
    return (_pil(image, Image.Resampling.BICUBIC).clip(0, 255) - 128) / 128


def _antialiased(image: np.ndarray) -> np.ndarray:
    return (_pil(image, Image.Resampling.BILINEAR) - 128) / 128


@lru_cache(maxsize=256)
def _tf1_grid(size: int) -> Grid:
    # TensorFlow keeps the ratio and the product in float32, which decides ties between pixels.
    source = np.arange(INPUT_SIZE_PX, dtype=np.float32) * np.float32(size / INPUT_SIZE_PX)
    return _neighbours(source, size)


@lru_cache(maxsize=256)
def _half_pixel_grid(size: int) -> Grid:
    source = (np.arange(INPUT_SIZE_PX, dtype=np.float32) + np.float32(0.5)) * np.float32(
        size / INPUT_SIZE_PX
    ) - np.float32(0.5)
    return _neighbours(source.clip(min=0), size)


def _neighbours(source: Float32[np.ndarray, " out"], size: int) -> Grid:
    low = source.astype(np.int64)
    return low, (low + 1).clip(max=size - 1), source - low.astype(np.float32)


def _bilinear(image: np.ndarray, rows: Grid, columns: Grid) -> np.ndarray:
    low, high, fraction = columns
    pixels = image.astype(np.float32)
    left = pixels[:, low]  # (H, 299, 3)
    wide = left + (pixels[:, high] - left) * fraction[:, None]
    low, high, fraction = rows
    top = wide[low]  # (299, 299, 3)
    resized: np.ndarray = top + (wide[high] - top) * fraction[:, None, None]
    return resized


def _pil(image: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
    # One float channel at a time, so that nothing is rounded to integers in between.
    channels = [
        Image.fromarray(image[:, :, channel].astype(np.float32)).resize(
            (INPUT_SIZE_PX, INPUT_SIZE_PX), resampling
        )
        for channel in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)
