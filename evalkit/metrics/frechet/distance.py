"""The Fréchet distance of two Gaussians fitted to features (Dowson and Landau 1982; Heusel 2017).

d^2 = |m - m_r|^2 + tr S + tr R - 2 tr (S R)^{1/2}

The last trace is the sum of the singular values of F_S F_R' for any factors with S = F_S' F_S and
R = F_R' F_R. At full rank it follows from one Cholesky factor and a symmetric eigenvalue problem;
with no more images than dimensions, the centred features themselves are the factors, and the value
is exact, while a square root of the singular product has errors of 1e-6 to 1e-4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float64

from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.frechet.moments import Moments

MIN_IMAGES = 2
"""Minimum number of images for a covariance."""


def frechet_distance(fake: Moments, real: Moments) -> float:
    """Compute the Fréchet distance of two sets' Gaussians; lower is better, 0 means equal.

    Returns:
        The squared distance, as the literature reports it under "FID".

    Raises:
        DataError: The sets have different dimensions.
        NotEnoughImagesError: A set has fewer than two images.

    >>> a = Moments.from_features([[0.0], [2.0]])
    >>> b = Moments.from_features([[3.0], [3.0], [9.0]])
    >>> round(frechet_distance(a, b), 9)  # (1 - 5)^2 + (sqrt(2) - sqrt(12))^2
    20.202041029
    """
    refuse_mismatch(fake.dim, real.dim)
    cov_fake, cov_real = fake.covariance, real.covariance
    if _has_full_rank(fake) and _has_full_rank(real):
        cross = trace_sqrt_product(cov_fake, cov_real)
    else:
        cross = _nuclear_norm(_root(fake), _root(real))
    return _assemble(fake.mean - real.mean, np.trace(cov_fake), np.trace(cov_real), cross)


def frechet_distance_from_features(fake: Any, real: Any) -> float:
    """Compute the Fréchet distance of two feature arrays, exactly at any number of images.

    Raises:
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: A set has fewer than two images.

    >>> frechet_distance_from_features([[0.0, 0.0], [2.0, 0.0]], [[0.0, 1.0], [2.0, 1.0]])
    1.0
    """
    x = as_features(fake, name="samples", minimum=MIN_IMAGES)
    y = as_features(real, name="reference", minimum=MIN_IMAGES)
    refuse_mismatch(x.shape[1], y.shape[1])
    if min(len(x), len(y)) > x.shape[1]:
        return frechet_distance(Moments.from_features(x), Moments.from_features(y))
    factor_x, factor_y = _factor(x), _factor(y)
    gap = x.mean(axis=0) - y.mean(axis=0)
    cross = _nuclear_norm(factor_x, factor_y)
    return _assemble(gap, np.square(factor_x).sum(), np.square(factor_y).sum(), cross)


def trace_sqrt_product(
    first: Float64[np.ndarray, "d d"], second: Float64[np.ndarray, "d d"]
) -> float:
    """Compute the trace of (S R)^{1/2} for symmetric positive semi-definite S and R."""
    for inner, outer in ((first, second), (second, first)):
        try:
            lower = scipy.linalg.cholesky(inner, lower=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            continue
        half = scipy.linalg.blas.dtrmm(1.0, lower, outer, trans_a=True, lower=True)
        middle = scipy.linalg.blas.dtrmm(1.0, lower, half, side=True, lower=True)
        values = scipy.linalg.eigvalsh(middle, check_finite=False, overwrite_a=True)
        return float(np.sqrt(values.clip(min=0)).sum())
    return _nuclear_norm(_symmetric_root(first), _symmetric_root(second))


def _has_full_rank(moments: Moments) -> bool:
    return moments.n is None or moments.n > moments.dim


def _root(moments: Moments) -> Float64[np.ndarray, "r d"]:
    rank = moments.dim if moments.n is None else min(moments.dim, moments.n - 1)
    return _symmetric_root(moments.covariance, rank)


def _symmetric_root(
    covariance: Float64[np.ndarray, "d d"], rank: int | None = None
) -> Float64[np.ndarray, "r d"]:
    """Return a factor F with F'F = S from the eigenvectors, without pure noise directions."""
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    floor = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
    kept = values > floor
    if rank is not None:
        kept[: len(values) - rank] = False
    root: np.ndarray = np.sqrt(values[kept])[:, None] * vectors[:, kept].T
    return root


def _factor(features: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "r d"]:
    """Return F with F'F = the covariance: the centred features, or a root if that is smaller."""
    n, d = features.shape
    if n > d:
        return _root(Moments.from_features(features))
    factor: np.ndarray = (features - features.mean(axis=0)) / np.sqrt(n - 1)
    return factor


def _nuclear_norm(first: Float64[np.ndarray, "a d"], second: Float64[np.ndarray, "b d"]) -> float:
    cross = first @ second.T
    if cross.size == 0:
        return 0.0
    return float(scipy.linalg.svdvals(cross, overwrite_a=True, check_finite=False).sum())


def _assemble(gap: np.ndarray, trace_fake: float, trace_real: float, cross: float) -> float:
    return float(gap @ gap + trace_fake + trace_real - 2 * cross)
