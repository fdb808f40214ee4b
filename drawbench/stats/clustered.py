"""Means of votes, and how sure one can be of them when raters and prompts repeat.

Votes of one rater resemble each other, and so do votes on one prompt. The variance of a mean is
therefore taken over both at once (Cameron, Gelbach and Miller 2011, equation 2.11):

    V = V_raters + V_prompts - V_cells,    at least V_cells

where a cell is what one rater said of one prompt. Categories are strata: they are fixed, chosen by
the suite and not drawn, so each vote is compared with the mean of its category, the terms are
summed over categories, and the floor is applied once, to the sums. Flooring each category by
itself would widen the interval of the whole.

Nothing here knows of models or of tables; it works on arrays, one element per vote.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evalkit.core.intervals import check_level, t_interval, wilson_interval
from evalkit.core.results import Interval

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]
Pooling = Literal["votes", "categories"]

LEVEL = 0.95
MIN_CLUSTERS = 2
METHOD_BOTH = "two-way cluster-robust over raters and prompts, t reference"
METHOD_ONE = "cluster-robust over {}, t reference"
METHOD_UNANIMOUS = "Wilson on the number of {} (the votes do not vary)"


@dataclass(frozen=True)
class Layout:
    """Who voted on what: cluster numbers per vote, each counted from 0 without gaps."""

    rater: Codes
    prompt: Codes
    category: Codes
    cell: Codes
    """Number of the (rater, prompt) combination."""

    @property
    def num_raters(self) -> int:
        """Raters with a vote."""
        return _count(self.rater)

    @property
    def num_prompts(self) -> int:
        """Prompts with a vote."""
        return _count(self.prompt)

    @property
    def num_categories(self) -> int:
        """Categories with a vote."""
        return _count(self.category)

    def subset(self, keep: NDArray[np.bool_]) -> Layout:
        """The layout of some of the votes."""
        return make_layout(self.rater[keep], self.prompt[keep], self.category[keep])

    @cached_property
    def sampled(self) -> tuple[str, ...]:
        """Which of `rater` and `prompt` there are at least two of."""
        clusters = {"rater": self.num_raters, "prompt": self.num_prompts}
        return tuple(name for name, count in clusters.items() if count >= MIN_CLUSTERS)

    @cached_property
    def strata(self) -> Codes:
        """Categories, too small ones merged with the smallest other until each has two clusters.

        A category of one prompt says nothing about how prompts vary; merging it with another is
        what survey statistics calls collapsing strata, and errs towards a wider interval.
        """
        strata = self.category.copy()
        while True:
            sizes = [_distinct_per(strata, getattr(self, name)) for name in self.sampled]
            smallest = np.min(sizes, axis=0) if sizes else np.array([])
            lone = np.flatnonzero(smallest < MIN_CLUSTERS)
            if len(smallest) < MIN_CLUSTERS or not lone.size:
                return strata
            others = np.delete(np.arange(len(smallest)), lone[0])
            target = others[np.argmin(smallest[others])]
            strata = _codes(np.where(strata == lone[0], target, strata))

    @cached_property
    def corrections(self) -> dict[str, Floats]:
        """Per vote and kind of cluster, the root of G / (G - 1), G the clusters of its stratum."""
        out = {}
        for name in (*self.sampled, "cell"):
            counts = _distinct_per(self.strata, getattr(self, name))
            out[name] = np.sqrt(counts / np.maximum(counts - 1, 1))[self.strata]
        return out


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share or a rate with its interval, and what that interval speaks of."""

    value: float
    """In [0, 1]."""
    standard_error: float | None
    degrees_of_freedom: int | None
    interval: Interval | None
    """None where nothing can be said; then `reason` says why."""
    generalises_to: tuple[str, ...]
    """What was sampled: the interval speaks of further `raters`, further `prompts`, or both."""
    reason: str = ""
    p_value: float | None = None
    """Two-sided, for the hypothesis that the value is 1/2."""


def make_layout(
    rater: NDArray[np.generic], prompt: NDArray[np.generic], category: NDArray[np.generic]
) -> Layout:
    """Number raters, prompts, categories and cells."""
    raters, prompts = _codes(rater), _codes(prompt)
    num_prompts = _count(prompts)
    return Layout(raters, prompts, _codes(category), _codes(raters * num_prompts + prompts))


def estimate_mean(
    numerator: Floats,
    denominator: Floats,
    layout: Layout,
    *,
    pooling: Pooling = "votes",
    level: float = LEVEL,
) -> Estimate:
    """Estimate `sum(numerator) / sum(denominator)` with a two-way cluster-robust interval.

    With one rater the interval speaks of prompts only, with one prompt of raters only; with one of
    each there is none. Where no two votes differ the variance is zero, which would be an interval
    of no width; there Wilson's interval stands in, on the smaller number of clusters.

    Args:
        numerator: Per vote, what is counted: 1 for a win, 1/2 for half a win.
        denominator: Per vote, what it is counted against: 1, or 0 for a vote that is left out.
        layout: Whose vote on what.
        pooling: "votes" weighs votes alike, "categories" is the unweighted mean of the categories.
        level: Of the interval.

    Returns:
        The mean and its interval, both in [0, 1].

    Raises:
        ConfigError: A level outside (0, 1).

    >>> votes = np.array([1.0, 1.0, 0.0, 1.0])
    >>> layout = make_layout(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.zeros(4))
    >>> estimate_mean(votes, np.ones(4), layout).value
    0.75
    """
    check_level(level)
    counted = denominator > 0
    if not counted.any():
        raise ValueError("no vote is counted")
    sample = layout if counted.all() else layout.subset(counted)
    y, d = numerator[counted], denominator[counted]
    value, influence = linearise(y, d, sample, pooling=pooling)
    if not sample.sampled:
        reason = "no interval: one rater and one prompt, so nothing was sampled"
        return Estimate(
            value=value,
            standard_error=None,
            degrees_of_freedom=None,
            interval=None,
            generalises_to=(),
            reason=reason,
        )
    variance = clustered_variance(influence, sample)
    num_clusters = min(_count(getattr(sample, name)) for name in sample.sampled)
    return _with_interval(value, variance, num_clusters, _plural(sample.sampled), level)


def linearise(
    numerator: Floats, denominator: Floats, layout: Layout, *, pooling: Pooling
) -> tuple[float, Floats]:
    """The mean, and what each vote adds to its deviation from the truth.

    Within a stratum the contributions sum to zero: categories are fixed, so differences between
    them are no part of the uncertainty.
    """
    strata = layout.strata
    if pooling == "votes":
        total = denominator.sum()
        value = numerator.sum() / total
        influence = (numerator - value * denominator) / total
        return float(value), centre(influence, layout)
    num = np.bincount(layout.category, numerator)
    den = np.bincount(layout.category, denominator)
    means = num / den
    first_vote = np.unique(layout.category, return_index=True)[1]
    stratum_means = _means(means, strata[first_vote])
    influence = numerator - stratum_means[strata] * denominator
    return float(means.mean()), influence / (len(means) * den[layout.category])


def centre(influence: Floats, layout: Layout) -> Floats:
    """Contributions as deviations from the mean of their stratum."""
    centred: Floats = influence - _means(influence, layout.strata)[layout.strata]
    return centred


def clustered_variance(influence: Floats, layout: Layout) -> float:
    """Variance of a sum of contributions that resemble each other within raters and within prompts.

    Each term is corrected for its number of clusters by G / (G - 1) within each stratum.
    """
    cells = _term(influence, layout, "cell")
    terms = [_term(influence, layout, name) for name in layout.sampled]
    if len(terms) == 1:
        return terms[0]
    return max(sum(terms) - cells, cells)


def _with_interval(
    value: float, variance: float, num_clusters: int, sampled: tuple[str, ...], level: float
) -> Estimate:
    from scipy.special import stdtr

    df = num_clusters - 1
    if variance <= np.finfo(float).eps ** 2:
        low, high = wilson_interval(value, num_clusters, level=level)
        method = METHOD_UNANIMOUS.format(" or ".join(sampled))
        p_value = 1.0 if value == 0.5 else float(2 * 0.5**num_clusters)
        interval = Interval(low=low, high=high, level=level, method=method)
        return Estimate(
            value=value,
            standard_error=0.0,
            degrees_of_freedom=df,
            interval=interval,
            generalises_to=sampled,
            p_value=p_value,
        )
    error = float(np.sqrt(variance))
    low, high = t_interval(value, error, df, level=level)
    method = METHOD_BOTH if len(sampled) > 1 else METHOD_ONE.format(sampled[0])
    interval = Interval(low=max(0.0, low), high=min(1.0, high), level=level, method=method)
    p_value = float(2 * stdtr(df, -abs(value - 0.5) / error))
    return Estimate(
        value=value,
        standard_error=error,
        degrees_of_freedom=df,
        interval=interval,
        generalises_to=sampled,
        p_value=p_value,
    )


def _plural(sampled: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}s" for name in sampled)


def _distinct_per(strata: Codes, clusters: Codes) -> Codes:
    pairs = np.unique(strata * _count(clusters) + clusters)
    counts: Codes = np.bincount(pairs // _count(clusters))
    return counts


def _term(influence: Floats, layout: Layout, name: str) -> float:
    """Sum of squared cluster totals. A rater who votes in several strata is one cluster."""
    totals = np.bincount(getattr(layout, name), influence * layout.corrections[name])
    return float(totals @ totals)


def _means(values: Floats, groups: Codes) -> Floats:
    means: Floats = np.bincount(groups, values) / np.bincount(groups)
    return means


def _codes(labels: NDArray[np.generic]) -> Codes:
    codes: Codes = np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.intp)
    return codes


def _count(codes: Codes) -> int:
    return int(codes.max()) + 1 if codes.size else 0
