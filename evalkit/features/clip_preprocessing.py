"""Preprocessing of CLIP, DINOv2 and the judge, without torch: worker processes import this."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from evalkit.core import pixels
from evalkit.core.errors import ConfigError


@dataclass(frozen=True)
class ClipPreprocessing:
    """Resize an image to the network's size and normalise its values."""

    size_px: int
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    interpolation: str = "bicubic"
    resize_mode: str = "shortest"
    """`shortest` resizes the shorter side and crops the centre, `squash` ignores the ratio."""

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> Float32[np.ndarray, "size size 3"]:
        """Resize one image with antialiasing, crop it, and normalise it by mean and deviation."""
        resampling = Image.Resampling[self.interpolation.upper()]
        resized = Image.fromarray(image).resize(self._resized(*image.shape[:2]), resampling)
        pixels = np.asarray(resized)
        top = round((pixels.shape[0] - self.size_px) / 2.0)
        left = round((pixels.shape[1] - self.size_px) / 2.0)
        cropped = pixels[top : top + self.size_px, left : left + self.size_px]
        unit = cropped.astype(np.float32) / np.float32(255)
        scaled: np.ndarray = (unit - np.array(self.mean, np.float32)) / np.array(
            self.std, np.float32
        )
        return scaled

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return width and height after resizing."""
        if self.resize_mode == "squash":
            return self.size_px, self.size_px
        if self.resize_mode != "shortest":
            raise ConfigError(
                f"CLIP resize mode {self.resize_mode!r} is not supported; use shortest or squash."
            )
        if width <= height:
            return self.size_px, int(self.size_px * height / width)
        return int(self.size_px * width / height), self.size_px


@dataclass(frozen=True)
class SquashAndScale:
    """Resize to a square with antialiasing, to 8 bits, then normalise by mean and deviation."""

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> Float32[np.ndarray, "size size 3"]:
        """Prepare one image with the bicubic filter."""
        rgb = pixels.squash(image, self.size_px).astype(np.float32) / np.float32(255)
        scaled: np.ndarray = (rgb - np.array(self.mean, np.float32)) / np.array(
            self.std, np.float32
        )
        return scaled


@dataclass(frozen=True)
class SquashTo:
    """Resize to a square, bicubic, at 8 bits; an image of that size stays unchanged."""

    size_px: int

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"]
    ) -> UInt8[np.ndarray, "size size 3"]:
        """Resize one image."""
        return pixels.squash(image, self.size_px)
