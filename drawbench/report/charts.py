"""Bars and intervals as inline SVG. Widths are percentages, so a chart fits every screen.

Every function returns markup made of numbers only; the template escapes names and texts.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from drawbench.stats.clustered import Estimate
from drawbench.stats.preference import Preference
from evalkit.core.results import Interval

BAR_HEIGHT = 30
FOREST_HEIGHT = 30
LABEL_FROM = 0.07  # narrower segments get no number


def stacked_bar(item: Preference) -> Markup:
    """Draw the shares for A, ties and B; whiskers are the intervals of the two outer shares."""
    shares = (item.share_a, item.share_tie, item.share_b)
    parts, left = [], 0.0
    for kind, share in zip(("a", "tie", "b"), shares, strict=True):
        parts.append(_segment(kind, left, share.value))
        left += share.value
    parts.append(_whisker(item.share_a.interval, "a"))
    parts.append(_whisker(_mirrored(item.share_b.interval), "b"))
    title = ", ".join(
        f"{name} {_percent(share)}" for name, share in zip(("A", "tie", "B"), shares, strict=True)
    )
    return _svg("bar", BAR_HEIGHT, parts, title)


def win_rate_forest(item: Preference) -> Markup:
    """Draw the win rate of A as a dot on [0, 1], its interval as a line, and a mark at 1/2."""
    title = f"win rate {_percent(item.win_rate)}"
    return _forest(
        item.win_rate.value, item.win_rate.interval, (0.0, 1.0), 0.5, item.verdict, title
    )


def points_forest(value: float, interval: Interval | None, span: tuple[float, float]) -> Markup:
    """Draw a model's points and interval on the ranking's scale, with a mark at zero."""
    return _forest(value, interval, span, 0.0, "undecided", f"{value:.0f} points")


def span_of(values: Sequence[float], intervals: Sequence[Interval | None]) -> tuple[float, float]:
    """Return a scale that holds all values and intervals, with a margin.

    >>> span_of([0.0, 10.0], [None, None])
    (-1.0, 11.0)
    """
    ends = [*values]
    for interval in intervals:
        ends += [interval.low, interval.high] if interval else []
    air = (max(ends) - min(ends)) / 10 or 1.0
    return min(ends) - air, max(ends) + air


def _forest(
    value: float,
    interval: Interval | None,
    span: tuple[float, float],
    neutral: float,
    verdict: str,
    title: str,
) -> Markup:
    def place(number: float) -> str:
        return f"{100 * (number - span[0]) / (span[1] - span[0]):.2f}%"

    middle = FOREST_HEIGHT / 2
    parts = [
        f'<line class="axis" x1="0%" x2="100%" y1="{middle}" y2="{middle}"/>',
        f'<line class="neutral" x1="{place(neutral)}" x2="{place(neutral)}" y1="0" '
        f'y2="{FOREST_HEIGHT}"/>',
    ]
    if interval:
        parts.append(
            f'<line class="range {verdict}" x1="{place(interval.low)}" x2="{place(interval.high)}" '
            f'y1="{middle}" y2="{middle}"/>'
        )
    parts.append(f'<circle class="dot {verdict}" cx="{place(value)}" cy="{middle}" r="5"/>')
    return _svg("forest", FOREST_HEIGHT, parts, title)


def _segment(kind: str, left: float, width: float) -> str:
    rect = (
        f'<rect class="{kind}" x="{100 * left:.3f}%" y="4" width="{100 * width:.3f}%" '
        f'height="{BAR_HEIGHT - 8}"/>'
    )
    if width < LABEL_FROM:
        return rect
    return rect + (
        f'<text class="on-{kind}" x="{100 * (left + width / 2):.3f}%" y="{BAR_HEIGHT / 2 + 4}">'
        f"{100 * width:.0f}</text>"
    )


def _whisker(interval: Interval | None, kind: str) -> str:
    """Draw the interval of a boundary: at the lower edge of the bar for A, at the upper for B."""
    if interval is None:
        return ""
    low, high = 100 * interval.low, 100 * interval.high
    y = BAR_HEIGHT - 3 if kind == "a" else 3
    ends = "".join(
        f'<line class="whisker {kind}" x1="{x:.3f}%" x2="{x:.3f}%" y1="{y - 3}" y2="{y + 3}"/>'
        for x in (low, high)
    )
    return (
        f'<line class="whisker {kind}" x1="{low:.3f}%" x2="{high:.3f}%" y1="{y}" y2="{y}"/>{ends}'
    )


def _mirrored(interval: Interval | None) -> Interval | None:
    """Mirror an interval, since the share of B is drawn from the right."""
    if interval is None:
        return None
    return Interval(
        low=1 - interval.high, high=1 - interval.low, level=interval.level, method=interval.method
    )


def _percent(estimate: Estimate) -> str:
    text = f"{100 * estimate.value:.1f} %"
    if estimate.interval is None:
        return text
    return f"{text} [{100 * estimate.interval.low:.1f}, {100 * estimate.interval.high:.1f}]"


def _svg(kind: str, height: int, parts: Sequence[str], title: str) -> Markup:
    body = "".join(parts)
    return Markup(  # noqa: S704 - numbers and our own words, see the head of this module
        f'<svg class="{kind}" role="img" width="100%" height="{height}">'
        f"<title>{title}</title>{body}</svg>"
    )
