"""Charts of values and intervals, one per metric: Altair's, drawn once as static SVG.

All rows of a chart are marks of one plot, so they share one scale, one axis and one line at zero.
The page needs no script; colours follow its style sheet by the class names of the marks.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    import altair as alt

WIDTH_PX = 300
"""Width of the plot; labels and values are beside it."""
ROW_PX = 26
_LABEL_PX = 190
_MARGIN = 0.04
_NUM_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class ChartRow:
    """One record of a chart."""

    label: str
    value: float
    low: float | None = None
    """Ends of the interval; None for a value without one, whose dot is hollow."""
    high: float | None = None
    text: str = ""
    """The value and its interval in words."""


def interval_chart(
    rows: Sequence[ChartRow], *, title: str, with_zero: bool = False
) -> Markup | None:
    """Draw records of one metric on one axis, in the order given; None without a finite value.

    The axis spans the data and need not start at zero: dots are compared by position, not length.

    Args:
        rows: The records.
        title: What the chart shows, for screen readers.
        with_zero: Whether zero is on the axis, as for differences.
    """
    import vl_convert  # half a second

    ends = [
        end
        for row in rows
        for end in (row.value, row.low, row.high)
        if end is not None and math.isfinite(end)
    ]
    if not ends:
        return None
    low, high = _domain(min(ends), max(ends), with_zero=with_zero)
    spec = _chart(rows, low, high).to_dict()
    return inline_svg(vl_convert.vegalite_to_svg(spec), title)


def _domain(low: float, high: float, *, with_zero: bool) -> tuple[float, float]:
    """Return the ends of the axis, with a margin, also for a single distinct value."""
    if with_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    air = _MARGIN * (high - low) or abs(low) / 2 or 1.0
    return low - air, high + air


def _chart(rows: Sequence[ChartRow], low: float, high: float) -> alt.LayerChart:
    import altair as alt

    values = [
        {
            # Rows are told apart by their number: two may have the same label.
            "row": str(number),
            "label": row.label,
            "value": row.value,
            "low": row.low,
            "high": row.high,
            "text": row.text,
        }
        for number, row in enumerate(rows)
    ]
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y(
            "row:N",
            sort=[one["row"] for one in values],
            title=None,
            axis=alt.Axis(
                labelExpr=_labels(rows),
                labelLimit=_LABEL_PX,
                domain=False,
                ticks=False,
                labelPadding=10,
            ),
        )
    )
    axis = alt.Axis(
        tickCount=_NUM_TICKS, tickRound=False, domain=False, ticks=False, labelPadding=6
    )
    x: Any = {"scale": alt.Scale(domain=[low, high], nice=False, zero=False), "axis": axis}
    with_interval = base.transform_filter("isValid(datum.low)")
    layers = [
        with_interval.mark_rule(strokeWidth=1.75).encode(
            x=alt.X("low:Q", title=None, **x), x2="high:Q"
        ),
        with_interval.mark_tick(thickness=1.75, size=9).encode(x=alt.X("low:Q", **x)),
        with_interval.mark_tick(thickness=1.75, size=9).encode(x=alt.X("high:Q", **x)),
        with_interval.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("value:Q", **x)),
        base.transform_filter("!isValid(datum.low)")
        .mark_point(filled=False, size=70, opacity=1)
        .encode(x=alt.X("value:Q", **x)),
        base.mark_text(align="left").encode(x=alt.value(WIDTH_PX + 14), text="text:N"),
    ]
    if low <= 0 <= high:
        zero = alt.Chart(alt.Data(values=[{"zero": 0}])).mark_rule(strokeDash=[2, 3])
        layers.insert(0, zero.encode(x=alt.X("zero:Q", **x)))
    names = ["zero"] if low <= 0 <= high else []
    names += ["whisker", "low", "high", "dot", "hollow", "value"]
    layers = [layer.properties(name=name) for layer, name in zip(layers, names, strict=True)]
    chart = alt.layer(*layers, width=WIDTH_PX, height=alt.Step(ROW_PX))
    return chart.configure(
        background="transparent",
        padding=2,
        view=alt.ViewConfig(stroke=None),
        text=alt.MarkConfig(fontSize=12.5),
        axis=alt.AxisConfig(labelFontSize=12.5, labelFontWeight="normal"),
    )


def _labels(rows: Sequence[ChartRow]) -> str:
    """Return the expression that maps a row's number to its label."""
    return f"{json.dumps([row.label for row in rows])}[toNumber(datum.value)]"


def inline_svg(svg: str, title: str) -> Markup:
    """Return a chart's SVG element without a prologue, named for screen readers."""
    named = f'<svg role="img" aria-label="{escape(title)}"'
    inlined = svg[svg.index("<svg") :].replace("<svg", named, 1)
    return Markup(inlined)  # noqa: S704 - Vega escapes texts
