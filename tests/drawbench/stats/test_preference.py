"""Shares, win rates, verdicts and what follows from them."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.bootstrap import TwoWayResampler, percentile_interval
from drawbench.stats.clustered import make_layout
from drawbench.stats.preference import (
    Preference,
    adjust_for_categories,
    conclude,
    holm,
    preference,
    preferences,
)
from evalkit.core.errors import MissingExtraError
from evalkit.core.results import Interval
from tests.support.vote_tables import grid_votes, make_votes

GRID = ["aatab", "abtta", "aaaab", "tabaa"]


def test_worked_example() -> None:
    """20 votes: 12 for A, 4 ties, 4 for B: 14/20 with ties as half a win, 12/16 without them."""
    votes = grid_votes(GRID)
    assert list(votes["answer"]).count("a") == 12
    half, drop = preference(votes), preference(votes, ties="drop")
    assert (half.share_a.value, half.share_tie.value, half.share_b.value) == (0.6, 0.2, 0.2)
    assert half.win_rate.value == pytest.approx(0.7)
    assert drop.win_rate.value == pytest.approx(0.75)
    assert drop.share_tie.value == 0.2
    assert (half.num_votes, half.num_raters, half.num_prompts) == (20, 4, 5)
    assert half.win_rate.generalises_to == ("raters", "prompts")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text("atb", min_size=4, max_size=4), min_size=3, max_size=3))
def test_swapping_the_models_mirrors_everything(rows: list[str]) -> None:
    votes = grid_votes(rows)
    swapped = votes.assign(
        model_a=votes["model_b"],
        model_b=votes["model_a"],
        answer=votes["answer"].map({"a": "b", "tie": "tie", "b": "a"}),
    )
    one, two = preference(votes), preference(swapped)
    total = one.share_a.value + one.share_tie.value + one.share_b.value
    assert total == pytest.approx(1)
    assert two.win_rate.value == pytest.approx(1 - one.win_rate.value)
    assert two.winner == one.winner
    assert one.win_rate.interval is not None
    assert two.win_rate.interval is not None
    assert two.win_rate.interval.low == pytest.approx(1 - one.win_rate.interval.high)


def test_a_pair_in_both_orders_is_one_pair() -> None:
    votes = grid_votes(GRID)
    mixed = votes.copy()
    flip = mixed.index % 2 == 0
    mixed.loc[flip, ["model_a", "model_b"]] = votes.loc[flip, ["model_b", "model_a"]].to_numpy()
    mixed.loc[flip, "answer"] = votes.loc[flip, "answer"].map({"a": "b", "tie": "tie", "b": "a"})
    (pair,) = preferences(mixed, resamples=0)
    rate = pair.questions[0].overall
    assert (rate.model_a, rate.model_b) == ("glide", "imagen")  # alphabetical, as both orders occur
    assert rate.win_rate.value == pytest.approx(1 - preference(votes).win_rate.value)


def test_wilson_is_named_too_narrow_and_bootstrap_too_wide() -> None:
    """Raters who differ, and prompts that differ: pooled votes pretend to know more."""
    rng = np.random.default_rng(0)
    felt = rng.normal(size=(20, 1)) + rng.normal(size=(1, 15)) + rng.normal(size=(20, 15))
    rows = ["".join("a" if lead > 0 else "b" for lead in row) for row in felt]
    found = preference(grid_votes(rows), resamples=500)
    assert found.wilson.note.startswith("too narrow")
    assert found.wilson.width_ratio is not None
    assert found.wilson.width_ratio < 0.6
    assert found.bootstrap is not None
    assert found.bootstrap.width_ratio is not None
    assert found.bootstrap.width_ratio > found.wilson.width_ratio


def test_wilson_is_not_named_too_narrow_where_it_is_not() -> None:
    """No rater and no prompt differs from another; with 40 of each, t is close to normal."""
    rows = ["".join("ab"[(rater + prompt) % 2] for prompt in range(40)) for rater in range(40)]
    assert preference(grid_votes(rows)).wilson.note == "about as wide"


def test_resampled_totals_equal_repeated_votes() -> None:
    rng = np.random.default_rng(2)
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(5), np.arange(6)))
    category = prompt // 3
    y = rng.random(30)
    resampler = TwoWayResampler(make_layout(rater, prompt, category), resamples=7, seed=3)
    totals = resampler.totals(y)
    counts = resampler.vote_counts()
    for resample in range(7):
        for index in (0, 1):
            expected = (counts[resample] * y)[category == index].sum()
            assert totals[resample, index] == pytest.approx(expected)
    assert np.all(resampler.prompt_counts[:, :3].sum(axis=1) == 3)  # within categories
    assert np.all(resampler.rater_counts.sum(axis=1) == 5)


def test_two_way_bootstrap_has_the_spread_that_theory_gives() -> None:
    """Owen 2007: its variance is about that of raters, of prompts, and of cells, each once more.

    For a full grid the resampled mean has variance close to A + B + C with A, B and C the terms of
    raters, prompts and cells without the overlap taken off.
    """
    rng = np.random.default_rng(4)
    rater, prompt = (grid.ravel() for grid in np.meshgrid(np.arange(30), np.arange(40)))
    y = rng.normal(size=30)[rater] + rng.normal(size=40)[prompt] + rng.normal(size=1200)
    layout = make_layout(rater, prompt, np.zeros(1200))
    means = TwoWayResampler(layout, resamples=4000, seed=1).means(y, np.ones(1200))
    e = (y - y.mean()) / 1200
    terms = [
        np.sum(np.bincount(getattr(layout, name), e) ** 2) for name in ("rater", "prompt", "cell")
    ]
    # 4,000 resamples know a variance to 5 % (two standard errors).
    assert means.var() == pytest.approx(sum(terms), rel=0.08)


def test_seeds_and_resamples_matter_only_to_the_bootstrap() -> None:
    votes = grid_votes(GRID)
    one, two, again = (preference(votes, resamples=200, seed=seed) for seed in (0, 1, 0))
    assert one == again
    assert one.bootstrap != two.bootstrap
    assert one.win_rate == two.win_rate
    assert preference(votes, resamples=0).bootstrap is None


def test_percentile_interval_refuses_mostly_missing_values() -> None:
    assert percentile_interval(np.array([np.nan, np.nan, np.nan, 0.5])) is None
    interval = percentile_interval(np.r_[np.nan, np.linspace(0, 1, 101)], level=0.9)
    assert interval is not None
    assert (interval.low, interval.high) == pytest.approx((0.05, 0.95))
    assert interval.level == 0.9


def test_verdict_needs_an_interval_that_leaves_a_half_out() -> None:
    clear = preference(grid_votes(["aaaaa", "aaaab", "aaaaa", "aabaa", "aaaaa", "aaaaa"]))
    assert (clear.verdict, clear.winner) == ("a", "imagen")
    even = preference(grid_votes(["abab", "baba", "aabb", "bbaa"]))
    assert (even.verdict, even.winner) == ("undecided", None)
    single = preference(make_votes([("r", "p", "", "a")]))
    assert single.win_rate.interval is None
    assert single.verdict == "undecided"


def _told(question: str, low: float, high: float) -> Preference:
    """A preference with this interval."""
    from dataclasses import replace

    base = preference(grid_votes(GRID))
    interval = Interval(low=low, high=high, method="made up")
    return replace(base, question=question, win_rate=replace(base.win_rate, interval=interval))


@pytest.mark.parametrize(
    ("intervals", "kind", "winner"),
    [
        ([(0.6, 0.7), (0.55, 0.6)], "decided", "imagen"),
        ([(0.3, 0.4), (0.1, 0.2)], "decided", "glide"),
        ([(0.6, 0.7), (0.3, 0.4)], "split", None),
        ([(0.6, 0.7), (0.4, 0.6)], "partly decided", None),
        ([(0.4, 0.6), (0.45, 0.7)], "undecided", None),
        ([(0.6, 0.7)], "decided", "imagen"),
    ],
)
def test_in_the_end_one_model_wins_or_none_does(intervals, kind, winner) -> None:  # type: ignore[no-untyped-def]
    names = ["alignment", "fidelity"]
    told = conclude([_told(name, *ends) for name, ends in zip(names, intervals, strict=False)])
    assert (told.kind, told.winner) == (kind, winner)
    assert "alignment" in told.sentence


def test_holm_by_hand() -> None:
    """p of .01, .04, .03: sorted .01 * 3, .03 * 2, .04 * 1, and never below the one before."""
    from dataclasses import replace

    base = preference(grid_votes(GRID))
    categories = [
        replace(base, category=name, win_rate=replace(base.win_rate, p_value=p))
        for name, p in (("x", 0.01), ("y", 0.04), ("z", 0.03))
    ]
    found = adjust_for_categories(categories)
    assert [item.adjusted_p_value for item in found] == pytest.approx([0.03, 0.06, 0.06])
    assert [item.adjusted_verdict for item in found] == ["a", "undecided", "undecided"]


def test_without_statsmodels_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels.stats.multitest", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'evalkit\[study\]'"):
        holm([0.01, 0.02])


def test_every_pair_question_and_category() -> None:
    rows = [
        (f"r{rater}", f"p{prompt}", f"c{prompt % 2}", "a" if (rater + prompt) % 3 else "b")
        for rater in range(4)
        for prompt in range(6)
    ]
    parts = [
        make_votes(rows, question=question, model_a=a, model_b=b)
        for question in ("fidelity", "alignment")
        for a, b in (("x", "y"), ("y", "z"))
    ]
    pairs = preferences(pd.concat(parts, ignore_index=True), resamples=0)
    assert [(pair.model_a, pair.model_b) for pair in pairs] == [("x", "y"), ("y", "z")]
    for pair in pairs:
        assert [item.overall.question for item in pair.questions] == ["alignment", "fidelity"]
        for item in pair.questions:
            assert item.overall.category is None
            assert [part.category for part in item.categories] == ["c0", "c1"]
            assert item.category_mean is not None
            assert item.category_mean.pooling == "categories"


def test_a_category_of_ties_alone_does_not_stop_the_others() -> None:
    rows = [(f"r{i}", f"p{p}", "plain", "ab"[(i + p) % 2]) for i in range(3) for p in range(3)]
    rows += [(f"r{i}", "q", "tied", "tie") for i in range(3)]
    (pair,) = preferences(make_votes(rows), ties="drop", resamples=0)
    assert [item.category for item in pair.questions[0].categories] == ["plain"]
    assert pair.questions[0].category_mean is None


def test_bad_input_is_named() -> None:
    votes = grid_votes(GRID)
    with pytest.raises(NoVotesError, match="no votes"):
        preference(votes.iloc[:0])
    with pytest.raises(NoVotesError, match=r"imagen against glide.*all 4 votes are ties"):
        preference(grid_votes(["tt", "tt"]), ties="drop")
    both = pd.concat([votes, votes.assign(question="alignment")])
    with pytest.raises(VotesError, match="Expected one question, got alignment, fidelity"):
        preference(both)
