"""A curve of two metrics, such as FD against CLIP score, as one HTML file without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from evalkit.core.results import Interval, write_atomically
from evalkit.reports import formatting
from evalkit.reports.charts import nice_ticks

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 20, 50


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """One point, with intervals on both axes where there are any."""

    name: str
    x: float
    y: float
    x_interval: Interval | None = None
    y_interval: Interval | None = None


def write_curve(
    path: Path,
    points: Sequence[CurvePoint],
    *,
    title: str,
    x_label: str,
    y_label: str,
    lines: Sequence[str] = (),
) -> None:
    """Write the page of a curve, atomically.

    Args:
        path: The file.
        points: The points in the order in which a line joins them.
        title: Heading.
        x_label: Label of the horizontal axis.
        y_label: Label of the vertical axis.
        lines: Sentences below the plot.
    """
    said = "".join(f"<p>{escape(line)}</p>\n" for line in lines)
    rows = "".join(_row(point) for point in points)
    head = "".join(f"<th>{escape(text)}</th>" for text in ("settings", x_label, y_label))
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46em; margin: 2em auto; padding: 0 1em; }}
svg {{ width: 100%; height: auto; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: 2px 12px 2px 0; text-align: left; }}
</style></head>
<body><h1>{escape(title)}</h1>
{curve_svg(points, x_label=x_label, y_label=y_label)}
{said}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>
</body></html>
"""
    write_atomically(path, page.encode())


def curve_svg(points: Sequence[CurvePoint], *, x_label: str, y_label: str) -> str:
    """Draw the points, their intervals, and a line through them, as SVG."""
    xs = [end for p in points for end in (p.x, *_ends(p.x_interval))]
    ys = [end for p in points for end in (p.y, *_ends(p.y_interval))]
    across, up = _Scale.of(xs, _LEFT, _WIDTH - _RIGHT), _Scale.of(ys, _HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(y_label)} against '
        f'{escape(x_label)}" font-size="13" fill="currentColor" stroke="none">'
    ]
    for value in nice_ticks(across.low, across.high):
        at = across.place(value)
        parts.append(
            f'<text x="{at:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{value:g}</text>'
        )
    for value in nice_ticks(up.low, up.high):
        at = up.place(value)
        parts.append(
            f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
            f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#8884" fill="none"/>'
        )
    joined = " ".join(f"{across.place(p.x):.1f},{up.place(p.y):.1f}" for p in points)
    parts.append(f'<polyline points="{joined}" fill="none" stroke="#4477aa"/>')
    for point in points:
        parts.append(_drawn(point, across, up))
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">'
        f"{escape(y_label)}</text></svg>"
    )
    return "".join(parts)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        low, high = min(values), max(values)
        air = (high - low) * 0.05 or abs(low) / 2 or 1.0
        return cls(low=low - air, high=high + air, start=start, end=end)

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _drawn(point: CurvePoint, across: _Scale, up: _Scale) -> str:
    x, y = across.place(point.x), up.place(point.y)
    bars = ""
    if point.x_interval is not None:
        low, high = (across.place(end) for end in _ends(point.x_interval))
        bars += f'<path d="M{low:.1f} {y:.1f}H{high:.1f}" stroke="#4477aa" fill="none"/>'
    if point.y_interval is not None:
        low, high = (up.place(end) for end in _ends(point.y_interval))
        bars += f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="#4477aa" fill="none"/>'
    on_the_left = x > (across.start + across.end) / 2  # so that it ends within the picture
    place, anchor = (x - 7, "end") if on_the_left else (x + 7, "start")
    return (
        f'{bars}<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="#4477aa"/>'
        f'<text x="{place:.1f}" y="{y - 7:.1f}" text-anchor="{anchor}">{escape(point.name)}</text>'
    )


def _ends(interval: Interval | None) -> tuple[float, ...]:
    return () if interval is None else (interval.low, interval.high)


def _row(point: CurvePoint) -> str:
    cells = (
        point.name,
        _text(point.x, point.x_interval),
        _text(point.y, point.y_interval),
    )
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"


def _text(value: float, interval: Interval | None) -> str:
    if interval is None:
        return formatting.number(value)
    places = formatting.decimals(value, (interval.high - interval.low) / 4)
    text, low, high = (formatting.number(x, places) for x in (value, interval.low, interval.high))
    return f"{text} [{low}, {high}]"
