"""The images of one update: checked once, and read by each network at most once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from evalkit.core.arrays import as_array
from evalkit.core.errors import ConfigError, DataError
from evalkit.features.base import Extractor, stack_inputs
from evalkit.features.clip import TextImageExtractor
from generators.pixels import to_uint8

ValueRange = tuple[float, float]
"""Values of black and white, for images of floats."""
RANGES: tuple[ValueRange, ...] = ((0, 1), (-1, 1))
_OVERSHOOT = 0.01
"""Share of the range by which rounding and resizing may leave it; such values are clipped."""
_SHAPES = "expected images x 3 x height x width, or images x height x width x 3"


class ImageBatch:
    """A batch of images that several metrics share.

    Each extractor reads it once, whichever metrics ask for its features.

    Args:
        images: uint8 (0-255), or floats of the named range; images x 3 x height x width or images x
            height x width x 3, as a tensor on any device or an array, or a list of images of
            different sizes. None at all is a batch too.
        value_range: (0, 1) or (-1, 1) for floats; None: floats are refused.

    Raises:
        ConfigError: Another range.
        DataError: Another type or shape, or values outside the range.
    """

    def __init__(self, images: Any, *, value_range: ValueRange | None = None) -> None:
        self.images = as_uint8_images(images, check_range(value_range))
        self._features: dict[int, tuple[Extractor, dict[str, np.ndarray]]] = {}
        self._texts: dict[tuple[int, tuple[str, ...]], tuple[Any, np.ndarray]] = {}

    @classmethod
    def of(cls, images: Any, value_range: ValueRange | None) -> ImageBatch:
        """Return a batch unchanged; make one of anything else."""
        return images if isinstance(images, cls) else cls(images, value_range=value_range)

    def __len__(self) -> int:
        return len(self.images)

    def features(self, extractor: Extractor, layer: str) -> Float32[np.ndarray, "n d"]:
        """Return the features of one layer.

        Raises:
            ConfigError: The extractor has no such layer.
        """
        if not self.images:
            return np.empty((0, layer_dim(extractor, layer)), np.float32)
        if id(extractor) not in self._features:
            self._features[id(extractor)] = extractor, self._encode(extractor)
        return self._features[id(extractor)][1][layer]

    def texts(
        self, extractor: TextImageExtractor, captions: Sequence[str]
    ) -> Float32[np.ndarray, "n d"]:
        """Return the embedding of each caption."""
        if not captions:
            return np.empty((0, extractor.dim), np.float32)
        key = id(extractor), tuple(captions)
        if key not in self._texts:
            embedded = as_array(extractor.encode_text(captions), np.float32)
            self._texts[key] = extractor, embedded
        return self._texts[key][1]

    def _encode(self, extractor: Extractor) -> dict[str, np.ndarray]:
        if not hasattr(extractor, "encode"):  # something that only extracts
            return {"": as_array(extractor.extract(self.images), np.float32)}
        prepared = stack_inputs(extractor.name, [extractor.prepare(one) for one in self.images])
        encoded = extractor.encode(prepared)
        return {layer: as_array(rows, np.float32) for layer, rows in encoded.items()}


def layer_name(extractor: Extractor, layer: str) -> str:
    """Return the name of a layer; the main one for an empty name.

    Raises:
        ConfigError: The extractor has no such layer.
    """
    layers = getattr(extractor, "layers", {"": extractor.dim})
    name = layer or next(iter(layers))
    if name not in layers:
        raise ConfigError(
            f"{extractor.name} has no layer {name!r}; it was loaded with {', '.join(layers)}. "
            "Load it with that layer too."
        )
    return name


def layer_dim(extractor: Extractor, layer: str) -> int:
    """Return the dimensions of a layer."""
    return int(getattr(extractor, "layers", {"": extractor.dim})[layer])


def check_range(value_range: Any) -> ValueRange | None:
    """Check that a range is one of `RANGES`, or not given.

    Raises:
        ConfigError: Another range.

    >>> check_range([-1, 1])
    (-1, 1)
    """
    if value_range is None:
        return None
    ends = tuple(value_range) if isinstance(value_range, Sequence) else ()
    for known in RANGES:
        if ends == known:
            return known
    raise ConfigError(
        f"value_range is {value_range!r}, expected (0, 1) or (-1, 1): the values of black and "
        "white in images of floats. uint8 images need none."
    )


def as_uint8_images(
    images: Any, value_range: ValueRange | None = None
) -> list[UInt8[np.ndarray, "_height _width 3"]]:
    """Return images as uint8 arrays of height x width x 3; floats are rounded to 256 levels.

    Raises:
        DataError: Another type or shape, or values outside the range.

    >>> white = torch.ones(2, 3, 4, 5)
    >>> [(one.shape, int(one.min())) for one in as_uint8_images(white, (0, 1))]
    [((4, 5, 3), 255), ((4, 5, 3), 255)]
    """
    if isinstance(images, Tensor | np.ndarray):
        if images.ndim != 4:
            raise DataError(f"Images have shape {tuple(images.shape)}, {_SHAPES}.")
        return list(_uint8_batch(images, value_range))
    found: list[np.ndarray] = []
    for image in images:
        one = image if isinstance(image, Tensor) else as_array(image)
        if one.ndim != 3:
            raise DataError(
                f"An image has shape {tuple(one.shape)}, expected (height, width, 3) or (3, "
                "height, width)."
            )
        found.extend(_uint8_batch(one[None], value_range))
    return found


def _uint8_batch(
    images: Tensor | np.ndarray, value_range: ValueRange | None
) -> UInt8[np.ndarray, "_n _height _width 3"]:
    """Convert a batch whose images have one size."""
    first = _channels_first(tuple(images.shape))
    if _is_float(images):
        tensor = torch.as_tensor(images).detach()
        floats = tensor if first else tensor.permute(0, 3, 1, 2)
        return _rounded(floats.float(), value_range).cpu().numpy()
    array = as_array(images)
    if array.dtype != np.uint8:
        raise DataError(
            f"Images are {array.dtype}, expected uint8 (0 to 255), or floats and their value_range."
        )
    return array.transpose(0, 2, 3, 1) if first else array


def _is_float(images: Tensor | np.ndarray) -> bool:
    if isinstance(images, Tensor):
        return images.is_floating_point()
    return bool(np.issubdtype(images.dtype, np.floating))


def _channels_first(shape: tuple[int, ...]) -> bool:
    """Say where the channels are.

    Raises:
        DataError: Nowhere, or in both places.
    """
    first, last = shape[1] == 3, shape[3] == 3
    if first and last:
        raise DataError(
            f"Images have shape {shape}, in which the 3 channels may be first or last. Use images "
            "of other sides than 3 px."
        )
    if not first and not last:
        raise DataError(f"Images have shape {shape}, {_SHAPES}.")
    return first


def _rounded(images: Tensor, value_range: ValueRange | None) -> Tensor:
    """Round floats, images x 3 x height x width, to uint8, images x height x width x 3."""
    if value_range is None:
        raise DataError(
            f"Images are {str(images.dtype).removeprefix('torch.')}, expected uint8 (0 to 255). "
            "The range of floats is ambiguous: name it with value_range=(0, 1) or (-1, 1)."
        )
    if not len(images):
        return images.to(torch.uint8).permute(0, 2, 3, 1)
    low, high = value_range
    least, most = float(images.min()), float(images.max())
    slack = _OVERSHOOT * (high - low)
    # A NaN fails both comparisons.
    if not (least >= low - slack and most <= high + slack):
        raise DataError(
            f"Images have values from {least:.4g} to {most:.4g}, outside value_range "
            f"({low:g}, {high:g}). Clamp them, or name their own range."
        )
    return to_uint8(images if low == -1 else images * 2 - 1)
