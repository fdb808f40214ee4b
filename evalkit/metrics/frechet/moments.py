"""Mean and covariance of features, streamed and mergeable (Chan, Golub and LeVeque 1979).

All arithmetic is float64 and centred before squaring, so that order and sharding of the images
change only the rounding (1e-10 relative).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalkit.core.arrays import as_array, open_npz
from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.metrics.arrays import as_rows, refuse_mismatch, refuse_non_finite
from evalkit.metrics.frechet.products import gram

# Rows converted to float64 at once: 64 MB at 2,048 dimensions.
_CHUNK_ROWS = 4096


class Moments:
    """Count, mean and scatter matrix of a set of features.

    Attributes:
        n: Number of images, or None for statistics of unknown origin (a file of mu and sigma).
        mean: Mean of each dimension.
        scatter: Sum of the outer products of the centred rows.

    >>> a = Moments.from_features([[0.0, 0.0], [2.0, 0.0]])
    >>> b = Moments.from_features([[4.0, 3.0]])
    >>> (a + b).mean.tolist()
    [2.0, 1.0]
    >>> (a + b).covariance.tolist()
    [[4.0, 3.0], [3.0, 3.0]]
    """

    def __init__(self, dim: int) -> None:
        self.n: int | None = 0
        self.mean: Float64[np.ndarray, " d"] = np.zeros(dim)
        self.scatter: Float64[np.ndarray, "d d"] = np.zeros((dim, dim))

    @property
    def dim(self) -> int:
        """Number of dimensions."""
        return len(self.mean)

    @property
    def covariance(self) -> Float64[np.ndarray, "d d"]:
        """Unbiased covariance (ddof 1).

        Raises:
            NotEnoughImagesError: Fewer than two images.
        """
        if self.n is None:
            return self.scatter
        if self.n < 2:
            raise NotEnoughImagesError(
                f"A covariance needs at least 2 images, got {self.n}. Add images."
            )
        return self.scatter / (self.n - 1)

    @classmethod
    def from_features(cls, features: Any) -> Moments:
        """Compute the moments of one array of features (images x dimensions).

        Raises:
            DataError: The wrong shape, or a value that is not finite.
        """
        array = as_rows(features)
        if array.ndim != 2 or array.shape[1] == 0:
            raise DataError(f"Features have shape {array.shape}, expected (images, dimensions).")
        moments = cls(array.shape[1])
        moments.update(array)
        return moments

    @classmethod
    def from_statistics(cls, mean: Any, covariance: Any, n: int | None = None) -> Moments:
        """Build moments from a mean and an unbiased covariance that were computed elsewhere.

        Raises:
            DataError: The shapes don't match, a value is not finite, or the covariance is not
                symmetric.
        """
        mu = as_array(mean, np.float64)
        sigma = as_array(covariance, np.float64)
        if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
            raise DataError(
                f"Mean of shape {mu.shape} and covariance of shape {sigma.shape}, expected (d,) "
                "and (d, d)."
            )
        refuse_non_finite(np.vstack([mu, sigma]), name="statistics")
        asymmetry = float(np.abs(sigma - sigma.T).max(initial=0.0))
        if asymmetry > 1e-4 * max(1e-300, float(np.abs(sigma).max(initial=0.0))):
            raise DataError(f"The covariance is not symmetric (differs by {asymmetry:.3g}).")
        moments = cls(len(mu))
        moments.n = n
        moments.mean = mu
        moments.scatter = (sigma + sigma.T) / 2 * (1 if n is None else n - 1)
        return moments

    def update(self, features: Any) -> None:
        """Add images.

        Raises:
            DataError: The number of dimensions changed, a value is not finite, or these are
                statistics of unknown n, which can't be extended.
        """
        array = as_rows(features)
        if array.ndim == 1:
            array = array[None]
        refuse_mismatch(self.dim, array.shape[1])
        for start in range(0, len(array), _CHUNK_ROWS):
            rows = array[start : start + _CHUNK_ROWS].astype(np.float64)
            refuse_non_finite(rows, name="features")
            mean = rows.mean(axis=0)
            centred = rows - mean
            self._absorb(len(rows), mean, gram(centred))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets together; neither is changed."""
        refuse_mismatch(self.dim, other.dim)
        if other.n is None:
            raise DataError("Statistics of unknown n can't be merged; merge the features instead.")
        merged = Moments(self.dim)
        merged.n, merged.mean, merged.scatter = self.n, self.mean.copy(), self.scatter.copy()
        merged._absorb(other.n, other.mean, other.scatter)
        return merged

    __add__ = merge

    def without(self, part: Moments) -> Moments:
        """Return the moments of the set without a part of it, by subtraction.

        Raises:
            DataError: Either n is unknown, or the part is not smaller than the whole.
        """
        refuse_mismatch(self.dim, part.dim)
        if self.n is None or part.n is None or part.n >= self.n:
            raise DataError(f"Can't remove {part.n} images from {self.n}.")
        rest = Moments(self.dim)
        rest.n = self.n - part.n
        rest.mean = (self.n * self.mean - part.n * part.mean) / rest.n
        gap = part.mean - rest.mean
        shift = np.outer(gap, gap) * (part.n * rest.n / self.n)
        rest.scatter = self.scatter - part.scatter - shift
        return rest

    def _absorb(self, n: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        if self.n is None:
            raise DataError("Statistics of unknown n can't be extended; start from the features.")
        total = self.n + n
        if n == 0:
            return
        gap = mean - self.mean
        self.scatter = self.scatter + scatter + np.outer(gap, gap) * (self.n * n / total)
        self.mean = self.mean + gap * (n / total)
        self.n = total

    def save(self, path: Path | str) -> None:
        """Write an `.npz` with `mu`, `sigma` and `n`, which pytorch-fid and clean-fid read too."""
        arrays = {"mu": self.mean, "sigma": self.covariance}
        if self.n is not None:
            arrays["n"] = np.array(self.n)
        np.savez(Path(path), **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path | str) -> Moments:
        """Read what `save`, pytorch-fid or clean-fid wrote.

        Raises:
            DataError: The file is not a statistics file.
        """
        with open_npz(Path(path), what="a statistics file") as stored:
            missing = [name for name in ("mu", "sigma") if name not in stored.names]
            if missing:
                raise DataError(f"{path}: no array {missing[0]!r}; expected mu and sigma.")
            n = int(stored.read("n")) if "n" in stored.names else None
            return cls.from_statistics(stored.read("mu"), stored.read("sigma"), n)


def merge_all(parts: Iterable[Moments]) -> Moments:
    """Merge the moments of several sets.

    Raises:
        DataError: There is no part.
    """
    merged: Moments | None = None
    for part in parts:
        merged = part if merged is None else merged + part
    if merged is None:
        raise DataError("No moments to merge; give at least one set.")
    return merged
