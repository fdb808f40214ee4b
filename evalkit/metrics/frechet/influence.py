"""The influence function of the Fréchet distance: how much each image changes it.

With the optimal map T = R^{1/2} (R^{1/2} S R^{1/2})^{-1/2} R^{1/2} from the samples' Gaussian
N(m, S) to the reference's N(m_r, R), the derivative of the distance with respect to S is I - T,
with respect to R it is I - T^{-1}, so that

    IF(x) = (x - m)' (I - T) (x - m) + 2 (m - m_r)' (x - m), less its mean,
    IF_r(y) = (y - m_r)' (I - T^{-1}) (y - m_r) - 2 (m - m_r)' (y - m_r), less its mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float64

from evalkit.core.errors import NotEnoughImagesError
from evalkit.metrics.arrays import refuse_mismatch
from evalkit.metrics.frechet.moments import Moments

_CHUNK_ROWS = 4096


class SingularCovarianceError(NotEnoughImagesError):
    """Too few different images for the dimensions, or a dimension that never varies."""


@dataclass(frozen=True)
class Transport:
    """Both optimal maps between two Gaussians, and the difference of their means."""

    fake_mean: Float64[np.ndarray, " d"]
    real_mean: Float64[np.ndarray, " d"]
    forward: Float64[np.ndarray, "d d"]
    """T, with T S T = R."""
    backward: Float64[np.ndarray, "d d"]
    """T^{-1}, with T^{-1} R T^{-1} = S."""

    @classmethod
    def between(cls, fake: Moments, real: Moments) -> Transport:
        """Compute the optimal maps between two sets' Gaussians.

        Raises:
            SingularCovarianceError: A covariance is singular, so the map does not exist.
        """
        refuse_mismatch(fake.dim, real.dim)
        try:
            lower = scipy.linalg.cholesky(fake.covariance, lower=True, check_finite=False)
            middle = lower.T @ real.covariance @ lower
            values, vectors = scipy.linalg.eigh(middle, check_finite=False)
            if values[0] <= 0:
                raise scipy.linalg.LinAlgError
        except scipy.linalg.LinAlgError:
            raise SingularCovarianceError(
                f"A covariance of {fake.dim} dimensions is singular, so images have no influence "
                "function: too many images are equal, or a dimension never varies."
            ) from None
        # S = L L', L' R L = V w V'; T = L^{-T} V w^{1/2} V' L^{-1}, T^{-1} = L V w^{-1/2} V' L'.
        quarter = values**0.25
        down = scipy.linalg.solve_triangular(lower.T, vectors * quarter, lower=False)
        up = lower @ (vectors / quarter)
        return cls(fake.mean, real.mean, down @ down.T, up @ up.T)

    def influence_of_fake(self, features: Any) -> Float64[np.ndarray, " n"]:
        """Compute the influence of each sample, mean 0; a positive one raises the distance."""
        gap = self.fake_mean - self.real_mean
        return _quadratic(features, self.fake_mean, self.forward, 2 * gap)

    def influence_of_real(self, features: Any) -> Float64[np.ndarray, " m"]:
        """Compute the influence of each reference image, mean 0."""
        gap = self.fake_mean - self.real_mean
        return _quadratic(features, self.real_mean, self.backward, -2 * gap)


def _quadratic(
    features: Any, mean: np.ndarray, transport: np.ndarray, slope: np.ndarray
) -> Float64[np.ndarray, " n"]:
    values = np.empty(len(features))
    for start in range(0, len(features), _CHUNK_ROWS):
        rows = np.asarray(features[start : start + _CHUNK_ROWS], np.float64) - mean
        moved = rows @ transport
        values[start : start + len(rows)] = ((rows - moved) * rows).sum(axis=1) + rows @ slope
    centred: np.ndarray = values - values.mean()
    return centred
