"""Verdicts: by hand, against two t tests, and never passed by what is not a number."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evalkit.core.results import Direction, Interval, ResultRecord
from evalkit.gate.requirements import (
    EXIT_CODES,
    Judged,
    Kind,
    Requirement,
    Rule,
    Verdict,
    judge,
    judge_any,
    overall,
)
from evalkit.metrics.means import mean_interval

RULE = Rule()
ENDS = st.floats(-3, 3)


def record(
    low: float, high: float, direction: Direction = "higher", *, level: float = 0.9, **more: Any
) -> ResultRecord:
    interval = Interval(low=low, high=high, level=level, method="simulated")
    more = {"value": (low + high) / 2, **more}
    return ResultRecord(
        metric="clip-score-difference", n=100, direction=direction, interval=interval, **more
    )


def verdict(kind: Kind, value: float, found: ResultRecord) -> Verdict:
    required = Requirement(metric="clip-score", kind=kind, value=value)
    return judge(required, found, RULE, num_images=100).verdict


@pytest.mark.parametrize(
    ("kind", "value", "low", "high", "expected"),
    [
        ("non-inferior", 1.0, -0.9, 0.5, "passed"),
        ("non-inferior", 1.0, -1.0, 0.5, "undecided"),
        ("non-inferior", 1.0, -3.0, -1.0, "undecided"),
        ("non-inferior", 1.0, -3.0, -1.1, "failed"),
        ("equivalent", 1.0, -0.9, 0.9, "passed"),
        ("equivalent", 1.0, 0.5, 1.5, "undecided"),
        ("equivalent", 1.0, 1.1, 1.5, "failed"),
        ("equivalent", 1.0, -1.5, -1.1, "failed"),
        ("equivalent", 1.0, -2.0, 2.0, "undecided"),
        ("superior", 0.0, 0.1, 0.5, "passed"),
        ("superior", 0.0, -0.1, 0.5, "undecided"),
        ("superior", 0.0, -0.5, -0.1, "failed"),
        ("superior", 0.3, 0.1, 0.5, "undecided"),
        ("bound", 30.0, 30.5, 31.0, "passed"),
        ("bound", 30.0, 29.5, 31.0, "undecided"),
        ("bound", 30.0, 28.0, 29.0, "failed"),
    ],
)
def test_verdicts_by_hand_and_mirrored(
    kind: Kind, value: float, low: float, high: float, expected: Verdict
) -> None:
    """With a metric of which less is better, the mirrored interval has the same verdict."""
    assert verdict(kind, value, record(low, high)) == expected
    mirrored = -value if kind == "bound" else value
    assert verdict(kind, mirrored, record(-high, -low, "lower")) == expected


@given(low=ENDS, width=st.floats(0, 4), kind=st.sampled_from(["non-inferior", "equivalent"]))
def test_an_interval_that_contains_a_bound_is_undecided(
    low: float, width: float, kind: Literal["non-inferior", "equivalent"]
) -> None:
    high = low + width
    contains = low <= -1 <= high or (kind == "equivalent" and low <= 1 <= high)
    assert (verdict(kind, 1.0, record(low, high)) == "undecided") == contains


def test_the_limits_are_one_sided_t_tests() -> None:
    """Non-inferiority is the one-sided paired t test, equivalence the two of Schuirmann 1987."""
    rng = np.random.default_rng(0)
    decided = set()
    for _ in range(300):
        values = rng.normal(rng.uniform(-1.2, 1.2), 1, size=12)
        found = mean_interval(values, level=RULE.level)
        assert found.interval is not None
        one = record(found.interval.low, found.interval.high, value=found.value)
        above = stats.ttest_1samp(values, -0.8, alternative="greater").pvalue < 0.05
        below = stats.ttest_1samp(values, 0.8, alternative="less").pvalue < 0.05
        worse = stats.ttest_1samp(values, -0.8, alternative="less").pvalue < 0.05
        expected = "passed" if above else "failed" if worse else "undecided"
        assert verdict("non-inferior", 0.8, one) == expected
        assert (verdict("equivalent", 0.8, one) == "passed") == (above and below)
        decided.add(expected)
    assert decided == {"passed", "failed", "undecided"}


def test_an_interval_of_another_level_is_a_bug() -> None:
    """The two-sided 95 % interval would make a one-sided test at 2.5 %."""
    with pytest.raises(ValueError, match=r"level 0\.95, but one-sided limits at 0\.05"):
        verdict("non-inferior", 1.0, record(-0.1, 0.1, level=0.95))


class TestNotMeasured:
    @pytest.mark.parametrize("state", ["failed", "not_applicable"])
    def test_a_record_without_a_value(self, state: Any) -> None:
        lacking = ResultRecord(
            metric="x", value=None, n=1, direction="lower", state=state, reason="no weights"
        )
        required = Requirement(metric="x", kind="non-inferior", value=1)
        found = judge(required, lacking, RULE, num_images=1)
        assert (found.verdict, found.reason) == ("not measured", "no weights")

    def test_a_record_without_an_interval(self) -> None:
        found = replace(record(0, 0), interval=None, reason="one draw")
        assert verdict("non-inferior", 1.0, found) == "not measured"

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("where", ["value", "low", "high", "standard_error"])
    def test_a_record_that_is_no_number(self, where: str, bad: float) -> None:
        """Records refuse NaN when they are made; one that has it all the same does not pass."""
        found = record(-0.1, 0.1, standard_error=0.1)
        holder = found.interval if where in ("low", "high") else found
        object.__setattr__(holder, where, bad)
        for kind in ("non-inferior", "equivalent", "superior", "bound"):
            assert verdict(kind, 1.0, found) == "not measured"  # type: ignore[arg-type]
        any_of = Requirement(metric="x", kind="superior in any")
        (judged,) = judge_any([any_of], [found], RULE, num_images=1)
        assert judged.verdict == "not measured"

    def test_a_metric_without_a_better_direction(self) -> None:
        assert verdict("non-inferior", 1.0, record(-0.1, 0.1, "none")) == "not measured"


def judged(*verdicts: Verdict, kind: Kind = "non-inferior") -> list[Judged]:
    return [
        Judged(requirement=Requirement(metric=f"m{i}", kind=kind, value=1), verdict=one)
        for i, one in enumerate(verdicts)
    ]


class TestOverall:
    @given(st.lists(st.sampled_from(sorted(EXIT_CODES)), max_size=5))
    def test_it_passes_only_if_all_pass(self, verdicts: list[Verdict]) -> None:
        found = overall(judged(*verdicts))
        assert (found == "passed") == (len(verdicts) > 0 and set(verdicts) == {"passed"})
        assert (EXIT_CODES[found] == 0) == (found == "passed")

    def test_a_failure_decides_whatever_else_is_missing(self) -> None:
        assert overall(judged("passed", "not measured", "undecided", "failed")) == "failed"
        assert overall(judged("passed", "not measured", "undecided")) == "not measured"
        assert overall(judged("passed", "undecided")) == "undecided"
        assert overall([]) == "not measured"

    def test_of_any_one_must_pass(self) -> None:
        def of_any(*verdicts: Verdict) -> Verdict:
            return overall(judged(*verdicts, kind="superior in any"))

        assert of_any("passed", "failed") == "passed"
        assert of_any("undecided", "failed") == "undecided"
        assert of_any("failed", "failed") == "failed"
        assert of_any("failed", "not measured") == "not measured"
        assert overall([*judged("failed"), *judged("passed", kind="superior in any")]) == "failed"


def test_superiority_in_any_is_corrected_by_holm() -> None:
    """Two-sided p of 0.06 is one-sided 0.03: enough alone, not as the smaller of two."""
    better = record(0.1, 1.0, details={"p_value": 0.06})
    other = record(-0.5, 0.7, details={"p_value": 0.8})
    required = [Requirement(metric=name, kind="superior in any") for name in ("a", "b")]
    (alone,) = judge_any(required[:1], [better], RULE, num_images=100)
    assert (alone.verdict, alone.p_value) == ("passed", pytest.approx(0.03))
    both = judge_any(required, [better, other], RULE, num_images=100)
    assert [one.verdict for one in both] == ["undecided", "undecided"]
    assert both[0].p_value == pytest.approx(0.06)
    assert "correction" in both[0].reason
    worse = record(-1.0, -0.1, details={"p_value": 1e-9})
    (found,) = judge_any(required[:1], [worse], RULE, num_images=100)
    assert (found.verdict, found.p_value) == ("failed", pytest.approx(1))


class TestImagesToDecide:
    def test_they_decide_with_the_power(self) -> None:
        """By hand for a normal interval: ((1.645 + 0.842) se / distance)^2 n, with n = 100."""
        error = 0.5
        half = 1.6448536 * error
        found = judge(
            Requirement(metric="x", kind="non-inferior", value=0.6),
            record(-0.2 - half, -0.2 + half, value=-0.2, standard_error=error),
            RULE,
            num_images=400,
        )
        assert found.verdict == "undecided"
        expected = 4 * 100 * ((1.6448536 + 0.8416212) * error / 0.4) ** 2
        assert found.images_to_decide == pytest.approx(expected, rel=0.01)

    def test_beyond_the_margin_they_decide_that_it_fails(self) -> None:
        required = Requirement(metric="x", kind="non-inferior", value=0.6)
        beyond = record(-2.0, 0.2, value=-0.9, standard_error=0.66)
        assert judge(required, beyond, RULE, num_images=100).images_to_decide is not None

    def test_at_the_margin_none_does(self) -> None:
        required = Requirement(metric="x", kind="non-inferior", value=0.9)
        at = record(-2.0, 0.2, value=-0.9, standard_error=0.66)
        found = judge(required, at, RULE, num_images=100)
        assert found.images_to_decide is None
        assert "no number" in found.reason
