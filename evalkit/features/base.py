"""The interface of feature extractors.

Work is split so that the two halves run in different places: `prepare` turns one decoded image into
the network's input (in a worker thread, no torch), `encode` runs the network on a batch of those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8

from evalkit.core.arrays import as_array
from evalkit.core.errors import ConfigError, DataError

PRECISIONS = ("float32", "bf16")


@runtime_checkable
class Extractor(Protocol):
    """Images in, features out."""

    @property
    def name(self) -> str:
        """Short name, such as `inception` or `clip:ViT-B-32-quickgelu:openai`."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that could change a feature: network, weights hash, resizing, precision."""

    @property
    def layers(self) -> Mapping[str, int]:
        """Dimensions of each layer that `encode` returns; the first is the main one."""

    @property
    def dim(self) -> int:
        """Dimensions of the main layer."""

    @property
    def metric_label(self) -> str:
        """Name of a Fréchet distance on these features."""

    def prepare(self, image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
        """Return the network's input for one image; all inputs have the same shape."""

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Compute the features of a batch of prepared images, by layer."""

    def extract(self, images: Any) -> Float32[np.ndarray, "n d"]:
        """Compute the main layer's features for a batch of uint8 NHWC images."""


@runtime_checkable
class CountsCutCaptions(Protocol):
    """An extractor that knows how many captions are longer than its context."""

    def num_cut(self, captions: Sequence[str]) -> int:
        """Count the captions that lose their end."""


class PreparedExtractor:
    """Base of extractors: `extract`, `dim` and the label on top of `prepare` and `encode`."""

    name: str
    layers: Mapping[str, int]
    preparer: Callable[[np.ndarray], np.ndarray] | None = None
    """A picklable function equal to `prepare`, for worker processes."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that could change a feature."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        """Dimensions of the main layer."""
        return next(iter(self.layers.values()))

    @property
    def metric_label(self) -> str:
        """`FD (NAME)`: only the Inception network makes an FID."""
        return f"FD ({self.name})"

    def prepare(self, image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
        """Return the network's input for one image."""
        if self.preparer is None:
            raise NotImplementedError
        return self.preparer(image)

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Compute the features of a batch of prepared images, by layer."""
        raise NotImplementedError

    def extract(self, images: Any) -> Float32[np.ndarray, "n d"]:
        """Compute the main layer's features for a batch of images.

        Args:
            images: uint8, images x height x width x 3, RGB, 0-255; an array, a CPU tensor, or a
                list of images of different sizes.

        Raises:
            DataError: Another type or shape; floats are refused, since their range (0 to 1, or
                0 to 255) is ambiguous.
        """
        prepared = stack_inputs(self.name, [self.prepare(image) for image in as_images(images)])
        return self.encode(prepared)[next(iter(self.layers))]


def stack_inputs(extractor: str, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """Join the inputs of a network to a batch.

    Raises:
        DataError: They have different shapes; an extractor must resize all images alike.
    """
    shapes = sorted({one.shape for one in inputs})
    if len(shapes) > 1:
        raise DataError(
            f"{extractor} prepared images of {len(shapes)} shapes, such as {shapes[0]} and "
            f"{shapes[1]}; a network needs one. Repair the extractor's prepare."
        )
    return np.stack(inputs)


def as_images(images: Any) -> Sequence[UInt8[np.ndarray, "height width 3"]]:
    """Check a batch and return its images as uint8 arrays of height x width x 3.

    Raises:
        DataError: Not uint8, not three channels last, or no image at all.
    """
    batch = [as_array(image) for image in images]
    if not batch:
        raise DataError("An empty batch has no features. Pass at least one image.")
    for image in batch:
        if image.dtype != np.uint8:
            raise DataError(
                f"Images are {image.dtype}, expected uint8 (0 to 255). The range of floats is "
                "ambiguous (0 to 1, or 0 to 255). Convert them first."
            )
        if image.ndim != 3 or image.shape[2] != 3:
            raise DataError(f"An image has shape {image.shape}, expected (height, width, 3).")
    return batch


def identity_hash(identity: Mapping[str, Any]) -> str:
    """Hash an identity to 16 hexadecimal digits."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_precision(precision: str) -> None:
    """Check that a precision is known.

    Raises:
        ConfigError: Neither float32 nor bf16.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"Unknown precision {precision!r}; choose {' or '.join(PRECISIONS)}.")
