"""Planning: the difference that a study can detect, and the cost of interim looks.

The variance of a win rate over raters and prompts, for votes whose scores (1, 1/2, 0) correlate by
rho_r within a rater and rho_p within a prompt, each rater rating all P prompts of one category of
R raters:

    V = sigma^2 ( rho_r / R  +  rho_p / P  +  (1 - rho_r - rho_p) / (R P) )

summed over categories with the squares of their weights. More raters shrink only the first and the
last term: if prompts differ, the number of prompts limits a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

from drawbench.errors import StudyError
from drawbench.stats.clustered import LEVEL, make_layout
from drawbench.stats.effective import Floats
from drawbench.stats.preference import CLUSTER_COLUMNS, answer_scores, win_terms
from drawbench.votes import orient_pairs
from evalkit.core.intervals import normal_quantile, t_quantile

Boundary = Literal["none", "pocock", "obrien-fleming"]

POWER = 0.8
NODES = 160  # of the quadrature over one look; false-positive rates are then right to five digits
MAX_RATERS = 10_000


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """The layout of a planned study, and the expected variance of its votes."""

    category_sizes: tuple[int, ...]
    """Numbers of prompts by category. With one entry, raters rate every prompt."""
    raters_per_category: int
    rater_correlation: float = 0.05
    """Correlation of the scores of two votes of one rater, in [0, 1]."""
    prompt_correlation: float = 0.1
    """Correlation of the scores of two votes on one prompt, in [0, 1]."""
    tie_share: float = 0.2
    """Share of answers "indifferent", in [0, 1)."""

    def __post_init__(self) -> None:
        if not self.category_sizes or min(self.category_sizes) < 1:
            raise StudyError(
                f"category sizes {self.category_sizes}: expected at least one prompt in each."
            )
        if self.raters_per_category < 2:
            raise StudyError(f"{self.raters_per_category} rater per category, expected at least 2.")
        rho = (self.rater_correlation, self.prompt_correlation)
        if min(rho) < 0 or sum(rho) > 1:
            raise StudyError(
                f"correlations {rho}: expected 0 or more each, and a sum of at most 1."
            )
        if not 0 <= self.tie_share < 1:
            raise StudyError(f"tie share {self.tie_share}: expected a share in [0, 1).")
        if min(self.num_clusters) < 2:
            raise StudyError(
                "one prompt: results would not generalise to other prompts. Add prompts."
            )

    @property
    def num_clusters(self) -> tuple[int, int]:
        """Total raters and prompts."""
        raters = self.raters_per_category * len(self.category_sizes)
        return raters, sum(self.category_sizes)

    @property
    def num_votes(self) -> int:
        """Votes on one question."""
        return self.raters_per_category * sum(self.category_sizes)

    @property
    def degrees_of_freedom(self) -> int:
        """Degrees of freedom of the t reference."""
        return min(self.num_clusters) - 1

    def standard_error(
        self, win_rate: float = 0.5, *, raters_per_category: float | None = None
    ) -> float:
        """Return the standard error of the pooled win rate, possibly with fewer raters."""
        raters = raters_per_category or self.raters_per_category
        prompts = np.array(self.category_sizes, dtype=float)
        weights = prompts / prompts.sum()
        rest = 1 - self.rater_correlation - self.prompt_correlation
        shape = (
            self.rater_correlation / raters
            + self.prompt_correlation / prompts
            + rest / (raters * prompts)
        )
        return float(np.sqrt(self.vote_variance(win_rate) * (weights**2 @ shape)))

    def estimated_share(self, raters_per_category: float) -> float:
        """Return the share of the true standard error that the analysis is expected to estimate.

        V_raters + V_prompts - V_cells also subtracts the rater and prompt variance in a cell, so
        it misses 1 / R of the prompts' part and 1 / P of the raters' part.
        """
        prompts = np.array(self.category_sizes, dtype=float)
        of_raters = self.rater_correlation / raters_per_category
        of_prompts = self.prompt_correlation / prompts
        rest = (1 - self.rater_correlation - self.prompt_correlation) / (
            raters_per_category * prompts
        )
        missed = of_raters * (1 - 1 / raters_per_category) / prompts
        missed = missed + of_prompts * (1 - 1 / prompts) / raters_per_category
        weights = prompts**2
        true = weights @ (of_raters + of_prompts + rest)
        return float(np.sqrt(1 - weights @ missed / true))

    def vote_variance(self, win_rate: float = 0.5) -> float:
        """Return the variance of one score; ties, worth 1/2, make it smaller.

        The share of ties is limited by the share of votes that neither side wins.
        """
        ties = min(self.tie_share, 2 * min(win_rate, 1 - win_rate))
        return win_rate * (1 - win_rate) - ties / 4

    def half_width(self, *, level: float = LEVEL) -> float:
        """Return half the expected width of the interval of a win rate near 1/2."""
        return t_quantile(level, self.degrees_of_freedom) * self.standard_error()

    def power(self, difference: float, *, level: float = LEVEL) -> float:
        """Return the power: how likely the interval excludes 1/2 at 1/2 + `difference`."""
        shift = abs(difference) / self.standard_error(0.5 + abs(difference))
        return _noncentral_power(shift, self.degrees_of_freedom, level)

    def detectable_difference(self, *, power: float = POWER, level: float = LEVEL) -> float | None:
        """Return the smallest difference from 1/2 detected with this power, if any."""
        from scipy.optimize import brentq

        largest = 0.5 - 1e-6
        if self.power(largest, level=level) < power:
            return None
        return float(
            brentq(lambda gap: self.power(gap, level=level) - power, 1e-9, largest, xtol=1e-6)
        )

    def with_raters(self, raters_per_category: int) -> StudyPlan:
        """Return the same study with other numbers of raters."""
        return replace(self, raters_per_category=raters_per_category)


def raters_needed(
    plan: StudyPlan, difference: float, *, power: float = POWER, level: float = LEVEL
) -> int | None:
    """Return the raters per category that detect this difference; None if no number does.

    In that case the prompts differ too much, and only more prompts help.
    """
    if plan.with_raters(MAX_RATERS).power(difference, level=level) < power:
        return None
    low, high = 1, 2
    while plan.with_raters(high).power(difference, level=level) < power:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        enough = plan.with_raters(middle).power(difference, level=level) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def estimate_correlations(votes: pd.DataFrame) -> tuple[float, float, float]:
    """Estimate the correlations within raters and prompts, and the share of ties, of a pilot.

    Method of moments: products of deviations from the category mean, averaged over pairs of votes
    that share a rater (not the prompt), a prompt (not the rater), or only the category.

    Args:
        votes: Votes on one question and one pair of models.

    Returns:
        rho_r, rho_p (each in [0, 1]; a negative estimate is 0) and the share of ties.
    """
    oriented = orient_pairs(votes)
    scores = answer_scores(oriented["answer"].to_numpy(dtype=object))
    score = win_terms(scores, "half")[0]
    layout = make_layout(*(oriented[name].to_numpy(dtype=object) for name in CLUSTER_COLUMNS))
    category = layout.category
    deviation = score - (np.bincount(category, score) / np.bincount(category))[category]
    sums = {
        name: _pair_products(deviation, getattr(layout, name))
        for name in ("rater", "prompt", "cell", "category")
    }
    raters, prompts, cells, all_pairs = (np.array(sums[name]) for name in sums)
    neither = _mean_product(all_pairs - raters - prompts + cells)
    within_rater = _mean_product(raters - cells) - neither
    within_prompt = _mean_product(prompts - cells) - neither
    variance = float((deviation**2).mean()) - neither
    if variance <= 0:
        raise StudyError(
            "The pilot's votes are all equal, so correlations can't be estimated from them."
        )
    rho = [
        min(1.0, max(0.0, float(product / variance))) for product in (within_rater, within_prompt)
    ]
    return rho[0], rho[1], float(scores.tie.mean())


@dataclass(frozen=True, kw_only=True)
class SequentialPlan:
    """The cost of looking at results before the study is complete."""

    boundary: Boundary
    looks: int
    information: tuple[float, ...]
    """Information at each look as a share of the last; at most the share of raters."""
    critical_values: tuple[float, ...]
    """|z| beyond which the study may stop at each look."""
    false_positive_rate: float
    """Probability that equal models are called different."""
    detectable_ratio: float
    """Ratio of the detectable difference to that with one look."""


def plan_looks(
    plan: StudyPlan,
    looks: int,
    *,
    boundary: Boundary = "none",
    level: float = LEVEL,
    power: float = POWER,
) -> SequentialPlan:
    """Plan looks after equal shares of raters; a study stops as soon as |z| passes the boundary.

    "none" uses the ordinary 1.96 at every look, which inflates false positives; Pocock (1977)
    raises it by a constant, O'Brien and Fleming (1979) most at the early looks. Early looks have
    few raters and slightly underestimate their standard error, which is corrected.
    """
    if looks < 1 or looks > plan.raters_per_category:
        raise StudyError(
            f"{looks} looks: expected 1 to {plan.raters_per_category}, the raters per category."
        )
    raters = [plan.raters_per_category * look / looks for look in range(1, looks + 1)]
    errors = np.array([plan.standard_error(raters_per_category=share) for share in raters])
    information = errors[-1] ** 2 / errors**2
    shares = np.array([plan.estimated_share(share) for share in raters])
    critical = critical_values(information, boundary=boundary, level=level, shares=shares)
    rate = crossing_probability(information, critical * shares)
    ratio = _drift_for_power(information, critical * shares, power) / _drift_for_power(
        np.ones(1), critical_values(np.ones(1), level=level), power
    )
    return SequentialPlan(
        boundary=boundary,
        looks=looks,
        information=tuple(map(float, information)),
        critical_values=tuple(map(float, critical)),
        false_positive_rate=rate,
        detectable_ratio=ratio,
    )


def critical_values(
    information: Sequence[float] | Floats,
    *,
    boundary: Boundary = "none",
    level: float = LEVEL,
    shares: Floats | None = None,
) -> Floats:
    """Return |z| at each look such that 1 - `level` of studies of equal models find a difference.

    Args:
        information: At each look, any unit.
        boundary: Its shape; "none" uses the ordinary value at every look.
        level: Of the intervals.
        shares: Expected ratio of estimated to true standard error at each look; None for 1.
    """
    from scipy.optimize import brentq

    times = np.asarray(information, dtype=float)
    shape = np.sqrt(times[-1] / times) if boundary == "obrien-fleming" else np.ones_like(times)
    single = normal_quantile(level)
    if boundary == "none" or len(times) == 1:
        return single * shape
    known = np.ones_like(times) if shares is None else shares
    excess = lambda c: crossing_probability(times, c * shape * known) - (1 - level)  # noqa: E731
    return float(brentq(excess, single / 2, 2 * single + 2, xtol=1e-7)) * shape


def crossing_probability(
    information: Sequence[float] | Floats, critical: Sequence[float] | Floats, *, drift: float = 0.0
) -> float:
    """Compute the probability that |z| passes its critical value at some look.

    The score of a study is a Brownian motion in its information; the density of studies that
    continue is propagated by Gauss-Legendre quadrature (Armitage, McPherson and Rowe 1969).

    Args:
        information: Increasing, any unit.
        critical: |z| at each look.
        drift: Expected z at the last look.

    >>> round(crossing_probability([0.2, 0.4, 0.6, 0.8, 1.0], [1.96] * 5), 3)
    0.142
    """
    from scipy.special import ndtr

    times = np.asarray(information, dtype=float) / float(information[-1])
    bounds = np.asarray(critical, dtype=float) * np.sqrt(times)
    base, base_weights = _quadrature()
    points, mass, before, crossed = np.zeros(1), np.ones(1), 0.0, 0.0
    for time, bound in zip(times, bounds, strict=True):
        step = np.sqrt(time - before)
        mean = points + drift * (time - before)
        outside = ndtr((mean - bound) / step) + ndtr((-mean - bound) / step)
        crossed += float(mass @ outside)
        nodes = bound * base
        kernel = np.exp(-(((nodes[:, None] - mean) / step) ** 2) / 2) / (step * np.sqrt(2 * np.pi))
        points, mass, before = nodes, bound * base_weights * (kernel @ mass), time
    return crossed


def _drift_for_power(information: Floats, critical: Floats, power: float) -> float:
    from scipy.optimize import brentq

    gap = lambda drift: crossing_probability(information, critical, drift=drift) - power  # noqa: E731
    return float(brentq(gap, 0.0, 20.0, xtol=1e-6))


def _noncentral_power(shift: float, df: int, level: float) -> float:
    """Compute the probability that |t| passes its critical value.

    It is averaged over the estimate of the standard error here, since scipy's noncentral t is NaN
    for shifts beyond 38.
    """
    from scipy.special import chdtri, ndtr

    nodes, weights = _quadrature()
    errors = np.sqrt(chdtri(df, (1 - nodes) / 2) / df)
    bounds = t_quantile(level, df) * errors
    return float(weights / 2 @ (ndtr(shift - bounds) + ndtr(-shift - bounds)))


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Return nodes on [-1, 1] and their weights, cached because computing them is slow."""
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    return nodes, weights


def _pair_products(values: Floats, groups: np.ndarray) -> tuple[float, float]:
    """Return the sum and number of products of two different votes of one group."""
    totals, squares = np.bincount(groups, values), np.bincount(groups, values**2)
    sizes = np.bincount(groups)
    return float((totals**2 - squares).sum()), float((sizes * (sizes - 1)).sum())


def _mean_product(sum_and_count: np.ndarray) -> float:
    total, count = sum_and_count
    return float(total / count) if count > 0 else 0.0
