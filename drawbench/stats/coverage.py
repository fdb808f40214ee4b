"""Coverage of intervals, measured on repeated simulations of studies.

Perceived leads are those of `drawbench.simulation.raters`, drawn for many studies at once. In each
category every rater rates every prompt, so that the variance terms of `drawbench.stats.clustered`
are those of rows and columns of a table; a test shows that both are equal. Everything after them is
the code of the reported intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from drawbench.simulation.raters import DRAWBENCH_RATERS, DRAWBENCH_SIZES, SimulatedPanel
from drawbench.stats.clustered import (
    LEVEL,
    Layout,
    Pooling,
    estimate_mean,
    make_layout,
    vote_weights,
    weighting,
)
from drawbench.stats.effective import Effective, Floats, Variances, Weighting, effective_votes
from evalkit.core.errors import ConfigError
from evalkit.core.intervals import Ends, check_level, wilson_interval, wilson_t_interval

BLOCK = 50
"""Studies that are drawn together."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Coverage over repeated studies."""

    studies: int
    overall: float
    """Share of 95 % intervals of the pooled win rate that contain the true one."""
    category_mean: float
    """The same for the unweighted mean of categories."""
    by_category: Mapping[str, float]
    naive: float
    """Share of Wilson intervals on pooled votes that contain the true overall win rate."""
    naive_by_category: Mapping[str, float]
    """The same within each category."""
    rejected: float
    """Share of studies whose interval excludes 1/2."""
    mean_half_width: float
    true_win_rate: float


def category_layout(
    sizes: Mapping[str, int] = DRAWBENCH_SIZES, raters_per_category: int = DRAWBENCH_RATERS
) -> Layout:
    """Return the paper's layout: a rater rates all prompts of one category; categories by name."""
    rater, prompt, category = [], [], []
    num_prompts = 0
    for index, name in enumerate(sorted(sizes)):
        raters = np.arange(raters_per_category) + index * raters_per_category
        prompts = np.arange(sizes[name]) + num_prompts
        num_prompts += sizes[name]
        rater.append(np.repeat(raters, sizes[name]))
        prompt.append(np.tile(prompts, raters_per_category))
        category.append(np.full(raters_per_category * sizes[name], index))
    return make_layout(*(np.concatenate(parts) for parts in (rater, prompt, category)))


def draw_scores(
    panel: SimulatedPanel, layout: Layout, leads: Floats, rng: np.random.Generator
) -> Floats:
    """Draw the scores (1, 1/2, 0) of one study, with new raters and prompts.

    Args:
        panel: Standard deviations and tie threshold; side bias and inattention are ignored.
        layout: Who rates what.
        leads: True lead of A by category.
        rng: Source of all draws.
    """
    felt = leads[layout.category] + panel.noise * rng.standard_normal(len(layout.rater))
    felt += panel.rater_sd * rng.standard_normal(layout.num_raters)[layout.rater]
    felt += panel.prompt_sd * rng.standard_normal(layout.num_prompts)[layout.prompt]
    scores: Floats = (felt > panel.tie_threshold) / 2 + (felt > -panel.tie_threshold) / 2
    return scores


def draw_tables(
    panel: SimulatedPanel,
    shape: tuple[int, int, int],
    lead: float,
    rng: np.random.Generator,
) -> Floats:
    """Draw the scores of one category in many studies, of the given (studies, raters, prompts).

    Args:
        panel: As for `draw_scores`.
        shape: Studies, raters, prompts.
        lead: True lead of A.
        rng: Source of all draws.
    """
    studies, raters, prompts = shape
    felt = lead + panel.noise * rng.standard_normal(shape)
    felt += panel.rater_sd * rng.standard_normal((studies, raters, 1))
    felt += panel.prompt_sd * rng.standard_normal((studies, 1, prompts))
    scores: Floats = (felt > panel.tie_threshold) / 2 + (felt > -panel.tie_threshold) / 2
    return scores


def measure_coverage(
    panel: SimulatedPanel,
    *,
    studies: int,
    seed: int | Sequence[int],
    sizes: Mapping[str, int] = DRAWBENCH_SIZES,
    raters_per_category: int = DRAWBENCH_RATERS,
    progress: Callable[[int, int], None] | None = None,
) -> Coverage:
    """Repeat a study of the panel's first two models and measure the coverage of its intervals.

    Args:
        panel: Categories may differ by its `category_effects`; no inattention, no side bias.
        studies: Repetitions.
        seed: Of all draws; several numbers make one seed.
        sizes: Prompts by category.
        raters_per_category: Each rates all prompts of a category.
        progress: Called with (studies done, total studies).
    """
    model_a, model_b, *_ = panel.strengths
    names = sorted(sizes)
    leads = [panel.lead(model_a, model_b, category=name) for name in names]
    design = _Design([sizes[name] for name in names], raters_per_category)
    rng = np.random.default_rng(seed)
    blocks = []
    for start in range(0, studies, BLOCK):
        tables = [
            draw_tables(panel, (min(BLOCK, studies - start), raters_per_category, size), lead, rng)
            for size, lead in zip(design.sizes, leads, strict=True)
        ]
        blocks.append([_Mean.of_tables(table) for table in tables])
        if progress:
            progress(min(start + BLOCK, studies), studies)
    categories = [_Mean.joined(parts) for parts in zip(*blocks, strict=True)]
    truths = np.array([true_win_rate(panel, lead) for lead in leads])
    return _summary(design, categories, truths, names)


def merge(parts: Sequence[Coverage]) -> Coverage:
    """Merge the coverage of several runs of one setting, each with its own seed."""
    studies = np.array([part.studies for part in parts])

    def mean(values: Sequence[float]) -> float:
        return float(studies @ np.array(values) / studies.sum())

    def by_name(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
        return {name: mean([table[name] for table in tables]) for name in tables[0]}

    return Coverage(
        studies=int(studies.sum()),
        overall=mean([part.overall for part in parts]),
        category_mean=mean([part.category_mean for part in parts]),
        by_category=by_name([part.by_category for part in parts]),
        naive=mean([part.naive for part in parts]),
        naive_by_category=by_name([part.naive_by_category for part in parts]),
        rejected=mean([part.rejected for part in parts]),
        mean_half_width=mean([part.mean_half_width for part in parts]),
        true_win_rate=parts[0].true_win_rate,
    )


def measure_looks(
    panel: SimulatedPanel,
    critical_values: Sequence[float],
    *,
    studies: int,
    seed: int | Sequence[int],
    sizes: Mapping[str, int] = DRAWBENCH_SIZES,
    raters_per_category: int = DRAWBENCH_RATERS,
) -> float:
    """Measure the share of studies of equal models in which some look finds a difference.

    Args:
        panel: Equal models; no inattention, no side bias.
        critical_values: |z| at each look, from `drawbench.stats.power.plan_looks`; looks are after
            equal shares of the raters.
        studies: Repetitions.
        seed: Of all draws; several numbers make one seed.
        sizes: Prompts by category.
        raters_per_category: Each rates all prompts of a category.
    """
    layout = category_layout(sizes, raters_per_category)
    place = layout.rater % raters_per_category
    looks = len(critical_values)
    until = [raters_per_category * look / looks for look in range(1, looks + 1)]
    parts = [(np.flatnonzero(place < end), layout.subset(place < end)) for end in until]
    leads = np.zeros(layout.num_categories)
    rng = np.random.default_rng(seed)
    crossed = 0
    for _ in range(studies):
        scores = draw_scores(panel, layout, leads, rng)
        crossed += any(
            _distance(scores[votes], part) > critical
            for (votes, part), critical in zip(parts, critical_values, strict=True)
        )
    return crossed / studies


def _distance(scores: Floats, layout: Layout) -> float:
    """Compute the deviation of the win rate from 1/2 in standard errors."""
    found = estimate_mean(scores, np.ones(len(scores)), layout)
    return abs(found.value - 0.5) / found.standard_error if found.standard_error else 0.0


def binomial_band(share: float, trials: int, *, level: float = 0.999) -> tuple[float, float]:
    """Return the range of an observed share with probability `level` for a true `share`.

    >>> binomial_band(0.95, 2000)
    (0.9335, 0.9655)
    """
    from scipy.stats import binom

    check_level(level)
    low, high = binom.interval(level, trials, share)
    return float(low) / trials, float(high) / trials


def true_win_rate(panel: SimulatedPanel, lead: float) -> float:
    """Return model A's win rate over all raters and prompts for this lead."""

    def above(cut: float) -> float:
        return 0.5 * math.erfc((cut - lead) / (panel.spread * math.sqrt(2)))

    return (above(panel.tie_threshold) + above(-panel.tie_threshold)) / 2


@dataclass(frozen=True)
class _Design:
    """Who rates what: every rater of a category all of its prompts."""

    sizes: list[int]
    raters: int

    def __post_init__(self) -> None:
        if min(self.sizes) < 2 or self.raters < 2:
            raise ConfigError(
                f"Coverage is measured for categories of at least 2 prompts and 2 raters, got "
                f"{min(self.sizes)} and {self.raters}. Use more."
            )

    def shares(self, pooling: Pooling) -> Floats:
        """Return the weight of each category."""
        weights = np.array(self.sizes if pooling == "votes" else [1] * len(self.sizes), np.float64)
        shares: Floats = weights / weights.sum()
        return shares

    def weighting(self, pooling: Pooling) -> Weighting:
        """Return the concentration of all votes' weights."""
        sizes = {f"{index:04d}": size for index, size in enumerate(self.sizes)}
        return _weighting(category_layout(sizes, self.raters), pooling)

    def weighting_of(self, category: int) -> Weighting:
        """Return the concentration of the weights of one category."""
        return _weighting(category_layout({"": self.sizes[category]}, self.raters), "votes")


@dataclass(frozen=True)
class _Mean:
    """A win rate and its variance terms in many studies."""

    value: Floats
    found: Variances

    @classmethod
    def of_tables(cls, scores: Floats) -> _Mean:
        """Compute them from (studies, raters, prompts)."""
        _, raters, prompts = scores.shape
        votes, value = raters * prompts, scores.mean(axis=(1, 2))
        vote = ((scores - value[:, None, None]) ** 2).mean(axis=(1, 2))
        clusters = {
            "rater": scores.mean(axis=2).var(axis=1, ddof=1) / raters,
            "prompt": scores.mean(axis=1).var(axis=1, ddof=1) / prompts,
        }
        extremity = np.abs(2 * scores - 1).mean(axis=(1, 2))
        found = Variances(
            cell=vote / (votes - 1),
            clusters=clusters,
            vote=vote,
            varied=np.minimum(np.minimum(value, 1 - value), extremity),
            extremity=extremity,
        )
        return cls(value, found)

    @classmethod
    def joined(cls, parts: Sequence[_Mean]) -> _Mean:
        """Put studies behind one another."""
        return cls(
            np.concatenate([part.value for part in parts]),
            _combined([part.found for part in parts], np.concatenate, np.concatenate),
        )

    @classmethod
    def pooled(cls, parts: Sequence[_Mean], shares: Floats) -> _Mean:
        """Compute the weighted mean of categories; they are strata, so their terms add up."""

        def mean(values: Sequence[Floats]) -> Floats:
            return np.tensordot(shares, np.stack(values), axes=1)

        def variance(values: Sequence[Floats]) -> Floats:
            return np.tensordot(shares**2, np.stack(values), axes=1)

        return cls(
            mean([part.value for part in parts]),
            _combined([part.found for part in parts], variance, mean),
        )

    def intervals(self, weights: Weighting) -> list[Ends]:
        """Return the interval of each study."""
        effective: Effective = effective_votes(self.value, self.found, weights)
        columns = (self.value, effective.votes, effective.degrees_of_freedom)
        return [
            wilson_t_interval(*map(float, study), level=LEVEL) for study in np.column_stack(columns)
        ]

    def naive_intervals(self, votes: int) -> list[Ends]:
        """Return the interval of each study as if votes were independent."""
        return [wilson_interval(value, votes, level=LEVEL) for value in self.value.tolist()]


def _combined(
    parts: Sequence[Variances],
    variance: Callable[[Sequence[Floats]], Floats],
    mean: Callable[[Sequence[Floats]], Floats],
) -> Variances:
    """Combine variances of means with one function, and means over votes with another."""
    return Variances(
        cell=variance([np.asarray(part.cell) for part in parts]),
        clusters={
            name: variance([np.asarray(part.clusters[name]) for part in parts])
            for name in parts[0].clusters
        },
        vote=mean([np.asarray(part.vote) for part in parts]),
        varied=mean([np.asarray(part.varied) for part in parts]),
        extremity=mean([np.asarray(part.extremity) for part in parts]),
    )


def _weighting(layout: Layout, pooling: Pooling) -> Weighting:
    return weighting(vote_weights(np.ones(len(layout.rater)), layout, pooling=pooling), layout)


def _summary(
    design: _Design, categories: Sequence[_Mean], truths: Floats, names: Sequence[str]
) -> Coverage:
    by_votes, by_category = design.shares("votes"), design.shares("categories")
    pooled = _Mean.pooled(categories, by_votes)
    mean = _Mean.pooled(categories, by_category)
    intervals = pooled.intervals(design.weighting("votes"))
    truth = float(by_votes @ truths)
    in_category, naive_in_category = {}, {}
    for index, (name, part) in enumerate(zip(names, categories, strict=True)):
        own = part.intervals(design.weighting_of(index))
        in_category[name] = _share_holding(own, truths[index])
        naive = part.naive_intervals(design.raters * design.sizes[index])
        naive_in_category[name] = _share_holding(naive, truths[index])
    return Coverage(
        studies=len(pooled.value),
        overall=_share_holding(intervals, truth),
        category_mean=_share_holding(
            mean.intervals(design.weighting("categories")), float(by_category @ truths)
        ),
        by_category=in_category,
        naive=_share_holding(pooled.naive_intervals(design.raters * sum(design.sizes)), truth),
        naive_by_category=naive_in_category,
        rejected=1 - _share_holding(intervals, 0.5),
        mean_half_width=float(np.mean([(high - low) / 2 for low, high in intervals])),
        true_win_rate=truth,
    )


def _share_holding(intervals: Sequence[Ends], value: float) -> float:
    return sum(low <= value <= high for low, high in intervals) / len(intervals)
