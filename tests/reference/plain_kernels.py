"""KID, CMMD and neighbourhood scores by loops over pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def mmd_unbiased(
    x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    """The U-statistic of the squared MMD."""
    n, m = len(x), len(y)
    own_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    own_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    cross = sum(kernel(a, b) for a in x for b in y)
    return own_x / (n * (n - 1)) + own_y / (m * (m - 1)) - 2 * cross / (n * m)


def mmd_biased(
    x: np.ndarray, y: np.ndarray, kernel: Callable[[np.ndarray, np.ndarray], float]
) -> float:
    """The V-statistic of the squared MMD."""
    own_x = np.mean([kernel(a, b) for a in x for b in x])
    own_y = np.mean([kernel(a, b) for a in y for b in y])
    cross = np.mean([kernel(a, b) for a in x for b in y])
    return float(own_x + own_y - 2 * cross)


def cubic(a: np.ndarray, b: np.ndarray) -> float:
    """KID's kernel."""
    return float((a @ b / len(a) + 1) ** 3)


def gaussian(a: np.ndarray, b: np.ndarray) -> float:
    """CMMD's kernel, of vectors of length 1."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return float(np.exp(-((a - b) ** 2).sum() / 200))
