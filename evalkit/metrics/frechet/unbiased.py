"""The Fréchet distance of two populations, without the bias of finitely many images.

The plug-in distance takes sample covariances for those of the populations. Its squared gap of the
means is too large by tr S / n + tr R / m, and its cross term too small, since the spectrum of a
product of sample covariances is spread. `sum_of_roots` undoes the second to first order in d / n,
which is what is left of the bias for Gaussian-like features; `jackknife` removes the rest, a term
of order 1 / n that depends on fourth moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float64

from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.metrics.arrays import refuse_mismatch
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.spectrum import sum_of_roots

_NO_VARIANCE = 1e-12
"""Share of the largest variance below which a direction counts as having none."""
_NO_PRODUCT = 1e-13
"""The same of an eigenvalue of the product of the two covariances."""


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Two estimates of one Fréchet distance, both lower is better."""

    corrected: float
    """Of the populations, unbiased to first order; it may be negative."""
    plug_in: float
    """Of the sample covariances as they are, which the literature reports."""
    num_varying: int
    """Directions in which both sets vary; in the others only means and variances count."""


def unbiased_distances(fake: Moments, real: Moments) -> Distances:
    """Estimate the Fréchet distance of infinitely many images from the moments of some.

    Unbiased to first order in d / n and d / m, whatever their ratio, for features that are not far
    from Gaussian. Where the reference's n is unknown (a file of mu and sigma), its moments are
    taken for the population's, and the estimate is unbiased in the samples alone.

    Args:
        fake: Moments of the samples.
        real: Moments of the reference.

    Raises:
        DataError: Different dimensions, or samples whose number is unknown.
        NotEnoughImagesError: No more images than varying directions, plus one, in a set.

    >>> rng = np.random.default_rng(0)
    >>> fake, real = (Moments.from_features(rng.normal(size=(n, 40))) for n in (100, 4000))
    >>> found = unbiased_distances(fake, real)
    >>> abs(found.corrected) < 0.5 < 5 < found.plug_in  # both sets are of one population
    True
    """
    refuse_mismatch(fake.dim, real.dim)
    if fake.n is None:
        raise DataError("The number of samples is unknown. Give their features or moments with n.")
    gap = fake.mean - real.mean
    fake_covariance, real_covariance = fake.covariance, real.covariance
    eigenvalues = _product_spectrum(fake_covariance, real_covariance)
    kept = len(eigenvalues)
    for moments, what in ((fake, "samples"), (real, "reference images")):
        if moments.n is not None and moments.n - 1 <= kept:
            raise NotEnoughImagesError(
                f"Not estimable from {moments.n:,} {what} in {fake.dim:,} dimensions: it takes 2 "
                f"more than there are varying dimensions, {fake.dim + 2:,} if all vary."
            )
    roots = 0.0
    if kept:
        freedom_real = None if real.n is None else real.n - 1
        roots = sum_of_roots(eigenvalues, freedom_fake=fake.n - 1, freedom_real=freedom_real)
    gap_squared = float(gap @ gap)
    of_fake, of_real = float(np.trace(fake_covariance)), float(np.trace(real_covariance))
    excess = of_fake / fake.n + (0.0 if real.n is None else of_real / real.n)
    return Distances(
        corrected=gap_squared - excess + of_fake + of_real - 2 * roots,
        plug_in=gap_squared + of_fake + of_real - 2 * float(np.sqrt(eigenvalues).sum()),
        num_varying=kept,
    )


def least_variance(fake: Moments, real: Moments) -> float:
    """Variance that an estimate has at least: that between Gaussian sets of one population.

    The first term is that of the squared gap of the means, the others that of what the spectra
    fluctuate, with w the eigenvalues of the pooled covariance and nu = 1 / n + 1 / m.

    Args:
        fake: Moments of the samples.
        real: Moments of the reference; one of unknown n does not fluctuate.
    """
    assert fake.n is not None, "samples are counted"
    per_real = 0.0 if real.n is None else 1 / real.n
    of_gap = fake.covariance / fake.n + real.covariance * per_real
    weight = 1.0 if real.n is None else fake.n / (fake.n + real.n)
    pooled = fake.covariance * weight + real.covariance * (1 - weight)
    w = np.clip(scipy.linalg.eigvalsh(pooled, check_finite=False), 0.0, None)
    w = w[w > _NO_VARIANCE * w[-1]]
    nu = 1 / fake.n + per_real
    pairs = w[:, None] * w / (w[:, None] + w)
    off_diagonal = float(np.square(pairs).sum() - np.square(np.diag(pairs)).sum())
    return float(
        2 * np.square(of_gap).sum() + nu**2 * (off_diagonal + float(np.square(w).sum()) / 2)
    )


def _product_spectrum(
    fake: Float64[np.ndarray, "d d"], real: Float64[np.ndarray, "d d"]
) -> Float64[np.ndarray, " kept"]:
    """Return the eigenvalues of fake @ real that are not 0, in increasing order."""
    root = _root(real)
    values = scipy.linalg.eigvalsh(root.T @ fake @ root, check_finite=False)
    return values[values > _NO_PRODUCT * max(values[-1], 0.0)] if len(values) else values


def _root(covariance: Float64[np.ndarray, "d d"]) -> Float64[np.ndarray, "d kept"]:
    """Return a factor L with L L' the covariance, without the directions that do not vary."""
    try:
        lower = scipy.linalg.cholesky(covariance, lower=True, check_finite=False)
        if np.square(np.diag(lower)).min() > _NO_VARIANCE * np.diag(covariance).max():
            return lower
    except scipy.linalg.LinAlgError:
        pass
    values, vectors = scipy.linalg.eigh(covariance, check_finite=False)
    varying = values > _NO_VARIANCE * max(values[-1], 0.0)
    factor: np.ndarray = vectors[:, varying] * np.sqrt(values[varying])
    return factor
