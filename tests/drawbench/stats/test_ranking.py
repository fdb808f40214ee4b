"""Orders of several models."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from drawbench.errors import NoVotesError
from drawbench.stats.preference import preference
from drawbench.stats.ranking import POINTS, Ranking, rank
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
    places = sorted(ranking.models, key=lambda place: place.model)
    return np.array([place.points for place in places]) / POINTS


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
    assert sum(place.points for place in found.models) == pytest.approx(0, abs=1e-6)
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
    left = votes[votes["model_a"].isin(["m0", "m1"]) & votes["model_b"].isin(["m0", "m1"])]
    right = votes[votes["model_a"].isin(["m2", "m3"]) & votes["model_b"].isin(["m2", "m3"])]
    found = rank(pd.concat([left, right]))
    assert found.models == ()
    assert "never compared" in found.reason


def test_no_votes(votes: pd.DataFrame) -> None:
    with pytest.raises(NoVotesError):
        rank(votes.iloc[:0])
