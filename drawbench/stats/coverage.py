"""Coverage of intervals, measured on repeated simulations of studies.

Perceived leads are those of `drawbench.simulation.raters`, drawn for whole studies at once; every
interval comes from the function that computes the reported ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drawbench.simulation.raters import DRAWBENCH_RATERS, DRAWBENCH_SIZES, SimulatedPanel
from drawbench.stats.clustered import LEVEL, Floats, Layout, estimate_mean, make_layout
from evalkit.core.intervals import check_level, wilson_interval
from evalkit.core.results import Interval


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
    layout, names = category_layout(sizes, raters_per_category), sorted(sizes)
    leads = np.array([panel.lead(model_a, model_b, category=name) for name in names])
    truths = np.array([true_win_rate(panel, lead) for lead in leads])
    weights = np.array([sizes[name] for name in names]) / sum(sizes.values())
    truth, mean_truth = float(weights @ truths), float(truths.mean())
    parts = [_part(layout, index) for index in range(len(names))]
    rng = np.random.default_rng(seed)
    ones = np.ones(len(layout.rater))
    overall, by_mean, naive, rejected = np.zeros((4, studies), dtype=bool)
    in_category, naive_in_category = np.zeros((2, studies, len(names)), dtype=bool)
    widths = np.zeros(studies)
    for study in range(studies):
        scores = draw_scores(panel, layout, leads, rng)
        pooled = estimate_mean(scores, ones, layout).interval
        mean = estimate_mean(scores, ones, layout, pooling="categories").interval
        overall[study] = _inside(pooled, truth)
        by_mean[study] = _inside(mean, mean_truth)
        naive[study] = _naive_holds(scores, truth)
        rejected[study] = not _inside(pooled, 0.5)
        widths[study] = (pooled.high - pooled.low) / 2 if pooled else np.nan
        for index, (votes, part) in enumerate(parts):
            in_category[study, index] = _holds(scores[votes], part, truths[index])
            naive_in_category[study, index] = _naive_holds(scores[votes], truths[index])
        if progress:
            progress(study + 1, studies)
    return Coverage(
        studies=studies,
        overall=float(overall.mean()),
        category_mean=float(by_mean.mean()),
        by_category=_named(names, in_category),
        naive=float(naive.mean()),
        naive_by_category=_named(names, naive_in_category),
        rejected=float(rejected.mean()),
        mean_half_width=float(widths.mean()),
        true_win_rate=truth,
    )


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


def _part(layout: Layout, category: int) -> tuple[NDArray[np.intp], Layout]:
    inside = layout.category == category
    return np.flatnonzero(inside), layout.subset(inside)


def _holds(scores: Floats, layout: Layout, truth: float) -> bool:
    return _inside(estimate_mean(scores, np.ones(len(scores)), layout).interval, truth)


def _naive_holds(scores: Floats, truth: float) -> bool:
    low, high = wilson_interval(float(scores.mean()), len(scores), level=LEVEL)
    return low <= truth <= high


def _inside(interval: Interval | None, value: float) -> bool:
    return interval is not None and interval.low <= value <= interval.high


def _named(names: Sequence[str], hits: NDArray[np.bool_]) -> dict[str, float]:
    return dict(zip(names, map(float, hits.mean(axis=0)), strict=True))
