"""Means of votes with intervals that account for repeated raters and prompts.

Votes of one rater are correlated, and so are votes on one prompt. The variance of a mean is
therefore computed over both at once (Cameron, Gelbach and Miller 2011, equation 2.11):

    V = V_raters + V_prompts - V_cells,    at least V_cells

where a cell is the votes of one rater on one prompt. Categories are strata: they are fixed, chosen
by the suite rather than drawn, so each vote is compared with the mean of its category, the terms
are summed over categories, and the floor is applied once, to the sums. A floor per category would
widen the overall interval.

Few votes differ from the rest where a model wins nearly always, and V is then too small, or 0. So
the interval is Wilson's at the effective number of votes (`drawbench.stats.effective`), which V
decides where there is enough to estimate it from. p-values are those of the same interval.

Functions take arrays with one element per vote; they know nothing of models and tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drawbench.stats.effective import (
    MIN_CLUSTERS,
    Effective,
    Floats,
    Variances,
    Weighting,
    effective_votes,
)
from evalkit.core.intervals import check_level, wilson_t_interval
from evalkit.core.results import Interval

Codes = NDArray[np.intp]
Pooling = Literal["votes", "categories"]

LEVEL = 0.95
CLUSTERS = ("rater", "prompt")
METHOD = "Wilson at the effective number of votes, cluster-robust over {}, t reference"


@dataclass(frozen=True)
class Layout:
    """Cluster indices per vote, each counted from 0 without gaps."""

    rater: Codes
    prompt: Codes
    category: Codes
    cell: Codes
    """Index of the (rater, prompt) combination."""

    @property
    def num_raters(self) -> int:
        """Number of raters with a vote."""
        return _count(self.rater)

    @property
    def num_prompts(self) -> int:
        """Number of prompts with a vote."""
        return _count(self.prompt)

    @property
    def num_categories(self) -> int:
        """Number of categories with a vote."""
        return _count(self.category)

    def subset(self, keep: NDArray[np.bool_]) -> Layout:
        """Return the layout of some of the votes."""
        return make_layout(self.rater[keep], self.prompt[keep], self.category[keep])

    @cached_property
    def sampled(self) -> tuple[str, ...]:
        """The kinds of cluster, `rater` and `prompt`, with at least two members."""
        clusters = {"rater": self.num_raters, "prompt": self.num_prompts}
        return tuple(name for name, count in clusters.items() if count >= MIN_CLUSTERS)

    @cached_property
    def strata(self) -> Codes:
        """Categories; small ones are merged with the smallest other until each has two clusters.

        The variance between prompts can't be estimated from one prompt; merging such a category,
        known as collapsing strata in survey statistics, errs toward a wider interval.
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
        """Per vote and kind of cluster, the root of G / (G - 1) with G clusters in its stratum."""
        out = {}
        for name in (*self.sampled, "cell"):
            counts = _distinct_per(self.strata, getattr(self, name))
            out[name] = np.sqrt(counts / np.maximum(counts - 1, 1))[self.strata]
        return out


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A share or rate with its interval, and the population of that interval."""

    value: float
    """In [0, 1]."""
    standard_error: float | None
    """Root of the clustered variance; 0 if no vote differs, which the interval does not rely on."""
    degrees_of_freedom: float | None
    interval: Interval | None
    """None if there is no interval; `reason` says why."""
    generalises_to: tuple[str, ...]
    """The interval generalises over `raters`, `prompts` or both."""
    reason: str = ""
    p_value: float | None = None
    """Two-sided, for the hypothesis that the value is 1/2; below 1 - level where the interval
    excludes 1/2, and only there."""
    effective_votes: float | None = None
    """Number of independent votes that would know the value as well."""


def make_layout(
    rater: NDArray[np.generic], prompt: NDArray[np.generic], category: NDArray[np.generic]
) -> Layout:
    """Encode raters, prompts, categories and cells as integers."""
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
    """Estimate `sum(numerator) / sum(denominator)` with an interval over raters and prompts.

    With one rater the interval covers prompts only, with one prompt raters only; with one of each
    there is none. It is continuous in the votes, and has a width also where all votes are equal.

    Args:
        numerator: Per vote: 1 for a win, 1/2 for half a win.
        denominator: Per vote: 1, or 0 for a vote that is left out.
        layout: Rater, prompt and category of each vote.
        pooling: "votes" weights votes equally, "categories" is the unweighted mean of the
            categories.
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
    weights = vote_weights(d, sample, pooling=pooling)
    found = variances(influence, weights, y, sample)
    effective = effective_votes(value, found, weighting(weights, sample))
    variance = clustered_variance(influence, sample)
    return _with_interval(value, variance, effective, _plural(sample.sampled), level)


def linearise(
    numerator: Floats, denominator: Floats, layout: Layout, *, pooling: Pooling
) -> tuple[float, Floats]:
    """Return the mean, and each vote's contribution to its error.

    Within a stratum the contributions sum to zero: categories are fixed, so differences between
    them are not part of the uncertainty.
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
    """Centre contributions within their stratum."""
    centred: Floats = influence - _means(influence, layout.strata)[layout.strata]
    return centred


def vote_weights(denominator: Floats, layout: Layout, *, pooling: Pooling) -> Floats:
    """Return the weight of each vote in the mean; they sum to 1."""
    if pooling == "votes":
        shares: Floats = denominator / denominator.sum()
        return shares
    of_category = np.bincount(layout.category, denominator)
    weights: Floats = denominator / of_category[layout.category] / len(of_category)
    return weights


def variances(influence: Floats, weights: Floats, scores: Floats, layout: Layout) -> Variances:
    """Compute the variance terms of a mean from its votes' contributions and weights.

    Each term is corrected for its number of clusters by G / (G - 1) within each stratum.
    """
    return Variances(
        cell=_term(influence, layout, "cell"),
        clusters={name: _term(influence, layout, name) for name in layout.sampled},
        vote=float((influence**2 / weights).sum()),
        varied=_variety(weights, scores, layout.strata),
        extremity=float(weights @ np.abs(2 * scores - 1)),
    )


def _variety(weights: Floats, scores: Floats, strata: Codes) -> float:
    """Return the weight of votes that differ from the others of their stratum.

    The mean distance from c, over max(c, 1 - c), is smallest at an observed score, 0, 1/2 or 1.
    """
    smallest = np.full(_count(strata), np.inf)
    for c in {0.0, 0.5, 1.0, *scores.tolist()}:
        distances = np.bincount(strata, weights * np.abs(scores - c)) / max(c, 1 - c)
        smallest = np.minimum(smallest, distances)
    return float(smallest.sum())


def weighting(weights: Floats, layout: Layout) -> Weighting:
    """Compute the concentration of weights over cells and clusters."""
    per_stratum = [_distinct_per(layout.strata, getattr(layout, name)) for name in CLUSTERS]
    combinations = int((per_stratum[0] * per_stratum[1]).sum())
    return Weighting(
        cell=_squares(weights, layout.cell),
        clusters={name: _squares(weights, getattr(layout, name)) for name in layout.sampled},
        filled=len(np.unique(layout.cell)) / combinations,
    )


def clustered_variance(influence: Floats, layout: Layout) -> float:
    """Compute the variance of a sum of contributions correlated within raters and prompts."""
    cells = _term(influence, layout, "cell")
    terms = [_term(influence, layout, name) for name in layout.sampled]
    return terms[0] if len(terms) == 1 else max(sum(terms) - cells, cells)


def clustered_covariance(influence: Floats, layout: Layout) -> Floats:
    """Compute the covariance of several sums, from contributions of shape (votes, sums).

    Unlike `clustered_variance` it has no floor, and as an estimate it can have negative
    eigenvalues.
    """

    def outer(name: str) -> Floats:
        corrected = influence * layout.corrections[name][:, None]
        clusters = getattr(layout, name)
        totals = np.stack(
            [np.bincount(clusters, column).astype(np.float64) for column in corrected.T], axis=1
        )
        products: Floats = totals.T @ totals
        return products

    terms = [outer(name) for name in layout.sampled]
    total: Floats = np.sum(terms, axis=0)
    return total if len(terms) == 1 else total - outer("cell")


def _with_interval(
    value: float, variance: float, effective: Effective, sampled: tuple[str, ...], level: float
) -> Estimate:
    from scipy.special import stdtr

    votes, df = float(effective.votes), float(effective.degrees_of_freedom)
    low, high = wilson_t_interval(value, votes, df, level=level)
    interval = Interval(
        low=low, high=high, level=level, method=METHOD.format(" and ".join(sampled))
    )
    return Estimate(
        value=value,
        standard_error=float(np.sqrt(variance)),
        degrees_of_freedom=df,
        interval=interval,
        generalises_to=sampled,
        p_value=float(2 * stdtr(df, -abs(2 * value - 1) * np.sqrt(votes))),
        effective_votes=votes,
    )


def _plural(sampled: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}s" for name in sampled)


def _distinct_per(strata: Codes, clusters: Codes) -> Codes:
    pairs = np.unique(strata * _count(clusters) + clusters)
    counts: Codes = np.bincount(pairs // _count(clusters))
    return counts


def _term(influence: Floats, layout: Layout, name: str) -> float:
    """Sum squared cluster totals. A rater who votes in several strata is one cluster."""
    totals = np.bincount(getattr(layout, name), influence * layout.corrections[name])
    return float(totals @ totals)


def _squares(weights: Floats, clusters: Codes) -> float:
    totals = np.bincount(clusters, weights)
    return float(totals @ totals)


def _means(values: Floats, groups: Codes) -> Floats:
    means: Floats = np.bincount(groups, values) / np.bincount(groups)
    return means


def _codes(labels: NDArray[np.generic]) -> Codes:
    codes: Codes = np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.intp)
    return codes


def _count(codes: Codes) -> int:
    return int(codes.max()) + 1 if codes.size else 0
