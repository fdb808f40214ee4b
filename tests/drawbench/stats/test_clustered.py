"""Means of votes and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t

from drawbench.stats.clustered import (
    Layout,
    Pooling,
    clustered_variance,
    estimate_mean,
    linearise,
    make_layout,
)
from evalkit.core.intervals import wilson_interval, wilson_t_interval
from tests.reference.effective_votes import effective_votes
from tests.reference.two_way_variance import pooled_mean_and_variance

EXACT = 1e-12  # both sides are sums of a few hundred float64 terms


def test_worked_example() -> None:
    """Two raters on two prompts, three wins of four.

    The deviations from 3/4, divided by 4, are 1/16, 1/16, -3/16, 1/16. Raters sum to 1/8 and -1/8,
    prompts to -1/8 and 1/8: both terms are 2 (1/64 + 1/64) = 1/16, with the factor 2 = G / (G - 1).
    Cells: 4/3 (3/256 + 9/256) = 1/16. So V = 1/16 and the standard error is 1/4.
    """
    layout = make_layout(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.zeros(4))
    found = estimate_mean(np.array([1.0, 1.0, 0.0, 1.0]), np.ones(4), layout)
    assert found.value == 0.75
    assert found.standard_error == pytest.approx(0.25, abs=EXACT)
    assert found.degrees_of_freedom == pytest.approx(1)
    assert found.interval is not None
    assert found.interval.method == (
        "Wilson at the effective number of votes, cluster-robust over raters and prompts, "
        "t reference"
    )
    assert found.generalises_to == ("raters", "prompts")


def _random_study(seed: int, *, nested: bool) -> tuple[list[tuple], np.ndarray, np.ndarray]:
    """An unbalanced study: votes missing at random, categories of different size."""
    rng = np.random.default_rng(seed)
    rows, y, d = [], [], []
    for category, (raters, prompts) in enumerate([(6, 4), (5, 9), (7, 3)]):
        for rater in range(raters):
            for prompt in range(prompts):
                if rng.random() < 0.3:
                    continue
                name = f"r{category}-{rater}" if nested else f"r{rater}"
                rows.append((name, f"p{category}-{prompt}", f"c{category}"))
                d.append(float(rng.random() < 0.8))
                y.append(d[-1] * rng.integers(0, 3) / 2)
    return rows, np.array(y), np.array(d)


@pytest.mark.parametrize("nested", [True, False], ids=["one category a rater", "mixed"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_formula_in_loops(seed: int, nested: bool) -> None:
    rows, y, _ = _random_study(seed, nested=nested)
    layout = make_layout(*(np.array(column) for column in zip(*rows, strict=True)))
    votes = [(*row, value, 1.0) for row, value in zip(rows, y.tolist(), strict=True)]
    mean, variance = pooled_mean_and_variance(votes)
    found = estimate_mean(y, np.ones(len(y)), layout)
    assert found.value == pytest.approx(mean, abs=EXACT)
    assert found.standard_error == pytest.approx(variance**0.5, abs=EXACT)


@pytest.mark.parametrize("nested", [True, False], ids=["one category a rater", "mixed"])
@pytest.mark.parametrize("wins", [0.0, 0.03, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_effective_votes_equal_the_equation_in_loops(seed: int, wins: float, nested: bool) -> None:
    rows, _, _ = _random_study(seed, nested=nested)
    rng = np.random.default_rng(seed)
    y = (rng.random(len(rows)) < wins) / rng.integers(1, 3, len(rows))
    layout = make_layout(*(np.array(column) for column in zip(*rows, strict=True)))
    found = estimate_mean(y, np.ones(len(y)), layout)
    votes, df = effective_votes([(*row, x) for row, x in zip(rows, y.tolist(), strict=True)])
    assert found.effective_votes == pytest.approx(votes, rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(df, rel=1e-9)
    assert found.interval is not None
    ends = wilson_t_interval(found.value, votes, df, level=0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx(ends, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_votes_that_do_not_count_are_as_if_absent(seed: int) -> None:
    rows, y, d = _random_study(seed, nested=True)
    layout = make_layout(*(np.array(column) for column in zip(*rows, strict=True)))
    kept = d > 0
    assert estimate_mean(y, d, layout) == estimate_mean(y[kept], d[kept], layout.subset(kept))


def test_equals_statsmodels_in_one_category() -> None:
    """statsmodels' two-way clustered regression on a constant, where our floor does not bind."""
    sm = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(3)
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(8), np.arange(12)))
    y = 0.4 * rng.normal(size=8)[rater] + 0.6 * rng.normal(size=12)[prompt]
    y = (y + rng.normal(size=96) > 0).astype(float)
    fit = sm.OLS(y, np.ones((96, 1))).fit(
        cov_type="cluster", cov_kwds={"groups": np.column_stack([rater, prompt])}
    )
    found = estimate_mean(y, np.ones(96), make_layout(rater, prompt, np.zeros(96)))
    assert found.standard_error == pytest.approx(float(fit.bse[0]), rel=1e-9)


def test_floored_once_and_not_by_category() -> None:
    """In category 0 raters and prompts agree less than by chance, in category 1 prompts differ.

    Category 0 is a Latin square: every rater and every prompt has the same mean, so both terms are
    zero and only its floor could give it a variance. In the sum, category 1 is large enough by
    itself, so no floor is needed and none is applied.
    """
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(4), np.arange(4)))
    latin = ((rater + prompt) % 2).astype(float)
    differing = (prompt >= 2).astype(float)
    layout = make_layout(np.r_[rater, rater + 4], np.r_[prompt, prompt + 4], np.repeat([0, 1], 16))
    parts = [
        _variance(y, layout.subset(layout.category == c)) for c, y in enumerate((latin, differing))
    ]
    whole = _variance(np.r_[latin, differing], layout)
    # Prompts of category 1 deviate by 1/2: 4/3 * 4 * (4 * 1/2 / 32)^2 = 1/48. Cells of either
    # category: 16/15 * 16 * (1/2 / 32)^2 = 1/240, taken off once for each: 1/48 - 2/240 = 1/80.
    assert whole == pytest.approx(1 / 80, abs=EXACT)
    assert sum(parts) / 4 == pytest.approx(1 / 48, abs=EXACT)  # 1/60 and the floor 1/240


def _variance(y: np.ndarray, layout: Layout) -> float:
    return clustered_variance(linearise(y, np.ones(len(y)), layout, pooling="votes")[1], layout)


def test_categories_are_fixed() -> None:
    """Without any variation inside categories, differences between them are no uncertainty."""
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(4), np.arange(6)))
    category = prompt // 3
    layout = make_layout(rater, prompt, category)
    found = estimate_mean(category.astype(float), np.ones(24), layout)
    assert found.standard_error == 0.0
    one = estimate_mean(
        category.astype(float), np.ones(24), make_layout(rater, prompt, category * 0)
    )
    assert one.standard_error is not None
    assert one.standard_error > 0.1


def test_mean_of_categories_weighs_them_alike() -> None:
    """Category 0 has 2 prompts and wins all, category 1 has 6 and wins none but one vote."""
    prompt = np.tile(np.arange(8), 3)
    rater = np.repeat(np.arange(3), 8)
    category = (prompt >= 2).astype(int)
    y = (category == 0).astype(float)
    y[-1] = 1.0
    layout = make_layout(rater, prompt, category)
    assert estimate_mean(y, np.ones(24), layout).value == pytest.approx(7 / 24)
    by_category = estimate_mean(y, np.ones(24), layout, pooling="categories")
    assert by_category.value == pytest.approx((1 + 1 / 18) / 2)


@pytest.mark.parametrize(
    ("raters", "prompts", "sampled"),
    [(1, 5, ("prompts",)), (5, 1, ("raters",)), (1, 1, ())],
)
def test_speaks_only_of_what_was_sampled(raters: int, prompts: int, sampled: tuple) -> None:
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(raters), np.arange(prompts)))
    y = np.arange(len(rater)) % 2.0
    found = estimate_mean(y, np.ones(len(y)), make_layout(rater, prompt, np.zeros(len(y))))
    assert found.generalises_to == sampled
    assert (found.interval is None) == (not sampled)
    assert bool(found.reason) == (not sampled)
    if sampled:
        ordinary = np.std(y, ddof=1) / np.sqrt(len(y))  # one vote a cluster: the textbook error
        assert found.standard_error == pytest.approx(ordinary, abs=EXACT)


def test_unanimous_votes_get_an_interval_with_a_width() -> None:
    """Seven prompts and 25 raters who all prefer A.

    1 / n = 1/175 + 0.25 (1/7 - 1/175) + 0.25 (1/25 - 1/175) = 0.048571: 20.588 votes. With t of 6
    degrees of freedom, 2.4469, the lower end is 1 / (1 + 2.4469^2 / 20.588) = 0.7747.
    """
    found = estimate_mean(np.ones(175), np.ones(175), _grid(25, 7))
    assert found.effective_votes == pytest.approx(1 / 0.0485714, rel=1e-6)
    assert found.degrees_of_freedom == pytest.approx(6)
    assert found.interval is not None
    assert found.interval.low == pytest.approx(0.7747, abs=5e-5)
    assert found.interval.high == 1.0
    assert found.p_value == pytest.approx(2 * student_t.sf(20.588235**0.5, 6))


def test_all_ties_are_half_a_win_with_a_width() -> None:
    found = estimate_mean(np.full(175, 0.5), np.ones(175), _grid(25, 7))
    assert found.interval is not None
    assert 0.35 < found.interval.low < 0.45
    assert found.interval.low + found.interval.high == pytest.approx(1)
    assert found.p_value == 1


def _grid(raters: int, prompts: int, categories: int = 1) -> Layout:
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(raters), np.arange(prompts)))
    return make_layout(rater, prompt, prompt % categories)


def _ends(y: np.ndarray, layout: Layout, pooling: Pooling = "votes") -> np.ndarray:
    interval = estimate_mean(y, np.ones(len(y)), layout, pooling=pooling).interval
    assert interval is not None
    return np.array([interval.low, interval.high])


@pytest.mark.parametrize("pooling", ["votes", "categories"])
@pytest.mark.parametrize("shape", [(25, 20), (5, 100), (10, 50), (71, 7), (4, 125), (500, 1)])
def test_one_turned_vote_of_500_moves_no_end_by_more_than_two_points(
    shape: tuple[int, int], pooling: Pooling
) -> None:
    """From all won to all lost, vote by vote: prompt by prompt, then in random order."""
    layout = _grid(*shape, categories=min(2, shape[1]))
    size = len(layout.rater)
    for order in (np.argsort(layout.prompt), np.random.default_rng(1).permutation(size)):
        y, moves = np.ones(size), []
        before = _ends(y, layout, pooling)
        for vote in order:
            y[vote] = 0.0
            after = _ends(y, layout, pooling)
            moves.append(np.abs(after - before).max())
            before = after
        assert max(moves) < 0.02


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=24, max_size=24),
    st.sampled_from([(4, 6, 1), (4, 6, 2), (6, 4, 2), (24, 1, 1), (1, 24, 2), (2, 12, 3)]),
    st.sampled_from(["votes", "categories"]),
)
def test_intervals_have_a_width_and_hold_their_value(
    scores: list[float], shape: tuple[int, int, int], pooling: Pooling
) -> None:
    layout, y = _grid(*shape), np.array(scores)
    found = estimate_mean(y, np.ones(24), layout, pooling=pooling)
    assert found.interval is not None
    assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1
    assert found.interval.high - found.interval.low > 0.02
    assert found.effective_votes is not None
    assert found.effective_votes >= 1
    low, high = _ends(1 - y, layout, pooling)
    assert (low, high) == pytest.approx((1 - found.interval.high, 1 - found.interval.low))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=24, max_size=24), st.floats(0.5, 0.999))
def test_p_value_and_interval_agree_at_every_level(scores: list[float], level: float) -> None:
    found = estimate_mean(np.array(scores), np.ones(24), _grid(4, 6), level=level)
    assert found.interval is not None
    assert found.p_value is not None
    excluded = not found.interval.low <= 0.5 <= found.interval.high
    near = abs(found.p_value - (1 - level)) < 1e-9  # where both are one number up to rounding
    assert near or excluded == (found.p_value < 1 - level)


def test_near_one_half_the_interval_is_that_of_the_clustered_variance() -> None:
    """200 prompts, 25 raters: within 0.3 points of value +- t standard errors."""
    rng = np.random.default_rng(8)
    layout = _grid(25, 200)
    felt = 0.3 * rng.normal(size=25)[layout.rater] + 0.3 * rng.normal(size=200)[layout.prompt]
    felt += rng.normal(size=5000) - 0.1
    y = ((felt > 0.3).astype(float) + (felt > -0.3)) / 2
    found = estimate_mean(y, np.ones(5000), layout)
    assert found.standard_error is not None
    half_width = student_t.ppf(0.975, 24) * found.standard_error
    expected = (found.value - half_width, found.value + half_width)
    assert _ends(y, layout) == pytest.approx(expected, abs=0.003)


def test_a_rater_with_most_votes_counts_for_most_of_the_uncertainty() -> None:
    """30 raters with one vote each don't make up for one who gave 300 of 330."""
    rng = np.random.default_rng(2)
    rater = np.r_[np.zeros(300, int), np.arange(1, 31)]
    layout = make_layout(rater, np.arange(330), np.zeros(330))
    y = (rng.random(330) < 0.6).astype(float)
    even = make_layout(np.arange(330) % 31, np.arange(330), np.zeros(330))
    assert np.ptp(_ends(y, layout)) > 2 * np.ptp(_ends(y, even))


def test_category_of_one_prompt_is_merged_and_not_taken_for_certain() -> None:
    """A category of one prompt alone would add nothing to the prompts' term."""
    rng = np.random.default_rng(5)
    prompt, rater = (grid.ravel() for grid in np.meshgrid(np.arange(7), np.arange(20)))
    category = np.where(prompt == 6, 1, 0)
    layout = make_layout(rater, prompt, category)
    assert len(np.unique(layout.strata)) == 1
    y = (rng.random(140) < np.where(prompt == 6, 0.95, 0.4)).astype(float)
    merged = estimate_mean(y, np.ones(140), layout)
    plain = estimate_mean(y, np.ones(140), make_layout(rater, prompt, np.zeros(140)))
    assert merged.standard_error == pytest.approx(plain.standard_error)


def test_wilson_equals_statsmodels() -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    for wins, n in ((0, 5), (3, 5), (70, 100), (5000, 5000)):
        expected = proportion.proportion_confint(wins, n, alpha=0.1, method="wilson")
        assert wilson_interval(wins / n, n, level=0.9) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=12, max_size=12), st.randoms())
def test_neither_order_nor_names_matter(scores: list[float], random) -> None:  # type: ignore[no-untyped-def]
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(3), np.arange(4)))
    y, category = np.array(scores), prompt % 2
    found = estimate_mean(y, np.ones(12), make_layout(rater, prompt, category))
    order = np.array(random.sample(range(12), 12))
    names = np.array(["x", "zz", "a"])[rater]
    again = estimate_mean(
        y[order], np.ones(12), make_layout(names[order], prompt[order], category[order])
    )
    assert again.value == pytest.approx(found.value)
    assert again.standard_error == pytest.approx(found.standard_error, abs=EXACT)
    mirrored = estimate_mean(1 - y, np.ones(12), make_layout(rater, prompt, category))
    assert mirrored.value == pytest.approx(1 - found.value)
    assert mirrored.standard_error == pytest.approx(found.standard_error, abs=EXACT)
    assert found.interval is not None
    assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1


def test_level_matters() -> None:
    layout = make_layout(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1] * 3), np.zeros(6))
    y = np.array([1.0, 0.5, 0.0, 1.0, 1.0, 0.5])
    wide, narrow = (estimate_mean(y, np.ones(6), layout, level=level) for level in (0.99, 0.5))
    assert wide.interval is not None
    assert narrow.interval is not None
    assert wide.interval.low < narrow.interval.low
    assert narrow.interval.level == 0.5


def test_nothing_counted_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="no vote is counted"):
        estimate_mean(np.zeros(1), np.zeros(1), make_layout(*(np.zeros(1),) * 3))
