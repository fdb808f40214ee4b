"""Charts put things where their values say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.reports import charts
from tests.evalkit.reports.examples import QUICK, make_record


def test_values_and_intervals_keep_their_order_and_proportions() -> None:
    chart = charts.interval_chart(
        [make_record(value=value, half_width=1.0) for value in (10.0, 15.0, 20.0)]
    )
    assert chart is not None
    first, second, third = chart.rows
    # The axis spans 9 to 21 between margins of 3 %: 94 % of the width for 12 units.
    assert first.low == pytest.approx(3.0)
    assert third.high == pytest.approx(97.0)
    assert second.at == pytest.approx(50.0)
    assert first.at == pytest.approx(3 + 94 / 12, abs=1e-3)
    assert chart.zero is None


def test_an_axis_of_differences_holds_zero() -> None:
    chart = charts.interval_chart([make_record("fd-difference", 2.0, half_width=0.5)])
    assert chart is not None
    assert chart.zero == pytest.approx(3.0)


def test_records_without_a_value_are_not_drawn() -> None:
    failed = make_record(value=None, state="failed", reason="no weights")
    assert charts.interval_chart([failed]) is None
    chart = charts.interval_chart([failed, make_record(value=3.0)])
    assert chart is not None
    assert len(chart.rows) == 1


@QUICK
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=6))
def test_everything_stays_on_the_axis(values: list[float]) -> None:
    chart = charts.interval_chart([make_record(value=value, half_width=0.5) for value in values])
    assert chart is not None
    places = [row.at for row in chart.rows] + [tick.at for tick in chart.ticks]
    assert all(0 <= place <= 100 for place in places)


@QUICK
@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e9))
def test_ticks_are_few_and_inside(low: float, width: float) -> None:
    high = low + width
    ticks = charts.nice_ticks(low, high)
    assert len(ticks) <= 7
    assert all(low - 1e-6 * width <= tick <= high + 1e-6 * width for tick in ticks)


def test_a_histogram_counts_each_value_once() -> None:
    found = charts.histogram_of([1.0, 1.1, 2.0, 9.9, math.nan])
    assert found is not None
    assert found.total == 4
    assert max(bar.height for bar in found.bars) == 1.0
    assert sum(bar.width for bar in found.bars) == pytest.approx(100, abs=0.1)


@QUICK
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).filter(lambda v: max(v) - min(v) > 1e-3)
)
def test_no_value_falls_out_of_the_histogram(values: list[float]) -> None:
    found = charts.histogram_of(values)
    assert found is not None
    assert found.total == len(values)
    assert len(found.bars) <= 42


@pytest.mark.parametrize(
    "raw",
    [
        None,
        "x",
        {},
        {"edges": [0, 1], "counts": [1, 2]},
        {"edges": [0, 1], "counts": [0]},
        {"edges": [0, "x"], "counts": [1]},
        {"edges": [0, math.nan], "counts": [1]},
        {"edges": [1, 1], "counts": [1]},
    ],
)
def test_what_is_no_histogram_is_left_out(raw: object) -> None:
    assert charts.histogram(raw) is None
    assert charts.histogram_of([2.0, 2.0]) is None
