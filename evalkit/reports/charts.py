"""Geometry of histograms: positions in percent of the width.

The templates draw it as inline SVG whose horizontal coordinates are percentages, so that a chart
fits any width while its text keeps its size. No script, no library, a few hundred bytes per chart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.reports import formatting

_TICK_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_NUM_TICKS = 5
_NUM_BARS = 40


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A labelled position on the axis."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a histogram."""

    left: float
    width: float
    height: float
    """Share of the highest bar, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts of values between edges."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    low: str
    high: str
    total: int


def histogram(raw: Any) -> Histogram | None:
    """Read a histogram from a record's details, `{"edges": [...], "counts": [...]}`; else None."""
    if not isinstance(raw, Mapping):
        return None
    edges, counts = _numbers(raw.get("edges")), _numbers(raw.get("counts"))
    if len(edges) != len(counts) + 1 or max(counts, default=0) <= 0 or edges[-1] <= edges[0]:
        return None
    scale, most = _Scale(low=edges[0], high=edges[-1]), max(counts)
    places = [scale.place(edge) for edge in edges]
    bars = tuple(
        Bar(left=left, width=round(right - left, 3), height=count / most)
        for left, right, count in zip(places[:-1], places[1:], counts, strict=True)
    )
    return Histogram(
        bars=bars,
        ticks=scale.ticks(),
        low=formatting.number(edges[0]),
        high=formatting.number(edges[-1]),
        total=int(sum(counts)),
    )


def histogram_of(values: Sequence[float]) -> Histogram | None:
    """Bin single values into bars of a round width; None without two distinct values."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite or finite[0] == finite[-1]:
        return None
    step = _nice_step((finite[-1] - finite[0]) / _NUM_BARS)
    first = math.floor(finite[0] / step)
    counts = [0] * (math.floor(finite[-1] / step) - first + 1)
    for value in finite:
        counts[math.floor(value / step) - first] += 1
    edges = [step * (first + place) for place in range(len(counts) + 1)]
    return histogram({"edges": edges, "counts": counts})


def nice_ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers in [low, high].

    >>> nice_ticks(0.0, 10.0), nice_ticks(11.2, 13.1)
    ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [11.5, 12.0, 12.5, 13.0])
    """
    rough = (high - low) / _NUM_TICKS
    if not rough > 0:
        return [low]
    step = _nice_step(rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Linear map of [low, high] to the width, in percent."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Return a value's position in percent of the width, clipped to the ends."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(100 * share, 3)

    def ticks(self) -> tuple[Tick, ...]:
        """Return round numbers along the axis."""
        values = nice_ticks(self.low, self.high)
        step = values[1] - values[0] if len(values) > 1 else abs(values[0]) or 1.0
        places = _step_decimals(step)
        return tuple(
            Tick(
                at=self.place(value),
                text=formatting.typographic(formatting.number(value, places)),
            )
            for value in values
        )


def _nice_step(rough: float) -> float:
    """Return the smallest round number that is at least `rough`."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * nice for nice in _TICK_STEPS if power * nice >= rough * (1 - 1e-9))


def _step_decimals(step: float) -> int:
    """Return the decimals that print a multiple of the step, at most as many as numbers get."""
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    rest = step * 10**places
    return places if abs(rest - round(rest)) < 1e-6 else places + 1


def _numbers(values: Any) -> list[float]:
    """Return the values as numbers; empty if any of them is not one."""
    if not isinstance(values, list | tuple):
        return []
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    whole = len(numbers) == len(values) and all(map(math.isfinite, numbers))
    return numbers if whole else []
