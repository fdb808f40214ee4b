"""Line charts as static SVG: drawn by Altair when the page is written, without script in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.core.results import ResultRecord
from evalkit.reports import wording

_WIDTH_PX, _HEIGHT_PX = 460, 240
_SERIES = {"plug-in": "#c77d0a", "corrected": "#3b82c4"}
"""Colours that are legible on a light and on a dark page."""
_GREY = "#8a8f98"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A chart of one record."""

    title: str
    explanation: str
    svg: str


def distance_curve(record: ResultRecord) -> Curve | None:
    """Draw a Fréchet distance against the number of samples, plug-in and corrected.

    Args:
        record: One with the detail `against_n`: both distances at parts of the samples.

    Returns:
        The chart; None without that detail, or with fewer than two sizes.
    """
    points = record.details.get("against_n")
    if not isinstance(points, Sequence) or len(points) < 2:
        return None
    label = wording.label(record).replace("∞", "")
    rows = [
        {"n": point["n"], "series": name, "value": value, "low": low, "high": high}
        for point in points
        for name, value, low, high in (
            ("plug-in", point["plug_in"], None, None),
            ("corrected", point["corrected"], point["low"], point["high"]),
        )
        if value is not None
    ]
    return Curve(
        title=f"{label} against the number of samples",
        explanation=(
            "The plug-in value falls as samples are added, since its bias shrinks; the corrected "
            "value (FD∞) has none, and only its interval narrows. Parts of the samples are drawn "
            "by caption; the reference is the same throughout."
        ),
        svg=_svg(rows, label),
    )


def _svg(rows: list[dict[str, Any]], label: str) -> str:
    import altair as alt  # slow to import
    import vl_convert

    data = alt.Data(values=rows)
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(domain=list(_SERIES), range=list(_SERIES.values())),
        legend=alt.Legend(title=None, orient="top"),
    )
    base = alt.Chart(data).encode(
        x=alt.X(
            "n:Q",
            title="samples",
            scale=alt.Scale(zero=False, nice=False, padding=16),
            axis=alt.Axis(values=sorted({row["n"] for row in rows})),
        ),
        y=alt.Y("value:Q", title=label, scale=alt.Scale(zero=False)),
        color=colour,
    )
    interval = base.transform_filter("datum.low != null").mark_rule(strokeWidth=2)
    chart = alt.layer(
        interval.encode(y=alt.Y("low:Q", title=label), y2="high:Q"),
        base.mark_line(strokeWidth=1.5),
        base.mark_point(filled=True, size=55, opacity=1),
    ).properties(width=_WIDTH_PX, height=_HEIGHT_PX, background="transparent")
    text = {"labelColor": _GREY, "titleColor": _GREY, "labelFontSize": 12, "titleFontSize": 12}
    chart = (
        chart.configure_axis(
            **text, gridColor=_GREY, gridOpacity=0.2, domainColor=_GREY, tickColor=_GREY
        )
        .configure_legend(labelColor=_GREY, labelFontSize=12)
        .configure_view(stroke=None)
    )
    return str(vl_convert.vegalite_to_svg(chart.to_dict()))
