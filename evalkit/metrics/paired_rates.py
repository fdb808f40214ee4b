"""The difference of two shares observed on the same captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped
from scipy.special import stdtr
from scipy.stats import binom

from evalkit.core.errors import DataError
from evalkit.core.intervals import check_level, paired_rates_interval, t_interval
from evalkit.metrics.clusters import Clusters, clustered_variance


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


@dataclass(frozen=True, kw_only=True)
class PairedShares:
    """The first share minus the second, of captions whose images may be several."""

    value: float
    """In -1 to 1."""
    low: float
    high: float
    level: float
    p_value: float
    """Two-sided p-value of no difference."""
    method: str


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


def paired_share_difference(
    first: Shaped[np.ndarray, " captions"],
    second: Shaped[np.ndarray, " captions"],
    asked: Shaped[np.ndarray, " captions"] | None = None,
    *,
    ids: Sequence[str] | None = None,
    level: float = 0.95,
) -> PairedShares:
    """Compute the difference of two shares over the same captions.

    Shares of 0 and 1 of single draws are paired rates. In general it is Wald's interval over draws
    with, as Bonett & Price have it, one further draw that differs in either's favour, so that it
    has a width where the two never differ.

    Args:
        first: Units found by the first, by caption: 0 or 1, the mean of several images, a count.
        second: The same of the second.
        asked: Units of each caption, not all 0; by default 1.
        ids: One id per caption; captions with the same id (of one image) are one draw.
        level: Level of the interval.

    Raises:
        DataError: No captions, or lengths that differ.
        ConfigError: A level outside (0, 1).

    >>> found = paired_share_difference(np.array([0.5, 1.0, 0.5]), np.array([0.5, 1.0, 0.5]))
    >>> found.value, round(found.high, 2), found.p_value
    (0.0, 1.0, 1.0)
    """
    check_level(level)
    if len(first) == 0 or len(first) != len(second):
        raise DataError(
            f"Paired shares need two equally long sequences, got {len(first)} and {len(second)}."
        )
    clusters = Clusters.of(len(first), 0, ids)
    binary = all(np.isin(values, (0, 1)).all() for values in (first, second))
    if asked is None and binary and clusters.num == len(first):
        rates = paired_rate_difference(first.astype(bool), second.astype(bool), level=level)
        return PairedShares(
            value=rates.value, low=rates.low, high=rates.high, level=level,
            p_value=rates.p_value, method=rates.method,
        )  # fmt: skip
    units = np.ones(len(first)) if asked is None else asked.astype(np.float64)
    gains = first.astype(np.float64) - second.astype(np.float64)
    value = float(gains.sum() / units.sum())
    draws, added = clusters.num, 2 / (clusters.num + 2) ** 2
    spread = (gains - value * units) / units.sum()
    variance = (clustered_variance(clusters, spread, None) if draws > 1 else 0.0) + added
    error, degrees = float(np.sqrt(variance)), max(draws - 1, 1)
    low, high = t_interval(value, error, degrees, level=level)
    return PairedShares(
        value=value,
        low=max(low, -1.0),
        high=min(high, 1.0),
        level=level,
        p_value=float(2 * stdtr(degrees, -abs(value) / error)),
        method=f"t interval over {draws:,} draws, with one more that differs each way",
    )


def _mid_p(only_first: int, only_second: int) -> float:
    """Compute McNemar's mid-p value; 1 where the two never disagree."""
    disagreeing, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    tail = binom.cdf(fewer, disagreeing, 0.5) - 0.5 * binom.pmf(fewer, disagreeing, 0.5)
    return float(2 * tail)
