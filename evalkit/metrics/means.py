"""Intervals for means of per-image numbers; images with the same id are one draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evalkit.core.intervals import check_level, t_interval
from evalkit.core.results import Interval
from evalkit.metrics.clusters import Clusters, clustered_variance


@dataclass(frozen=True, kw_only=True)
class MeanInterval:
    """A mean, its standard error, and a t interval."""

    value: float
    standard_error: float | None
    """None for a single draw."""
    low: float | None
    high: float | None
    level: float
    num_draws: int
    """Independent draws: images, or ids where several images share one."""
    method: str

    @property
    def interval(self) -> Interval | None:
        """The interval for a record; None for a single draw, which has no spread."""
        if self.low is None or self.high is None:
            return None
        return Interval(low=self.low, high=self.high, level=self.level, method=self.method)


def mean_interval(
    values: Float64[np.ndarray, " n"],
    *,
    ids: Sequence[str] | None = None,
    level: float = 0.95,
) -> MeanInterval:
    """Compute the mean of the values with a t interval; values of one id are one draw.

    Raises:
        ConfigError: A level outside (0, 1).

    >>> found = mean_interval(np.array([1.0, 2.0, 3.0]))
    >>> round(found.value, 3), round(found.standard_error, 3), round(found.high, 3)
    (2.0, 0.577, 4.484)
    >>> mean_interval(np.array([1.0, 1.0, 3.0, 3.0]), ids=["a", "a", "b", "b"]).num_draws
    2
    """
    check_level(level)
    clusters = Clusters.of(len(values), 0, ids)
    mean = float(values.mean())
    clustered = clusters.num < len(values)
    method = "t interval" + (f", {clusters.num} ids as draws" if clustered else "")
    if clusters.num < 2:
        return MeanInterval(
            value=mean,
            standard_error=None,
            low=None,
            high=None,
            level=level,
            num_draws=clusters.num,
            method="no interval: a single draw has no spread",
        )
    error = float(np.sqrt(clustered_variance(clusters, (values - mean) / len(values), None)))
    low, high = t_interval(mean, error, clusters.num - 1, level=level)
    return MeanInterval(
        value=mean,
        standard_error=error,
        low=low,
        high=high,
        level=level,
        num_draws=clusters.num,
        method=method,
    )
