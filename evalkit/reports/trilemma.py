"""Quality, diversity and speed of several models in one chart (Xiao et al. 2022, figure 1).

The paper draws the three requirements as corners of a triangle. Here each corner is an axis with a
scale, so that a model is three measured points with their intervals. Positions are computed here;
Altair draws them once, as static SVG.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from evalkit.core.results import ResultRecord
from evalkit.reports import formatting, wording
from evalkit.reports.charts import nice_ticks
from evalkit.reports.interval_charts import inline_svg

if TYPE_CHECKING:
    import altair as alt

QUALITY = ("fid-infinity", "fd-infinity", "fid", "fd", r"precision-k\d+")
DIVERSITY = (r"recall-k\d+", r"coverage-k\d+")
SPEED = ("images-per-second",)
"""Records of each corner, by preference, as patterns of names."""
COLOURS = (
    "#3b82c4", "#c77d0a", "#2e9e6b", "#b5539c", "#8a6bd1", "#b04a3a", "#6b8e23", "#4aa3b5",
)  # fmt: skip
"""Legible on a light and on a dark page; more models repeat them."""
_WIDTH_PX, _RADIUS_PX, _INNER = 500, 200, 0.14
_BELOW_PX, _ABOVE_PX = 138, 232
"""Of the centre."""
_ANGLES = (90.0, 210.0, 330.0)
"""Of the axes, in degrees: quality above, diversity to the left, speed to the right."""
_BESIDE_PX = 7
"""Distance between the intervals of two models beside an axis."""
_MARGIN = 0.06
_NUM_TICKS = 3


@dataclass(frozen=True)
class Trilemma:
    """The chart and what it shows."""

    svg: Markup
    explanation: str


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One corner: the records of all drawn models on one scale, the better end outward."""

    records: Mapping[str, ResultRecord]
    angle: float
    log: bool = False

    @property
    def label(self) -> str:
        record = next(iter(self.records.values()))
        unit = f" ({record.unit})" if record.unit else ""
        return f"{wording.label(record)}{unit} {formatting.direction_arrow(record.direction)}"

    @property
    def _map(self) -> Callable[[float], float]:
        return math.log if self.log else float

    @property
    def _domain(self) -> tuple[float, float]:
        """The mapped ends of the scale, with a margin."""
        ends = [self._map(end) for record in self.records.values() for end in _ends(record)]
        low, high = min(ends), max(ends)
        air = _MARGIN * (high - low) or abs(low) / 10 or 1.0
        return low - air, high + air

    def reach(self, value: float) -> float:
        """Return the distance from the centre, in px: the better, the further."""
        low, high = self._domain
        share = (self._map(value) - low) / (high - low)
        if next(iter(self.records.values())).direction == "lower":
            share = 1 - share
        return _RADIUS_PX * (_INNER + (1 - _INNER) * share)

    def at(self, reach_px: float, beside_px: float = 0.0) -> tuple[float, float]:
        """Return the position at a distance from the centre, and beside the axis."""
        turn = math.radians(self.angle)
        return (
            reach_px * math.cos(turn) - beside_px * math.sin(turn),
            reach_px * math.sin(turn) + beside_px * math.cos(turn),
        )

    def ticks(self) -> list[float]:
        """Return a few round values on the scale."""
        low, high = (math.exp(end) if self.log else end for end in self._domain)
        values = [value for value in nice_ticks(low, high) if low < value < high]
        step = max(1, math.ceil(len(values) / _NUM_TICKS))
        return [value for value in values[::step] if not self.log or value > 0]


def trilemma_chart(records: Sequence[ResultRecord], subjects: Sequence[str]) -> Trilemma | None:
    """Draw the models that have a quality, a diversity and a speed; None for fewer than two.

    Args:
        records: Of all models, without differences.
        subjects: The models in their order.
    """
    found: dict[tuple[str, str], ResultRecord] = {
        (r.subject, r.metric): r for r in records if r.value is not None
    }
    corners = [_chosen(found, names, subjects) for names in (QUALITY, DIVERSITY, SPEED)]
    drawn = [name for name in subjects if all(name in corner for corner in corners)]
    if len(drawn) < 2:
        return None
    axes = [
        _Axis(
            records={name: corner[name] for name in drawn},
            angle=angle,
            log=corner is corners[-1]
            and min(end for name in drawn for end in _ends(corner[name])) > 0,
        )
        for corner, angle in zip(corners, _ANGLES, strict=True)
    ]
    missing = [name for name in subjects if name not in drawn]
    return Trilemma(_drawn(axes, drawn), _explained(axes, missing))


def _chosen(
    found: Mapping[tuple[str, str], ResultRecord], names: Sequence[str], subjects: Sequence[str]
) -> dict[str, ResultRecord]:
    """Return the models' records of the first name that most models have."""
    metrics = list(dict.fromkeys(metric for _, metric in found))
    candidates = [
        {one: found[one, metric] for one in subjects if (one, metric) in found}
        for name in names
        for metric in metrics
        if re.fullmatch(name, metric)
    ]
    return max(candidates, key=len, default={})


def _ends(record: ResultRecord) -> list[float]:
    assert record.value is not None, "only records with a value are drawn"
    interval = record.interval
    return [record.value, *([interval.low, interval.high] if interval else [])]


def _explained(axes: Sequence[_Axis], missing: Sequence[str]) -> str:
    quality, diversity, _ = (axis.label.rsplit(" ", 1)[0] for axis in axes)
    said = (
        f"The three requirements of Xiao et al. 2022: quality ({quality}), diversity ({diversity}) "
        "and sampling speed on the machine that made the images. Outward is better; lines beside "
        "an axis are intervals, and a hollow dot has none. Each axis spans the data (speed: its "
        "logarithm), so that an area means nothing."
    )
    return said + (
        f" Not drawn, for lack of one of the three: {', '.join(missing)}." * bool(missing)
    )


def _drawn(axes: Sequence[_Axis], subjects: Sequence[str]) -> Markup:
    import vl_convert  # half a second

    svg = vl_convert.vegalite_to_svg(_chart(axes, subjects).to_dict())
    return inline_svg(svg, f"{', '.join(axis.label for axis in axes)} of {', '.join(subjects)}")


def _chart(axes: Sequence[_Axis], subjects: Sequence[str]) -> alt.LayerChart:
    import altair as alt

    x, y = (
        {"scale": alt.Scale(domain=ends, nice=False, zero=False), "axis": None}
        for ends in ([-_WIDTH_PX / 2, _WIDTH_PX / 2], [-_BELOW_PX, _ABOVE_PX])
    )  # positions are in px, so that both directions have one scale

    def layer(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
        return alt.Chart(alt.Data(values=rows)).encode(x=alt.X("x:Q", **x), y=alt.Y("y:Q", **y))

    colour = alt.Color(
        "model:N",
        scale=alt.Scale(
            domain=list(subjects),
            range=[COLOURS[place % len(COLOURS)] for place in range(len(subjects))],
        ),
        legend=alt.Legend(title=None, orient="top", direction="horizontal", columns=3),
    )
    points = layer(_points(axes, subjects))
    layers = [
        layer([_segment(axis, 0.0, _RADIUS_PX) for axis in axes])
        .mark_rule(strokeWidth=1)
        .encode(x2="x2:Q", y2="y2:Q"),
        layer(_outlines(axes, subjects))
        .mark_line(strokeWidth=1.5, opacity=0.75)
        .encode(color=colour, order="order:Q", detail="model:N"),
        layer(_whiskers(axes, subjects))
        .mark_rule(strokeWidth=2)
        .encode(x2="x2:Q", y2="y2:Q", color=colour),
        points.transform_filter("datum.sure")
        .mark_point(filled=True, size=70, opacity=1)
        .encode(color=colour),
        points.transform_filter("!datum.sure").mark_point(size=70, opacity=1).encode(color=colour),
        layer(_tick_rows(axes)).mark_text(fontSize=11).encode(text="text:N"),
        layer(_titles(axes)).mark_text(fontSize=13, fontWeight=600).encode(text="text:N"),
    ]
    names = ("spoke", "outline", "reach", "sure", "unsure", "scale", "corner")
    layers = [one.properties(name=name) for one, name in zip(layers, names, strict=True)]
    return (
        alt.layer(*layers, width=_WIDTH_PX, height=_BELOW_PX + _ABOVE_PX)
        .configure(background="transparent", view=alt.ViewConfig(stroke=None))
        .configure_legend(labelFontSize=13, symbolStrokeWidth=2, labelLimit=260)
    )


def _segment(axis: _Axis, start_px: float, end_px: float, beside_px: float = 0.0) -> dict[str, Any]:
    (x, y), (x2, y2) = axis.at(start_px, beside_px), axis.at(end_px, beside_px)
    return {"x": x, "y": y, "x2": x2, "y2": y2}


def _beside(place: int, count: int) -> float:
    """Return how far beside an axis a model's interval is: on both sides, in turn."""
    return _BESIDE_PX * (place - (count - 1) / 2)


def _points(axes: Sequence[_Axis], subjects: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(subjects):
        for axis in axes:
            record = axis.records[name]
            assert record.value is not None
            x, y = axis.at(axis.reach(record.value), _beside(place, len(subjects)))
            rows.append({"x": x, "y": y, "model": name, "sure": record.interval is not None})
    return rows


def _outlines(axes: Sequence[_Axis], subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Join each model's three points, and the last with the first."""
    points = _points(axes, subjects)
    return [
        {**row, "order": order}
        for name in subjects
        for own in [[row for row in points if row["model"] == name]]
        for order, row in enumerate([*own, own[0]])
    ]


def _whiskers(axes: Sequence[_Axis], subjects: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            **_segment(
                axis,
                axis.reach(interval.low),
                axis.reach(interval.high),
                _beside(place, len(subjects)),
            ),
            "model": name,
        }
        for place, name in enumerate(subjects)
        for axis in axes
        if (interval := axis.records[name].interval) is not None
    ]


def _tick_rows(axes: Sequence[_Axis]) -> list[dict[str, Any]]:
    """Place the numbers of each scale to one side of its axis."""
    rows = []
    for axis in axes:
        room = 14 + _BESIDE_PX * len(axis.records) / 2
        for value in axis.ticks():
            x, y = axis.at(axis.reach(value), -room if axis.angle < 180 else room)
            rows.append({"x": x, "y": y, "text": formatting.typographic(formatting.number(value))})
    return rows


def _titles(axes: Sequence[_Axis]) -> list[dict[str, Any]]:
    places = [axis.at(_RADIUS_PX + 20) for axis in axes]
    return [
        {"x": x, "y": y if axis.angle < 180 else y - 8, "text": axis.label}
        for axis, (x, y) in zip(axes, places, strict=True)
    ]
