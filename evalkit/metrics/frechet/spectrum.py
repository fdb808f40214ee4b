"""Sums over a population's spectrum, estimated from sample covariances.

The eigenvalues of a sample covariance spread around those of its population, the more the nearer
the dimension d is to the number of images, and so do those of a product of two. Couillet and
Tiomoko (2019, arXiv 1903.03447) invert that spreading for functionals of the eigenvalues of a
product of two covariances, both estimated; Mestre (2008) does so for one. Each level of spreading
is a change of variable in the companion Stieltjes transform, and the functional a contour integral
around all eigenvalues. Here the functional is the sum of the square roots, the cross term of the
Fréchet distance; for Gaussian-like features the result has no bias to first order in d / n.

Symbols: l, the eigenvalues of the product of the sample covariances S R; c, dimensions a degree of
freedom, below 1; z, a point of the contour.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex128, Float64

_NODES = 256
"""On the whole contour; half of them are computed, the other half are their conjugates. The sums
agree with those of ten times as many to 1e-12."""
_HALF_HEIGHT = 2.5
"""Of the contour, in log z; below pi, so that it never meets the negative axis."""


def sum_of_roots(
    eigenvalues: Float64[np.ndarray, " d"], *, freedom_fake: int, freedom_real: int | None
) -> float:
    """Estimate the sum of sqrt(t) over the eigenvalues t of the product of two populations.

    Args:
        eigenvalues: Those of the product of the two sample covariances, all above 0.
        freedom_fake: Degrees of freedom of the samples' covariance, n - 1, above d.
        freedom_real: The same of the reference, above d; None where its covariance is known.

    Returns:
        The sum; at least 0 up to the error of estimation.

    >>> flat = np.ones(4)  # of a billion images, a sample covariance is its population
    >>> round(sum_of_roots(flat, freedom_fake=10**9, freedom_real=10**9), 6)
    4.0
    """
    d = len(eigenvalues)
    c_fake = d / freedom_fake
    c_real = 0.0 if freedom_real is None else d / freedom_real
    z, dz = _contour(eigenvalues, 1 - max(c_fake, c_real))
    mu, mu_slope = _companion(eigenvalues, z, c_fake)
    if freedom_real is None:
        # Mestre's change of variable for the one estimated covariance: u = -1 / mu.
        integrand = _root_along(-1 / mu) * z * mu_slope
        return d * _around(integrand * dz) / c_fake
    u, u_slope = -1 / mu, mu_slope / mu**2
    top = (c_real - c_fake) * u - c_real * z
    top_slope = (c_real - c_fake) * u_slope - c_real
    inner = top / (c_fake * u**2)
    inner_slope = (top_slope * u - 2 * top * u_slope) / (c_fake * u**3)
    integrand = _root_along(-1 / inner) * u * inner_slope
    return d * _around(integrand * dz) / c_real


def _contour(
    eigenvalues: Float64[np.ndarray, " d"], room: float
) -> tuple[Complex128[np.ndarray, " nodes"], Complex128[np.ndarray, " nodes"]]:
    """Return the upper half of an ellipse in log z around the eigenvalues, and its steps dz.

    Below the smallest eigenvalue it leaves room for the poles of the changes of variable, which
    come nearer to 0 as c comes nearer to 1.
    """
    low, high = np.log(0.5 * room * eigenvalues.min()), np.log(1.5 * eigenvalues.max())
    middle, half = (low + high) / 2, (high - low) / 2
    height = min(_HALF_HEIGHT, half)
    angles = (np.arange(_NODES // 2) + 0.5) * (2 * np.pi / _NODES)
    log_z = middle + half * np.cos(angles) + 1j * height * np.sin(angles)
    log_step = (-half * np.sin(angles) + 1j * height * np.cos(angles)) * (2 * np.pi / _NODES)
    z = np.exp(log_z)
    return z, z * log_step


def _companion(
    eigenvalues: Float64[np.ndarray, " d"], z: Complex128[np.ndarray, " nodes"], c: float
) -> tuple[Complex128[np.ndarray, " nodes"], Complex128[np.ndarray, " nodes"]]:
    """Evaluate the companion Stieltjes transform and its slope.

    mu(z) = c mean 1 / (l - z) - (1 - c) / z, over the eigenvalues l.
    """
    total, total_slope = np.zeros_like(z), np.zeros_like(z)
    for value in eigenvalues:  # one at a time: d x nodes would not stay in the cache
        pole = 1 / (value - z)
        total += pole
        total_slope += pole * pole
    share = c / len(eigenvalues)
    return share * total - (1 - c) / z, share * total_slope + (1 - c) / z**2


def _root_along(values: Complex128[np.ndarray, " nodes"]) -> Complex128[np.ndarray, " nodes"]:
    """Take the square root, continuous along the contour, which begins beside the positive axis."""
    angles = np.unwrap(np.angle(values))
    roots: np.ndarray = np.sqrt(np.abs(values)) * np.exp(0.5j * angles)
    return roots


def _around(steps: Complex128[np.ndarray, " nodes"]) -> float:
    """1 / (2 pi i) times the integral around the whole contour, whose lower half is conjugate."""
    return float(steps.sum().imag / np.pi)
