"""The difference of two rates observed on the same captions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.stats import binom

from evalkit.core.errors import DataError
from evalkit.core.intervals import paired_rates_interval


@dataclass(frozen=True, kw_only=True)
class PairedRates:
    """The first rate minus the second."""

    value: float
    """Difference of the observed rates, in -1 to 1."""
    low: float
    high: float
    level: float
    p_value: float
    """Two-sided p-value of no difference."""
    only_first: int
    """Pairs in which only the first was right; the test uses only this and `only_second`."""
    only_second: int
    method: str = "Bonett & Price interval of paired rates; p by McNemar's mid-p test"


def paired_rate_difference(
    first: Bool[np.ndarray, " pairs"], second: Bool[np.ndarray, " as_many"], *, level: float = 0.95
) -> PairedRates:
    """Compute the difference of two rates over the same pairs, with interval and p-value.

    The interval is Bonett & Price's (2012): Wald's with one pair added to each kind of
    disagreement, so that it always has a width; the test is McNemar's with mid-p values.
    Fagerland, Lydersen & Laake (2014) recommend both.

    Args:
        first: Whether the first was right, pair by pair.
        second: The same for the second.
        level: Level of the interval.

    Raises:
        DataError: No pairs, or lengths that differ.
        ConfigError: A level outside (0, 1).

    >>> found = paired_rate_difference(np.arange(21) < 2, (np.arange(21) > 0) & (np.arange(21) < 9))
    >>> found.only_first, found.only_second, round(found.low, 3), round(found.high, 3)
    (1, 7, -0.508, -0.013)
    >>> round(found.p_value, 4)
    0.0391
    """
    n = len(first)
    if n == 0 or n != len(second):
        raise DataError(f"Paired rates need two equally long sequences, got {n} and {len(second)}.")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    low, high = paired_rates_interval(only_first, only_second, n, level=level)
    return PairedRates(
        value=(only_first - only_second) / n,
        low=low,
        high=high,
        level=level,
        p_value=_mid_p(only_first, only_second),
        only_first=only_first,
        only_second=only_second,
    )


def _mid_p(only_first: int, only_second: int) -> float:
    """Compute McNemar's mid-p value; 1 where the two never disagree."""
    disagreeing, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    tail = binom.cdf(fewer, disagreeing, 0.5) - 0.5 * binom.pmf(fewer, disagreeing, 0.5)
    return float(2 * tail)
