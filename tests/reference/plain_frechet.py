"""The Fréchet distance and its influence, written as slowly and plainly as possible."""

from __future__ import annotations

import numpy as np
import scipy.linalg


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """By the general matrix square root."""
    return frechet_of_gaussians(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))


def frechet_of_gaussians(m: np.ndarray, s: np.ndarray, m_r: np.ndarray, r: np.ndarray) -> float:
    """By the general matrix square root."""
    root = scipy.linalg.sqrtm(s @ r).real
    return float((m - m_r) @ (m - m_r) + np.trace(s) + np.trace(r) - 2 * np.trace(root))


def frechet_low_rank(x: np.ndarray, y: np.ndarray) -> float:
    """With centred data as factors, exact where the covariances are singular."""
    a = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    b = (y - y.mean(0)) / np.sqrt(len(y) - 1)
    gap = x.mean(0) - y.mean(0)
    nuclear = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * nuclear)


def influence_by_difference(x: np.ndarray, y: np.ndarray, index: int, step: float = 1e-5) -> float:
    """Derivative of the distance when image `index` gets a little more weight."""

    def weighted(weights: np.ndarray) -> float:
        mean = weights @ x
        centred = x - mean
        covariance = (centred * weights[:, None]).T @ centred
        return frechet_of_gaussians(mean, covariance, y.mean(0), np.cov(y.T, ddof=0))

    even = np.full(len(x), 1 / len(x))
    bump = -even
    bump[index] += 1
    up, down = weighted(even + step * bump), weighted(even - step * bump)
    return (up - down) / (2 * step)
