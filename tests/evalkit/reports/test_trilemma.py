"""Quality, diversity and speed: positions are by value, the better the further out."""

from __future__ import annotations

import math

import pytest

from evalkit.core.results import ResultRecord
from evalkit.reports.trilemma import _Axis, trilemma_chart
from tests.evalkit.reports.examples import make_record


def records(subject: str, fd: float, recall: float, speed: float) -> list[ResultRecord]:
    return [
        make_record("fd-infinity", fd, direction="lower", half_width=0.2, subject=subject),
        make_record("recall-k3", recall, half_width=0.05, subject=subject),
        make_record("images-per-second", speed, unit="images/s", subject=subject,
                    reason="no interval: one batch"),
    ]  # fmt: skip


BOTH = [*records("good", 1.0, 0.9, 2.0), *records("fast", 3.0, 0.5, 200.0)]


def axis(metric: str, angle: float = 90.0, *, log: bool = False) -> _Axis:
    found = {record.subject: record for record in BOTH if record.metric == metric}
    return _Axis(records=found, angle=angle, log=log)


def test_the_better_is_further_out() -> None:
    quality, diversity = axis("fd-infinity"), axis("recall-k3")
    assert quality.reach(1.0) > quality.reach(3.0), "a low distance is good"
    assert diversity.reach(0.9) > diversity.reach(0.5)


def test_equal_steps_are_equal_lengths_and_factors_on_a_log_scale() -> None:
    linear, log = axis("fd-infinity"), axis("images-per-second", log=True)
    assert linear.reach(1.0) - linear.reach(2.0) == pytest.approx(
        linear.reach(2.0) - linear.reach(3.0)
    )
    assert log.reach(20.0) - log.reach(2.0) == pytest.approx(log.reach(200.0) - log.reach(20.0))


def test_a_position_is_on_its_axis() -> None:
    x, y = axis("recall-k3", angle=210.0).at(100.0)
    assert math.hypot(x, y) == pytest.approx(100.0)
    assert math.degrees(math.atan2(y, x)) % 360 == pytest.approx(210.0)


def test_the_chart_has_each_model_interval_and_corner() -> None:
    chart = trilemma_chart(BOTH, ["good", "fast"])
    assert chart is not None
    for text in ("good", "fast", "FD∞", "Recall k3 ↑", "Images per second (images/s) ↑"):
        assert text in chart.svg
    assert (
        chart.svg.count('aria-roledescription="rule mark"') >= 3 + 4 or "reach_marks" in chart.svg
    )
    assert "<script" not in chart.svg


def test_a_model_without_one_of_the_three_is_named() -> None:
    others = [r for r in records("slow", 2.0, 0.7, 1.0) if r.metric != "images-per-second"]
    chart = trilemma_chart([*BOTH, *others], ["good", "fast", "slow"])
    assert chart is not None
    assert chart.explanation.endswith("Not drawn, for lack of one of the three: slow.")
    assert "slow" not in chart.svg


def test_there_is_no_chart_of_fewer_than_two() -> None:
    assert trilemma_chart(BOTH, ["good"]) is None
    without = [record for record in BOTH if record.metric != "recall-k3"]
    assert trilemma_chart(without, ["good", "fast"]) is None
    assert trilemma_chart([], []) is None


def test_equal_values_have_a_place() -> None:
    same = [*records("a", 1.0, 0.5, 2.0), *records("b", 1.0, 0.5, 2.0)]
    assert trilemma_chart(same, ["a", "b"]) is not None
