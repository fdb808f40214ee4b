"""Bradley-Terry and Davidson by general maximisation of the likelihood; models are numbered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize

Vote = tuple[int, int, float]
"""First model, second model, and 1, 1/2 or 0 for the first."""


def bradley_terry(votes: Sequence[Vote], num_models: int) -> np.ndarray:
    """Log strengths with mean zero; a tie is half a win each way."""

    def loss(strengths: np.ndarray) -> float:
        total = 0.0
        for first, second, score in votes:
            gap = strengths[first] - strengths[second]
            total += score * np.log1p(np.exp(-gap)) + (1 - score) * np.log1p(np.exp(gap))
        return total

    return _centred(_minimise(loss, num_models))


def davidson(votes: Sequence[Vote], num_models: int) -> tuple[np.ndarray, float]:
    """Log strengths with mean zero, and the tie parameter nu."""

    def loss(parameters: np.ndarray) -> float:
        strengths, nu = parameters[:-1], np.exp(parameters[-1])
        total = 0.0
        for first, second, score in votes:
            p, q = np.exp(strengths[first]), np.exp(strengths[second])
            tie = nu * np.sqrt(p * q)
            total -= np.log({1.0: p, 0.5: tie, 0.0: q}[score] / (p + q + tie))
        return total

    found = _minimise(loss, num_models + 1)
    return _centred(found[:-1]), float(np.exp(found[-1]))


def _minimise(loss, size: int) -> np.ndarray:  # type: ignore[no-untyped-def]
    return minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-8}).x


def _centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean()
