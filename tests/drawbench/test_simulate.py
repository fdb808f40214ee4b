"""Simulated raters."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawbench.errors import StudyError
from drawbench.simulation.raters import (
    DRAWBENCH_SIZES,
    RATER_PREFIX,
    SimulatedPanel,
    simulate_votes,
    tie_threshold_for,
)
from drawbench.stats.coverage import binomial_band
from drawbench.stats.preference import preference

PANEL = SimulatedPanel(strengths={"x": 0.4, "y": 0.0}, seed=5)
ITEM = {"category": "Colors", "model_a": "x", "model_b": "y", "question": "fidelity"}
FREE = SimulatedPanel(strengths={"x": 0.3, "y": 0.0}, rater_sd=0.0, prompt_sd=0.0)


def _answers(panel: SimulatedPanel, n: int = 2000, **item: str) -> list[str]:
    """Answers of n raters to one prompt each."""
    return [
        panel.answer(rater_id=f"r{i}", prompt_id=f"p{i}", **{**ITEM, **item}).answer
        for i in range(n)
    ]


def test_drawbench_layout() -> None:
    assert (len(DRAWBENCH_SIZES), sum(DRAWBENCH_SIZES.values())) == (11, 200)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=5), st.text(max_size=5), st.integers(0, 3))
def test_asked_twice_answers_the_same_and_mirrored_if_swapped(
    rater: str, prompt: str, seed: int
) -> None:
    panel = SimulatedPanel(strengths={"x": 0.4, "y": 0.0}, seed=seed, side_bias=0.2)
    item = {**ITEM, "rater_id": rater, "prompt_id": prompt, "left_model": "y"}
    one = panel.answer(**item)
    assert panel.answer(**item) == one
    swapped = panel.answer(**{**item, "model_a": "y", "model_b": "x"})
    assert swapped.answer == {"a": "b", "tie": "tie", "b": "a"}[one.answer]


@pytest.mark.parametrize(
    "panel",
    [
        FREE,
        SimulatedPanel(strengths={"x": -0.5, "y": 0.0}, rater_sd=0.8, prompt_sd=0.6),
        SimulatedPanel(strengths={"x": 0.2, "y": 0.0}, category_effects={"Colors": 0.7}),
        SimulatedPanel(strengths={"x": 0.2, "y": 0.0}, question_effects={"fidelity": -0.9}),
        SimulatedPanel(strengths={"x": 0.5, "y": 0.0}, lazy_share=0.5),
    ],
    ids=["plain", "effects", "category", "question", "lazy"],
)
def test_answers_come_as_often_as_the_panel_says(panel: SimulatedPanel) -> None:
    half = [_answers(panel, 1000, left_model=left) for left in ("x", "y")]
    answers = half[0] + half[1]
    shares = panel.shares("x", "y", category="Colors", question="fidelity")
    assert shares.a + shares.tie + shares.b == pytest.approx(1)
    # The two halves ask the same raters from both sides; the band allows for that.
    for name, share in (("a", shares.a), ("tie", shares.tie), ("b", shares.b)):
        low, high = binomial_band(share, 1000)
        assert low <= answers.count(name) / 2000 <= high


def test_side_bias_moves_answers_to_the_left() -> None:
    panel = SimulatedPanel(strengths={"x": 0.0, "y": 0.0}, side_bias=0.5)
    left, right = (_answers(panel, 500, left_model=model).count("a") for model in ("x", "y"))
    assert left > right + 100
    plain = SimulatedPanel(strengths={"x": 0.0, "y": 0.0})
    assert _answers(plain, 200, left_model="x") == _answers(plain, 200, left_model="y")


def test_lazy_raters_are_quick_and_some_always_take_the_left() -> None:
    panel = SimulatedPanel(strengths={"x": 3.0, "y": 0.0}, lazy_share=1.0)
    given = [
        [
            panel.answer(rater_id=f"r{rater}", prompt_id=f"p{i}", left_model="y", **ITEM)
            for i in range(30)
        ]
        for rater in range(40)
    ]
    always_left = [all(one.answer == "b" for one in row) for row in given]
    assert 8 <= sum(always_left) <= 32
    seconds = sorted(one.response_s for row in given for one in row)
    assert seconds[len(seconds) // 2] < 2.0


def test_seed_and_question_change_the_draws() -> None:
    other = SimulatedPanel(strengths={"x": 0.4, "y": 0.0}, seed=6)
    assert _answers(PANEL, 50) != _answers(other, 50)
    assert _answers(PANEL, 50) != _answers(PANEL, 50, question="alignment")


def test_threshold_gives_the_share_of_ties() -> None:
    threshold = tie_threshold_for(0.25, spread=FREE.spread)
    panel = SimulatedPanel(strengths={"x": 0.0, "y": 0.0}, rater_sd=0, prompt_sd=0,
                           tie_threshold=threshold)  # fmt: skip
    assert panel.shares("x", "y").tie == pytest.approx(0.25)


def test_votes_are_labelled_balanced_and_complete() -> None:
    votes = simulate_votes(PANEL, sizes={"one": 4, "two": 6}, raters_per_category=8)
    assert len(votes) == 2 * 8 * (4 + 6)
    assert votes["simulated"].all()
    assert votes["rater_id"].str.startswith(RATER_PREFIX).all()
    assert (votes["left_model"] == "x").mean() == 0.5
    assert (
        votes.groupby("prompt_id")["left_model"].agg(lambda left: (left == "x").mean()) == 0.5
    ).all()
    assert votes.groupby(["prompt_id", "question"])["rater_id"].nunique().eq(8).all()


def test_a_tournament_shows_every_pair_equally_often() -> None:
    panel = SimulatedPanel(strengths={"x": 0.4, "y": 0.0, "z": -0.4})
    pairs = [("x", "y"), ("x", "z"), ("y", "z")]
    votes = simulate_votes(panel, sizes={"one": 6}, raters_per_category=6, pairs=pairs)
    assert set(votes.groupby(["model_a", "model_b"]).size()) == {2 * 36 / 3}


def test_known_preference_is_found_again() -> None:
    votes = simulate_votes(PANEL, sizes={"one": 30, "two": 30}, raters_per_category=20,
                           questions=("fidelity",))  # fmt: skip
    found = preference(votes).win_rate
    truth = PANEL.shares("x", "y").win_rate
    assert found.standard_error is not None
    assert abs(found.value - truth) < 3.5 * found.standard_error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strengths": {"x": 1.0}}, "at least 2"),
        ({"rater_sd": -1}, "rater_sd is -1"),
        ({"noise": 0}, "noise is 0"),
        ({"lazy_share": 2}, r"share in \[0, 1\]"),
    ],
)
def test_impossible_panels_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        SimulatedPanel(**{"strengths": {"x": 0.0, "y": 0.0}, **settings})
    with pytest.raises(StudyError, match="has no model 'z'"):
        PANEL.answer(rater_id="r", prompt_id="p", **{**ITEM, "model_b": "z"})


def test_imports_stay_light() -> None:
    """The page's tests drive raters, and `--help` loads commands, without arrays or tables."""
    modules = [
        "simulation.raters",
        "commands.results",
        "commands.plan",
        "commands.convert",
        "commands.simulate",
    ]
    code = (
        f"import {', '.join(f'drawbench.{name}' for name in modules)}, sys;"
        "print(sorted({'numpy', 'scipy', 'pandas', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
