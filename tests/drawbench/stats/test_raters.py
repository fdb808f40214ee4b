"""Rater quality, side bias, ratings of single sets."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.clustered import estimate_mean, make_layout
from drawbench.stats.preference import CLUSTER_COLUMNS, holm
from drawbench.stats.raters import (
    QualityRules,
    filter_raters,
    rater_quality,
    response_times,
    side_bias,
)
from drawbench.stats.ratings import (
    difference_records,
    mean_ratings,
    rating_differences,
    rating_records,
)
from drawbench.votes import validate_votes
from tests.support.vote_tables import grid_votes

NUM_PROMPTS = 20


@pytest.fixture(scope="module")
def votes() -> pd.DataFrame:
    """Four raters: r0 and r1 look, r2 always takes the left, r3 presses at once."""
    rng = np.random.default_rng(0)
    truth = rng.choice(list("ab"), NUM_PROMPTS)
    rows = []
    for rater in range(4):
        for prompt in range(NUM_PROMPTS):
            left = "imagen" if (rater + prompt) % 2 else "glide"
            answer = truth[prompt] if rater != 2 else ("a" if left == "imagen" else "b")
            rows.append({
                "rater_id": f"r{rater}", "prompt_id": f"p{prompt}", "category": "",
                "model_a": "imagen", "model_b": "glide", "question": "fidelity", "answer": answer,
                "left_model": left, "response_s": 0.5 if rater == 3 else 10.0 + prompt,
            })  # fmt: skip
    return validate_votes(pd.DataFrame(rows))


def test_flags(votes: pd.DataFrame) -> None:
    table = rater_quality(votes).set_index("rater_id")
    assert table["flags"].to_dict() == {
        "r0": (),
        "r1": (),
        "r2": ("straight-lining",),
        "r3": ("too fast",),
    }
    assert table.loc["r2", "same_side"] == 1.0
    assert table.loc["r2", "longest_run"] == NUM_PROMPTS
    assert table.loc["r3", "median_response_s"] == 0.5
    assert set(filter_raters(votes, table.reset_index())["rater_id"]) == {"r0", "r1"}


def test_agreement_with_the_others_by_hand() -> None:
    """On p0 r0 agrees with one of two others, on p1 with both: (1/2 + 1) / 2."""
    table = rater_quality(grid_votes(["aa", "aa", "ba"])).set_index("rater_id")
    assert table.loc["r0", "agreement"] == 0.75
    assert table.loc["r2", "agreement"] == 0.5


def test_runs_end_where_the_question_does() -> None:
    """Ten times left on each of two questions is a run of ten, not of twenty."""
    one = grid_votes(["a" * 10]).assign(left_model="imagen")
    votes = pd.concat([one, one.assign(question="alignment")], ignore_index=True)
    assert rater_quality(votes)["longest_run"].item() == 10


def test_order_is_that_of_the_answers_and_not_of_the_rows() -> None:
    votes = grid_votes(["ababababab"]).assign(
        left_model="imagen", answered_at=[f"2026-01-01T00:00:{second:02d}" for second in [
            0, 5, 1, 6, 2, 7, 3, 8, 4, 9]]
    )  # fmt: skip
    assert rater_quality(votes)["longest_run"].item() == 5


@pytest.mark.parametrize(
    ("rules", "flags"),
    [
        (QualityRules(min_median_response_s=0.1), ("straight-lining",)),
        (QualityRules(max_same_side=1.0), ("too fast",)),
        (QualityRules(min_votes=NUM_PROMPTS + 1), ("too fast",)),
    ],
)
def test_each_rule_matters(votes: pd.DataFrame, rules: QualityRules, flags: tuple) -> None:
    table = rater_quality(votes, rules)
    assert tuple(flag for row in table["flags"] for flag in row) == flags


@pytest.mark.parametrize("num_votes", [1, 3, 9])
def test_a_rater_with_few_answers_can_be_too_fast(num_votes: int) -> None:
    fast = grid_votes(["ab" * 5]).head(num_votes).assign(response_s=0.5)
    assert rater_quality(fast)["flags"].item() == ("too fast",)
    assert rater_quality(fast.assign(response_s=2.5))["flags"].item() == ()


@pytest.mark.parametrize(
    ("shown", "failed", "flagged"), [(5, 1, False), (5, 2, True), (None, 1, True), (None, 0, False)]
)
def test_attention_checks(shown: int | None, failed: int, flagged: bool) -> None:
    votes = grid_votes(["ab", "ba"]).assign(checks_failed=failed)
    if shown is not None:
        votes["checks_shown"] = shown
    assert ("failed checks" in rater_quality(votes)["flags"][0]) == flagged


def test_platform_status() -> None:
    votes = grid_votes(["ab", "ba"])
    votes["rater_status"] = ["rejected", "rejected", "approved", "approved"]
    assert list(rater_quality(votes)["flags"]) == [("refused by the platform",), ()]


def test_what_was_not_recorded_is_not_judged() -> None:
    table = rater_quality(grid_votes(["a" * 12, "a" * 12]))
    assert list(table["flags"]) == [(), ()]
    assert table["same_side"].isna().all()
    assert side_bias(grid_votes(["ab"])).reason.startswith("sides were not recorded")
    assert response_times(grid_votes(["ab"])) == {}


def test_side_bias_is_found_and_absent() -> None:
    rng = np.random.default_rng(3)
    base = grid_votes(["a" * 30] * 10)
    left = rng.choice(["imagen", "glide"], len(base))
    for chance, biased in ((0.8, True), (0.5, False)):
        takes_left = rng.random(len(base)) < chance
        answer = np.where(takes_left == (left == "imagen"), "a", "b")
        found = side_bias(base.assign(left_model=left, answer=answer))
        assert found.biased == biased
        assert found.left_rate is not None
        assert found.left_rate.value == pytest.approx(chance, abs=0.08)
        assert found.a_on_left == pytest.approx(0.5, abs=0.08)


def test_no_votes(votes: pd.DataFrame) -> None:
    for compute in (rater_quality, side_bias):
        with pytest.raises(NoVotesError):
            compute(votes.iloc[:0])


def _ratings(answers: dict[str, list[str]]) -> pd.DataFrame:
    scores = {"yes": 100.0, "somewhat": 50.0, "no": 0.0}
    rows = [
        (f"r{index % 3}", f"p{index // 3}", "", model, "alignment", answer, scores[answer])
        for model, given in answers.items()
        for index, answer in enumerate(given)
    ]
    names = ["rater_id", "prompt_id", "category", "model", "question", "answer", "score"]
    return pd.DataFrame(rows, columns=names)


def test_mean_rating_by_hand() -> None:
    table = _ratings({"imagen": ["yes", "yes", "somewhat", "no", "yes", "yes"],
                      "real": ["yes", "yes", "yes", "yes", "yes", "no"]})  # fmt: skip
    imagen, real = mean_ratings(table)
    assert (imagen.model, real.model) == ("imagen", "real")
    assert imagen.value == pytest.approx(75.0)
    assert real.value == pytest.approx(500 / 6)
    assert dict(imagen.answers) == pytest.approx({"yes": 4 / 6, "somewhat": 1 / 6, "no": 1 / 6})
    assert imagen.interval is not None
    assert 0 <= imagen.interval.low < 75 < imagen.interval.high <= 100
    record = rating_records((imagen,), {})[0]
    assert (record.value, record.n, record.subject) == (imagen.value, 6, "imagen")


def test_unanimous_ratings_at_the_end_of_the_scale_have_a_width() -> None:
    table = _ratings({"imagen": ["yes"] * 6})
    (unknown,) = mean_ratings(table)
    assert unknown.interval is None
    assert "the scale of the question is not known" in unknown.reason
    (found,) = mean_ratings(table, scales={"alignment": (0.0, 100.0)})
    assert found.value == 100
    assert found.interval is not None
    assert 0 < found.interval.low < 50
    assert found.interval.high == 100


def test_intervals_of_ratings_reach_to_the_offered_scale() -> None:
    """Nobody answered "no", but the question offers it."""
    table = _ratings({"imagen": ["somewhat", "yes"] * 3})
    (given,) = mean_ratings(table)
    (offered,) = mean_ratings(table, scales={"alignment": (0.0, 100.0)})
    assert given.value == offered.value == 75
    assert given.interval is not None
    assert offered.interval is not None
    assert given.interval.low >= 50 > offered.interval.low
    assert offered.interval.high <= 100
    with pytest.raises(VotesError, match="scores from 50 to 100, outside its scale of 0 to 80"):
        mean_ratings(table, scales={"alignment": (0.0, 80.0)})


SCALES = {"alignment": (0.0, 100.0)}


def test_rating_differences_by_hand() -> None:
    """Six ratings of each, by the same raters on the same prompts, with these differences.

    Its standard error is that of the mean difference, whatever the models have in common.
    """
    table = _ratings({"imagen": ["yes", "yes", "yes", "no", "no", "yes"],
                      "real": ["somewhat", "somewhat", "somewhat", "no", "no", "yes"]})  # fmt: skip
    (gap,) = rating_differences(table, scales=SCALES)
    assert (gap.model_a, gap.model_b) == ("imagen", "real")
    assert (gap.num_votes, gap.num_prompts) == (12, 2)
    assert gap.value == pytest.approx(25)
    layout = make_layout(*(table[:6][name].to_numpy(object) for name in CLUSTER_COLUMNS))
    differences = np.array([50, 50, 50, 0, 0, 0]) / 100
    expected = estimate_mean(differences, np.ones(6), layout)
    assert expected.standard_error is not None
    assert gap.standard_error == pytest.approx(100 * expected.standard_error)
    assert gap.interval is not None
    assert -100 <= gap.interval.low < 25 < gap.interval.high <= 100
    assert gap.p_value == gap.adjusted_p_value


def test_pairing_removes_what_prompts_have_in_common() -> None:
    """Prompts differ much, models by half a step of five; rated by the same raters or by others."""
    rng = np.random.default_rng(0)
    rows = []
    for prompt, easy in enumerate(rng.uniform(1, 3, 24)):
        for model, gain in (("x", 0.5), ("y", 0.0)):
            for rater in range(8):
                score = 25 * np.clip(np.round(easy + gain + 0.4 * rng.normal()), 0, 4)
                rows.append((f"r{rater}", f"p{prompt}", "", model, "alignment", "", score))
    names = ["rater_id", "prompt_id", "category", "model", "question", "answer", "score"]
    table = pd.DataFrame(rows, columns=names)
    others = table.assign(rater_id=table["rater_id"] + table["model"])
    elsewhere = others.assign(prompt_id=table["prompt_id"] + table["model"])
    x, y = mean_ratings(table, scales=SCALES)
    assert x.interval is not None
    assert y.interval is not None
    assert x.interval.low < y.interval.high  # the means alone don't tell them apart
    for votes in (table, others):
        (found,) = rating_differences(votes, scales=SCALES)
        assert (found.num_votes, found.num_prompts) == (384, 24)
        assert found.value == pytest.approx(12.5, abs=2)
        assert found.better == "x"
        assert found.adjusted_p_value is not None
        assert found.adjusted_p_value < 0.01
    (record,) = difference_records((found,), {})
    assert (record.details["num_tests"], record.details["better"]) == (1, "x")
    assert rating_differences(elsewhere, scales=SCALES) == ()


def test_unanimous_ratings_of_two_models_are_compared_with_a_width() -> None:
    same = _ratings({"a": ["yes"] * 12, "b": ["yes"] * 12})
    (even,) = rating_differences(same, scales=SCALES)
    assert (even.value, even.p_value) == (0, pytest.approx(1))
    (far,) = rating_differences(_ratings({"a": ["yes"] * 12, "b": ["no"] * 12}), scales=SCALES)
    assert far.value == 100
    for found in (even, far):
        assert found.interval is not None
        assert found.interval.high - found.interval.low > 20


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["yes", "somewhat", "no"]), min_size=12, max_size=12))
def test_exchanging_the_models_mirrors_the_difference(answers: list[str]) -> None:
    (one,) = rating_differences(_ratings({"a": answers[:6], "b": answers[6:]}), scales=SCALES)
    (two,) = rating_differences(_ratings({"a": answers[6:], "b": answers[:6]}), scales=SCALES)
    assert one.value == pytest.approx(-two.value)
    assert one.interval is not None
    assert two.interval is not None
    assert one.interval.low == pytest.approx(-two.interval.high)
    assert one.interval.low <= one.value <= one.interval.high
    assert one.p_value == pytest.approx(two.p_value)


def test_differences_are_corrected_for_their_number() -> None:
    mostly = ["yes", "yes", "yes", "yes", "yes", "no"]
    table = _ratings({"a": mostly, "b": ["no"] * 6, "c": ["no"] * 6})
    found = rating_differences(table, scales=SCALES)
    assert [(item.model_a, item.model_b) for item in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    p_values = [item.p_value or 0 for item in found]
    assert [item.adjusted_p_value for item in found] == pytest.approx(holm(p_values))
    assert found[2].better is None
    assert found[2].value == 0


def test_models_without_a_common_prompt_are_not_compared() -> None:
    table = _ratings({"a": ["yes", "no", "yes"], "b": ["yes", "no", "yes"]})
    table.loc[table["model"] == "b", "prompt_id"] = "other"
    assert rating_differences(table, scales=SCALES) == ()


def test_ratings_without_scores_or_columns() -> None:
    table = _ratings({"imagen": ["yes"]})
    with pytest.raises(NoVotesError, match="No rating has a score"):
        mean_ratings(table.assign(score=None))
    with pytest.raises(VotesError, match="'model' is missing"):
        mean_ratings(table.drop(columns="model"))
