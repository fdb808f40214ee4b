"""The checks of feature arrays that all metrics share."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float64

from evalkit.core.arrays import as_array
from evalkit.core.errors import DataError, NotEnoughImagesError


def as_features(values: Any, *, name: str, minimum: int = 1) -> Float64[np.ndarray, "n d"]:
    """Check the values and return them as float64 features, one row per image.

    Args:
        values: Anything that numpy can turn into an array, and tensors of any kind.
        name: Name of the set in errors.
        minimum: The minimum number of images for the metric.

    Raises:
        DataError: Not two-dimensional, no columns, or a value that is not finite.
        NotEnoughImagesError: Fewer than `minimum` rows.
    """
    array = as_array(values, np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            f"{name}: features have shape {array.shape}, expected (images, dimensions); "
            "flatten each image's features to one row."
        )
    if len(array) < minimum:
        raise NotEnoughImagesError(
            f"{name}: {len(array)} {'image' if len(array) == 1 else 'images'}; the metric needs "
            f"at least {minimum}. Add images."
        )
    refuse_non_finite(array, name=name)
    return array


def as_rows(features: Any) -> Any:
    """Return stored features unchanged, to be read in slices; anything else as an array."""
    return features if hasattr(features, "subset") else as_array(features)


def take_rows(features: Any, rows: np.ndarray) -> Any:
    """Select some of the images by their row; stored features stay on disk."""
    return features.subset(rows) if hasattr(features, "subset") else features[rows]


def refuse_non_finite(array: np.ndarray, *, name: str) -> None:
    """Raise an error at the first row that contains NaN or infinity.

    Raises:
        DataError: Names the row.
    """
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise DataError(
            f"{name}: the features of image {bad} (from 0) contain NaN or infinity "
            f"({int((~finite).sum())} of {len(finite)} images affected). Check that image and the "
            "extractor's precision."
        )


def refuse_mismatch(first: int, second: int) -> None:
    """Check that both sets have the same number of dimensions.

    Raises:
        DataError: They come from different extractors or layers.
    """
    if first != second:
        raise DataError(
            f"The sets have {first} and {second} dimensions; both must come from the same "
            "extractor and layer."
        )
