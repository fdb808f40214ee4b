"""Histograms put things where their values say."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.reports import charts
from tests.evalkit.reports.examples import QUICK


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
