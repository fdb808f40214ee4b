"""Charts of values and intervals: positions, read from the SVG that is drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.reports.html import ComparisonReport, render_comparison
from evalkit.reports.interval_charts import WIDTH_PX, ChartRow, interval_chart
from tests.evalkit.reports.examples import make_record

SVG = "{http://www.w3.org/2000/svg}"
PIXEL = 0.01
"""Positions are printed with many decimals; anything closer is the same place."""


def _group(svg: str, name: str) -> list[ElementTree.Element]:
    """Return the drawn elements of one kind of mark."""
    root = ElementTree.fromstring(svg)
    found = [g for g in root.iter(f"{SVG}g") if name in g.get("class", "").split()]
    return [element for group in found for element in group if element.tag != f"{SVG}g"]


def _place(element: ElementTree.Element) -> tuple[float, float]:
    match = re.match(r"translate\(([-\d.e]+),([-\d.e]+)\)", element.get("transform", ""))
    assert match is not None
    return float(match[1]), float(match[2])


def _scale(svg: str, value: float) -> float:
    """Return where the labelled ticks of the axis say that a value is."""
    ticks = {
        float((tick.text or "").replace("\u2212", "-").replace(",", "")): _place(tick)[0]
        for tick in _group(svg, "role-axis-label")
        if tick.get("text-anchor") == "middle"
    }
    (low, x_low), *_, (high, x_high) = sorted(ticks.items())
    return x_low + (value - low) * (x_high - x_low) / (high - low)


def _draw(rows: Sequence[ChartRow], *, with_zero: bool = False) -> str:
    found = interval_chart(rows, title="FD", with_zero=with_zero)
    assert found is not None
    return str(found)


DIFFERENCES = [
    ChartRow(label="a - b", value=-3.0, low=-4.0, high=-1.0, text="-3"),
    ChartRow(label="a - c", value=0.5, low=-0.25, high=1.5, text="a longer text than the others"),
    ChartRow(label="b - c", value=0.25, text="0.25"),
]


def test_all_rows_share_one_scale() -> None:
    svg = _draw(DIFFERENCES, with_zero=True)
    dots = [_place(dot) for dot in _group(svg, "dot_marks") + _group(svg, "hollow_marks")]
    expected = [_scale(svg, row.value) for row in DIFFERENCES]
    assert [x for x, _ in dots] == pytest.approx(expected, abs=PIXEL)
    lines = _group(svg, "whisker_marks")
    assert len(lines) == 2
    for line, row in zip(lines, DIFFERENCES, strict=False):
        assert row.low is not None
        assert row.high is not None
        x, _ = _place(line)
        assert x == pytest.approx(_scale(svg, row.low), abs=PIXEL)
        assert x + float(line.get("x2", "nan")) == pytest.approx(_scale(svg, row.high), abs=PIXEL)


def test_zero_is_one_line_through_all_rows() -> None:
    svg = _draw(DIFFERENCES, with_zero=True)
    (line,) = _group(svg, "zero_marks")
    x, top = _place(line)
    assert x == pytest.approx(_scale(svg, 0.0), abs=PIXEL)
    rows = [_place(dot)[1] for dot in _group(svg, "dot_marks") + _group(svg, "hollow_marks")]
    assert top <= min(rows) < max(rows) <= top + float(line.get("y2", "nan"))


def test_rows_come_in_the_order_given_with_their_own_label_and_value() -> None:
    svg = _draw(DIFFERENCES[::-1], with_zero=True)
    dots = [_place(dot)[1] for dot in _group(svg, "hollow_marks") + _group(svg, "dot_marks")]
    assert dots == sorted(dots)
    labels = [e.text for e in _group(svg, "role-axis-label") if e.get("text-anchor") == "end"]
    assert labels == ["b - c", "a - c", "a - b"]
    texts = [text.text for text in _group(svg, "value_marks")]
    assert texts == [row.text for row in DIFFERENCES[::-1]]


def test_values_far_from_zero_have_no_line_at_zero() -> None:
    svg = _draw([ChartRow(label="a", value=10.0), ChartRow(label="b", value=12.0)])
    assert _group(svg, "zero_marks") == []
    assert len(_group(svg, "hollow_marks")) == 2


def test_texts_stay_texts() -> None:
    svg = _draw([ChartRow(label="<b>\u2028&\"'</b>", value=1.0, text="</svg><script>")])
    root = ElementTree.fromstring(svg)
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert tags <= {"svg", "g", "path", "line", "text"}
    assert "</svg><script>" in [element.text for element in root.iter(f"{SVG}text")]


def test_a_chart_without_values_is_none() -> None:
    assert interval_chart([], title="FD") is None


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=6))
def test_everything_stays_on_the_axis(values: list[float]) -> None:
    svg = _draw([ChartRow(label="a", value=value) for value in values])
    dots = [_place(dot)[0] for dot in _group(svg, "hollow_marks")]
    assert len(dots) == len(values)
    assert all(0 <= x <= WIDTH_PX for x in dots)


def test_the_page_of_three_runs_draws_each_metric_once() -> None:
    """Three pairs of runs in two metrics: each chart has its own scale and one zero line."""
    pairs = (("a - b", 2.0, 20.0), ("a - c", 3.0, -5.0), ("b - c", -1.0, 1.0))
    records = [
        make_record(metric, values[place], half_width=0.5, subject=subject)
        for place, metric in enumerate(("fd-difference", "kid-difference"))
        for subject, *values in pairs
    ]
    page = render_comparison(
        ComparisonReport(title="Three runs", question="Which?", records=records, subjects=[])
    )
    charts = re.findall(r'<figure class="chart">.*?(<svg.*?</svg>)', page, re.DOTALL)
    assert len(charts) == 2
    for place, svg in enumerate(charts):
        dots = [_place(dot)[0] for dot in _group(svg, "dot_marks")]
        expected = [_scale(svg, values[place]) for _, *values in pairs]
        assert dots == pytest.approx(expected, abs=PIXEL)
        assert len(_group(svg, "zero_marks")) == 1
