"""Orders of several models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student_t

from drawbench.errors import NoVotesError
from drawbench.stats.preference import preference
from drawbench.stats.ranking import POINTS, Model, Ranking, rank
from drawbench.stats.transitivity import transitivity
from drawbench.votes import validate_votes
from tests.reference.paired_comparisons import bradley_terry, davidson
from tests.support.vote_tables import grid_votes

STRENGTHS = {"m0": 0.6, "m1": 0.2, "m2": -0.1, "m3": -0.7}
SOLVER = 2e-6  # of log strengths: where the reference's general optimiser stops


@pytest.fixture(scope="module")
def votes() -> pd.DataFrame:
    """600 votes of 30 raters on 20 prompts, four models, about a fifth ties."""
    rng = np.random.default_rng(7)
    names = list(STRENGTHS)
    rows = []
    for rater in range(30):
        for prompt in range(20):
            a, b = rng.choice(names, 2, replace=False)
            lead = STRENGTHS[a] - STRENGTHS[b] + rng.logistic()
            answer = "tie" if abs(lead) < 0.4 else "a" if lead > 0 else "b"
            rows.append((f"r{rater}", f"p{prompt}", "c", str(a), str(b), "fidelity", answer))
    names = ["rater_id", "prompt_id", "category", "model_a", "model_b", "question", "answer"]
    return validate_votes(pd.DataFrame(rows, columns=names))


def _numbered(votes: pd.DataFrame) -> list[tuple[int, int, float]]:
    scores = {"a": 1.0, "tie": 0.5, "b": 0.0}
    return [
        (int(row.model_a[1]), int(row.model_b[1]), scores[row.answer]) for row in votes.itertuples()
    ]


def _strengths(ranking: Ranking) -> np.ndarray:
    """Log strengths in alphabetical order, with mean zero."""
    places = sorted(ranking.models, key=lambda place: place.model)
    points = np.array([place.points for place in places]) / POINTS
    return points - points.mean()


def test_bradley_terry_equals_the_reference_solver(votes: pd.DataFrame) -> None:
    expected = bradley_terry(_numbered(votes), 4)
    assert _strengths(rank(votes)) == pytest.approx(expected, abs=SOLVER)


def test_bradley_terry_equals_evalica(votes: pd.DataFrame) -> None:
    import evalica

    winners = {"a": evalica.Winner.X, "tie": evalica.Winner.Draw, "b": evalica.Winner.Y}
    fitted = evalica.bradley_terry(
        votes["model_a"], votes["model_b"], [winners[x] for x in votes["answer"]],
        solver="naive", tolerance=1e-12, limit=10_000,
    )  # fmt: skip
    logs = np.log(fitted.scores.sort_index().to_numpy())
    found = rank(votes)
    assert _strengths(found) == pytest.approx(logs - logs.mean(), abs=1e-7)
    assert found.converged


def test_davidson_equals_the_reference_solver(votes: pd.DataFrame) -> None:
    expected, nu = davidson(_numbered(votes), 4)
    found = rank(votes, kind="davidson")
    assert _strengths(found) == pytest.approx(expected, abs=1e-5)
    assert found.tie_parameter == pytest.approx(nu, abs=1e-5)
    assert found.converged


def test_davidson_of_two_models_by_hand() -> None:
    """12 wins, 4 ties, 4 losses: p_A / p_B = 12 / 4 and nu = 4 / sqrt(12 * 4)."""
    found = rank(grid_votes(["aatab", "abtta", "aaaab", "tabaa"]), kind="davidson")
    first, second = found.models
    assert (first.model, second.model) == ("imagen", "glide")
    assert (first.points - second.points) / POINTS == pytest.approx(math.log(3))
    assert found.tie_parameter == pytest.approx(4 / math.sqrt(48))


def test_two_models_have_the_interval_of_their_win_rate() -> None:
    """The difference of strengths is the logit of the win rate; so is its error (delta method)."""
    votes = grid_votes(["aatab", "abtta", "aaaab", "tabaa"])
    rate = preference(votes).win_rate
    (gap,) = rank(votes).differences
    sign = 1 if gap.model_a == "imagen" else -1
    assert sign * gap.points / POINTS == pytest.approx(math.log(0.7 / 0.3), abs=1e-7)
    assert rate.standard_error is not None
    assert gap.standard_error / POINTS == pytest.approx(rate.standard_error / 0.21, rel=1e-6)


def test_mean_is_zero_and_ranks_follow_the_differences(votes: pd.DataFrame) -> None:
    found = rank(votes)
    by_votes = sum(place.points * place.num_votes for place in found.models)
    assert by_votes == pytest.approx(0, abs=1e-6)
    assert [place.points for place in found.models] == sorted(
        (place.points for place in found.models), reverse=True
    )
    assert len(found.differences) == 6
    for place in found.models:
        worse = better = 0
        for gap in found.differences:
            if place.model not in (gap.model_a, gap.model_b):
                continue
            ours = 1 if gap.model_a == place.model else -1
            clear = not gap.interval.low <= 0 <= gap.interval.high
            better += clear and ours * gap.points < 0
            worse += clear and ours * gap.points > 0
        assert (place.best_rank, place.worst_rank) == (1 + better, 4 - worse)
        assert place.interval is not None
        assert place.interval.low < place.points < place.interval.high
    assert found.models[0].best_rank == 1
    assert all(gap.adjusted_p_value >= gap.p_value for gap in found.differences)


@pytest.mark.parametrize("kind", ["bradley-terry", "davidson", "elo"])
def test_order_of_rows_does_not_matter(votes: pd.DataFrame, kind) -> None:  # type: ignore[no-untyped-def]
    shuffled = votes.sample(frac=1, random_state=1).reset_index(drop=True)
    one, two = rank(votes, kind=kind), rank(shuffled, kind=kind)
    assert _strengths(one) == pytest.approx(_strengths(two), abs=1e-9)


def test_elo_is_near_bradley_terry_and_depends_on_its_seed(votes: pd.DataFrame) -> None:
    elo, other = rank(votes, kind="elo"), rank(votes, kind="elo", seed=1)
    assert [place.model for place in elo.models] == [place.model for place in rank(votes).models]
    assert _strengths(elo) != pytest.approx(_strengths(other), abs=1e-9)
    for place in elo.models:
        assert place.interval is not None
        assert place.interval.low < place.interval.high


def test_a_model_that_never_loses_has_no_finite_strength() -> None:
    found = rank(grid_votes(["aaa", "aaa"]))
    assert found.models == ()
    assert "one side won every vote" in found.reason
    assert "imagen" in found.reason


def test_models_that_were_never_compared_are_named(votes: pd.DataFrame) -> None:
    """Two groups of two: the one with more votes is ranked, the other is named."""
    left = votes[votes["model_a"].isin(["m0", "m1"]) & votes["model_b"].isin(["m0", "m1"])]
    right = votes[votes["model_a"].isin(["m2", "m3"]) & votes["model_b"].isin(["m2", "m3"])]
    assert len(left) > len(right)
    found = rank(pd.concat([left, right]))
    assert [place.model for place in found.models] == ["m0", "m1"]
    assert found.models == rank(left).models
    assert [(item.model, item.num_votes, item.reason) for item in found.unranked] == [
        ("m2", len(right), "never compared with the ranked models"),
        ("m3", len(right), "never compared with the ranked models"),
    ]


def _with(votes: pd.DataFrame, *rows: tuple[str, str, str]) -> pd.DataFrame:
    """Add votes (model A, model B, answer) of the first raters on the first prompt."""
    more = [
        (f"r{number}", "p0", "c", a, b, "fidelity", answer)
        for number, (a, b, answer) in enumerate(rows)
    ]
    return pd.concat([votes, pd.DataFrame(more, columns=list(votes.columns[:7]))]).reset_index(
        drop=True
    )


@pytest.mark.parametrize("kind", ["bradley-terry", "davidson", "elo"])
def test_a_weak_model_does_not_remove_the_others(votes: pd.DataFrame, kind: Model) -> None:
    alone = rank(votes, kind=kind)
    found = rank(
        _with(votes, ("m0", "new", "a"), ("best", "m1", "a"), ("best", "m0", "a"),
              ("new", "worse", "a")),
        kind=kind,
    )  # fmt: skip
    assert found.models == alone.models
    assert found.differences == alone.differences
    assert {item.model: (item.num_votes, item.reason) for item in found.unranked} == {
        "best": (2, "2 votes, won all"),
        "new": (2, "1 vote, lost all"),
        "worse": (1, "never compared with the ranked models"),
    }


@pytest.mark.parametrize("kind", ["bradley-terry", "davidson"])
def test_one_tie_links_a_model_and_says_little(votes: pd.DataFrame, kind: Model) -> None:
    """The fit reproduces the only vote exactly, so the clustered variance alone would be near 0."""
    found = rank(_with(votes, ("m0", "new", "tie")), kind=kind)
    new = next(place for place in found.models if place.model == "new")
    assert new.standard_error is not None
    assert new.standard_error > 100
    assert (new.best_rank, new.worst_rank) == (1, 5)
    others = [place for place in found.models if place.model != "new"]
    assert all(place.standard_error < 40 for place in others if place.standard_error)


def test_intervals_hold_for_all_pairs_at_once(votes: pd.DataFrame) -> None:
    """Bonferroni: the interval is that of a single pair at level 1 - 0.05 / 6."""
    found = rank(votes)
    for gap in found.differences:
        assert gap.adjusted_p_value == min(1.0, 6 * gap.p_value)
        excluded = not gap.interval.low <= 0 <= gap.interval.high
        assert excluded == (gap.adjusted_p_value < 0.05)
        half_width = student_t.ppf(1 - 0.025 / 6, 19) * gap.standard_error
        assert gap.interval.high - gap.points == pytest.approx(half_width)
        assert "simultaneous over 6 pairs" in gap.interval.method
        assert gap.interval.level == 0.95


@pytest.mark.parametrize("kind", ["bradley-terry", "davidson", "elo"])
def test_names_what_was_sampled(votes: pd.DataFrame, kind: Model) -> None:
    one_rater = rank(votes.assign(rater_id="r"), kind=kind)
    assert one_rater.generalises_to == ("prompts",)
    both = rank(votes, kind=kind)
    assert both.generalises_to == ("raters", "prompts")
    for ranking, words in ((one_rater, "over prompts"), (both, "over raters and prompts")):
        for place in ranking.models:
            assert place.interval is not None
            assert words in place.interval.method


@pytest.mark.parametrize("kind", ["bradley-terry", "davidson", "elo"])
def test_volatility_is_high_only_where_models_are_close(kind: Model) -> None:
    rng = np.random.default_rng(4)
    leads = {"far": 1.5, "near": 0.02, "same": 0.0}
    rows = []
    for rater in range(15):
        for prompt in range(15):
            a, b = map(str, rng.choice(list(leads), 2, replace=False))
            lead = leads[a] - leads[b] + rng.logistic()
            rows.append(
                (f"r{rater}", f"p{prompt}", "c", a, b, "fidelity", "a" if lead > 0 else "b")
            )
    names = ["rater_id", "prompt_id", "category", "model_a", "model_b", "question", "answer"]
    found = rank(validate_votes(pd.DataFrame(rows, columns=names)), kind=kind)
    volatility = {place.model: place.rank_volatility for place in found.models}
    assert volatility["far"] < 0.02
    assert 0.02 < volatility["near"] < 0.7
    assert volatility["near"] == pytest.approx(volatility["same"], abs=0.02)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("atb", min_size=6, max_size=6), min_size=4, max_size=4))
def test_swapping_the_models_of_votes_changes_no_rank(rows: list[str]) -> None:
    pairs = [("x", "y"), ("y", "z"), ("z", "x"), ("x", "y"), ("y", "z"), ("z", "x")]
    table = pd.DataFrame(
        [
            (f"r{r}", f"p{p}", "c", *pairs[p], "fidelity", {"t": "tie"}.get(letter, letter))
            for r, row in enumerate(rows)
            for p, letter in enumerate(row)
        ],
        columns=["rater_id", "prompt_id", "category", "model_a", "model_b", "question", "answer"],
    )
    swapped = table.assign(
        model_a=table["model_b"],
        model_b=table["model_a"],
        answer=table["answer"].map({"a": "b", "tie": "tie", "b": "a"}),
    )
    one, two = rank(table), rank(swapped)
    assert one.unranked == two.unranked
    assert len(one.models) + len(one.unranked) in (0, 3)  # 0: no two models are linked
    assert _strengths(one) == pytest.approx(_strengths(two), abs=1e-6)
    for gap in one.differences:
        assert gap.interval.high > gap.interval.low


def test_intransitive_triples() -> None:
    """x beats y, y beats z, z beats x, each by 9 votes of 10; w loses to all."""
    rows = []
    for a, b in (("x", "y"), ("y", "z"), ("z", "x"), ("x", "w"), ("y", "w"), ("z", "w")):
        rows += [
            (f"r{r}", f"p{p}", "c", a, b, "fidelity", "b" if (r + p) % 10 == 0 else "a")
            for r in range(10)
            for p in range(10)
        ]
    names = ["rater_id", "prompt_id", "category", "model_a", "model_b", "question", "answer"]
    found = transitivity(validate_votes(pd.DataFrame(rows, columns=names)))
    assert found.num_triples == 4
    (cycle,) = found.intransitive
    assert cycle.models == ("x", "y", "z")
    assert cycle.win_rates == pytest.approx((0.9, 0.9, 0.9))
    assert cycle.beyond_chance
    few = pd.DataFrame(rows, columns=names).query("rater_id in ('r1', 'r2') and prompt_id < 'p2'")
    assert transitivity(validate_votes(few)).num_beyond_chance == 0


def test_triples_that_were_not_all_compared_are_not_counted(votes: pd.DataFrame) -> None:
    pairs = votes[["model_a", "model_b"]].apply(frozenset, axis=1)
    kept = votes[pairs != frozenset(("m0", "m1"))]
    assert transitivity(votes).num_triples == 4
    assert transitivity(kept).num_triples == 2
    assert transitivity(votes).intransitive == ()


def test_no_votes(votes: pd.DataFrame) -> None:
    with pytest.raises(NoVotesError):
        rank(votes.iloc[:0])
