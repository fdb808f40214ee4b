"""Planning, looks on the way, and whether plans come true."""

from __future__ import annotations

import numpy as np
import pytest

from drawbench.errors import StudyError
from drawbench.simulation.raters import (
    DRAWBENCH_SIZES,
    SimulatedPanel,
    simulate_votes,
    vote_correlations,
)
from drawbench.stats.clustered import Pooling, estimate_mean
from drawbench.stats.coverage import (
    _Design,
    _Mean,
    binomial_band,
    category_layout,
    draw_scores,
    draw_tables,
    measure_coverage,
    measure_looks,
    merge,
)
from drawbench.stats.power import (
    Boundary,
    StudyPlan,
    critical_values,
    crossing_probability,
    estimate_correlations,
    plan_looks,
    raters_needed,
)
from evalkit.core.errors import ConfigError

SIZES = tuple(DRAWBENCH_SIZES.values())
SEED = 71


@pytest.mark.parametrize(("correlation", "half_width"), [(0.0, 1.4), (0.1, 2.6), (0.2, 3.3)])
def test_half_width_on_drawbench(correlation: float, half_width: float) -> None:
    """5,000 votes at 50 %, no ties: naive 1.4 points, more where votes on a prompt correlate."""
    plan = StudyPlan(
        category_sizes=SIZES,
        raters_per_category=25,
        rater_correlation=0.0,
        prompt_correlation=correlation,
        tie_share=0.0,
    )
    assert plan.num_votes == 5000
    assert 100 * plan.half_width() == pytest.approx(half_width, abs=0.06)


def test_detectable_difference_has_the_power_that_was_asked_for() -> None:
    plan = StudyPlan(category_sizes=SIZES, raters_per_category=25)
    found = plan.detectable_difference(power=0.9)
    assert found is not None
    assert plan.power(found) == pytest.approx(0.9, abs=1e-4)
    assert plan.power(0.0) == pytest.approx(0.05, abs=1e-4)
    assert plan.power(0.499) == pytest.approx(1.0, abs=1e-6)


def test_power_equals_scipys_noncentral_t() -> None:
    from scipy.stats import nct, t

    plan = StudyPlan(category_sizes=(9,), raters_per_category=12)
    shift = 0.1 / plan.standard_error(0.6)
    critical = t.ppf(0.975, 8)
    expected = nct.sf(critical, 8, shift) + nct.cdf(-critical, 8, shift)
    assert plan.power(0.1) == pytest.approx(expected, abs=1e-6)


def test_raters_needed_is_the_smallest_number() -> None:
    plan = StudyPlan(category_sizes=SIZES, raters_per_category=25)
    count = raters_needed(plan, 0.05)
    assert count is not None
    assert plan.with_raters(count).power(0.05) >= 0.8 > plan.with_raters(count - 1).power(0.05)


def test_no_number_of_raters_makes_up_for_few_prompts() -> None:
    plan = StudyPlan(category_sizes=(10,), raters_per_category=25, prompt_correlation=0.3)
    assert raters_needed(plan, 0.02) is None


def test_each_setting_matters() -> None:
    base = {"category_sizes": (20, 20), "raters_per_category": 10}
    plain = StudyPlan(**base).half_width()
    assert StudyPlan(**base, rater_correlation=0.2).half_width() > plain
    assert StudyPlan(**base, prompt_correlation=0.3).half_width() > plain
    assert StudyPlan(**base, tie_share=0.5).half_width() < plain
    assert StudyPlan(**{**base, "raters_per_category": 40}).half_width() < plain
    assert StudyPlan(**{**base, "category_sizes": (80, 80)}).half_width() < plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"category_sizes": ()}, "at least one prompt"),
        ({"category_sizes": (0, 5)}, "at least one prompt"),
        ({"category_sizes": (1,)}, "one prompt"),
        ({"raters_per_category": 1}, "at least 2"),
        ({"rater_correlation": 0.6, "prompt_correlation": 0.6}, "at most 1"),
        ({"tie_share": 1.0}, "tie share"),
    ],
)
def test_impossible_plans_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        StudyPlan(**{"category_sizes": (10,), "raters_per_category": 5, **settings})


@pytest.mark.parametrize(
    ("boundary", "looks", "last"),
    [
        ("pocock", 2, 2.178),
        ("pocock", 5, 2.413),
        ("obrien-fleming", 2, 1.977),
        ("obrien-fleming", 5, 2.040),
    ],
)
def test_boundaries_are_the_published_ones(boundary, looks: int, last: float) -> None:  # type: ignore[no-untyped-def]
    """Jennison and Turnbull 2000, tables 2.1 and 2.3, equally spaced looks, 5 % two-sided."""
    times = np.arange(1, looks + 1) / looks
    found = critical_values(times, boundary=boundary)
    assert found[-1] == pytest.approx(last, abs=6e-4)
    assert crossing_probability(times, found) == pytest.approx(0.05, abs=1e-5)
    assert np.all(np.diff(found) < 1e-12)


@pytest.mark.parametrize(("looks", "rate"), [(1, 0.05), (2, 0.083), (5, 0.142), (10, 0.193)])
def test_looking_often_without_a_boundary_finds_what_is_not_there(looks: int, rate: float) -> None:
    """Armitage, McPherson and Rowe 1969, table 2."""
    times = np.arange(1, looks + 1) / looks
    assert crossing_probability(times, np.full(looks, 1.959964)) == pytest.approx(rate, abs=6e-4)


def test_cost_of_looks_in_raters_is_the_published_one() -> None:
    """Where all information comes from raters: 1.229 (Pocock) and 1.028 (O'Brien-Fleming)."""
    plan = StudyPlan(
        category_sizes=(500,),
        raters_per_category=1000,
        rater_correlation=0.0,
        prompt_correlation=0.0,
    )
    for boundary, factor in (("pocock", 1.229), ("obrien-fleming", 1.028)):
        found = plan_looks(plan, 5, boundary=boundary)
        assert found.detectable_ratio**2 == pytest.approx(factor, abs=1.5e-3)
        assert found.information == pytest.approx((0.2, 0.4, 0.6, 0.8, 1.0))


def test_looks_tell_less_new_where_prompts_differ() -> None:
    plan = StudyPlan(category_sizes=(20,), raters_per_category=25, prompt_correlation=0.3)
    found = plan_looks(plan, 5)
    assert found.information[0] > 0.5
    assert 0.05 < found.false_positive_rate < 0.142
    with pytest.raises(StudyError, match="26 looks"):
        plan_looks(plan, 26)


def test_correlations_of_a_pilot_are_those_of_its_raters() -> None:
    panel = SimulatedPanel(strengths={"x": 0.0, "y": 0.0}, rater_sd=0.7, prompt_sd=1.0)
    votes = simulate_votes(panel, sizes={"one": 150}, raters_per_category=60, questions=("q",))
    rater, prompt, ties = estimate_correlations(votes)
    expected = vote_correlations(panel)
    assert expected[1] > 2 * expected[0] > 0.2
    # 60 raters and 150 prompts know a correlation to about a fifth of itself, ties to a tenth.
    assert rater == pytest.approx(expected[0], abs=0.08)
    assert prompt == pytest.approx(expected[1], abs=0.08)
    assert ties == pytest.approx(panel.shares("x", "y").tie, abs=0.04)


def test_correlations_follow_from_the_panel() -> None:
    """Empirical correlation of many independent pairs of votes, one effect shared."""
    panel = SimulatedPanel(strengths={"x": 0.3, "y": 0.0}, rater_sd=0.8, prompt_sd=0.0)
    rng = np.random.default_rng(SEED)
    layout = category_layout({"one": 2}, 20_000)
    scores = draw_scores(panel, layout, np.array([0.3]), rng).reshape(20_000, 2)
    found = np.corrcoef(scores.T)[0, 1]
    assert vote_correlations(panel, 0.3)[0] == pytest.approx(found, abs=0.025)


STUDIES = 250
SMALL = {"one": 14, "two": 10, "three": 8}
RATERS = 15


@pytest.mark.parametrize(("rater_sd", "prompt_sd"), [(0.0, 0.0), (0.4, 0.4), (1.0, 1.0)])
def test_intervals_cover(rater_sd: float, prompt_sd: float) -> None:
    """The fast form of benchmarks/study/coverage.py, within 99.9 % binomial bands."""
    panel = SimulatedPanel(
        strengths={"x": 0.0, "y": 0.0}, rater_sd=rater_sd, prompt_sd=prompt_sd, tie_threshold=0.3
    )
    found = measure_coverage(
        panel, studies=STUDIES, seed=SEED, sizes=SMALL, raters_per_category=RATERS
    )
    low, high = binomial_band(0.95, STUDIES)
    assert low <= found.overall <= high
    assert low <= found.category_mean <= high
    assert binomial_band(0.05, STUDIES)[0] <= found.rejected <= binomial_band(0.05, STUDIES)[1]
    for share in found.by_category.values():
        assert share >= binomial_band(0.92, STUDIES)[0]
    if rater_sd == 1.0:
        assert found.naive < low - 0.2  # the pooled interval would fail this very test


def test_plan_agrees_with_simulation() -> None:
    panel = SimulatedPanel(
        strengths={"x": 0.3, "y": 0.0}, rater_sd=0.4, prompt_sd=0.6, tie_threshold=0.3
    )
    found = measure_coverage(
        panel, studies=STUDIES, seed=SEED, sizes=SMALL, raters_per_category=RATERS
    )
    rater, prompt = vote_correlations(panel, 0.3)
    plan = StudyPlan(
        category_sizes=tuple(SMALL.values()),
        raters_per_category=RATERS,
        rater_correlation=rater,
        prompt_correlation=prompt,
        tie_share=panel.shares("x", "x").tie,
    )
    power = plan.power(found.true_win_rate - 0.5)
    assert 0.3 < power < 0.95  # where a wrong plan would show
    low, high = binomial_band(power, STUDIES)
    assert low <= found.rejected <= high
    assert found.mean_half_width == pytest.approx(plan.half_width(), rel=0.08)


@pytest.mark.parametrize("boundary", ["none", "obrien-fleming"])
def test_cost_of_looks_agrees_with_simulation(boundary: Boundary) -> None:
    panel = SimulatedPanel(
        strengths={"x": 0.0, "y": 0.0}, rater_sd=0.4, prompt_sd=0.6, tie_threshold=0.3
    )
    rater, prompt = vote_correlations(panel)
    plan = StudyPlan(
        category_sizes=tuple(DRAWBENCH_SIZES.values()),
        raters_per_category=25,
        rater_correlation=rater,
        prompt_correlation=prompt,
        tie_share=panel.shares("x", "x").tie,
    )
    looks = plan_looks(plan, 5, boundary=boundary)
    found = measure_looks(panel, looks.critical_values, studies=STUDIES, seed=SEED)
    low, high = binomial_band(looks.false_positive_rate, STUDIES)
    assert low <= found <= high
    assert (looks.false_positive_rate > 0.1) == (boundary == "none")


@pytest.mark.parametrize("pooling", ["votes", "categories"])
def test_tables_of_many_studies_give_the_reported_interval(pooling: Pooling) -> None:
    """The arrays that the coverage study uses against `estimate_mean`, study by study."""
    panel = SimulatedPanel(strengths={"x": 0.9, "y": 0.0}, rater_sd=0.8, prompt_sd=0.5)
    sizes = {"four": 4, "nine": 9}
    design = _Design(list(sizes.values()), 6)
    rng = np.random.default_rng(3)
    tables = [draw_tables(panel, (5, 6, size), 0.9, rng) for size in sizes.values()]
    parts = [_Mean.of_tables(table) for table in tables]
    found = _Mean.pooled(parts, design.shares(pooling)).intervals(design.weighting(pooling))
    layout = category_layout(sizes, 6)
    for study in range(5):
        y = np.concatenate([table[study].ravel() for table in tables])
        expected = estimate_mean(y, np.ones(len(y)), layout, pooling=pooling).interval
        assert expected is not None
        assert found[study] == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_coverage_needs_two_prompts_in_each_category() -> None:
    panel = SimulatedPanel(strengths={"x": 0.0, "y": 0.0})
    with pytest.raises(ConfigError, match="at least 2 prompts and 2 raters, got 1 and 15"):
        measure_coverage(panel, studies=1, seed=0, sizes={"one": 1}, raters_per_category=15)


def test_intervals_cover_where_one_model_nearly_always_wins() -> None:
    """97 % of votes: by the variance alone, the category of 8 prompts is covered in 80 %."""
    panel = SimulatedPanel(
        strengths={"x": 2.6, "y": 0.0}, rater_sd=0.4, prompt_sd=0.8, tie_threshold=0.3
    )
    found = measure_coverage(
        panel, studies=STUDIES, seed=SEED, sizes=SMALL, raters_per_category=RATERS
    )
    assert found.true_win_rate == pytest.approx(0.97, abs=0.01)
    for share in (found.overall, found.category_mean, *found.by_category.values()):
        assert share >= binomial_band(0.95, STUDIES)[0]


def test_merged_coverage_is_that_of_all_studies() -> None:
    """Two runs of 20 and 40 studies weigh 1 and 2."""
    panel = SimulatedPanel(strengths={"x": 0.0, "y": 0.0}, rater_sd=1.0, tie_threshold=0.3)
    small, large = (
        measure_coverage(panel, studies=n, seed=(SEED, n), sizes=SMALL, raters_per_category=RATERS)
        for n in (20, 40)
    )
    both = merge([small, large])
    assert both.studies == 60
    for name in ("overall", "naive", "rejected", "mean_half_width"):
        a, b = getattr(small, name), getattr(large, name)
        assert getattr(both, name) == pytest.approx((a + 2 * b) / 3)
    assert both.by_category["two"] == pytest.approx(
        (small.by_category["two"] + 2 * large.by_category["two"]) / 3
    )
