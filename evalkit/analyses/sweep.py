"""Sweeps over guidance, steps and samplers: the points, and the choice of the best one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.core.results import ResultRecord
from evalkit.metrics.comparison import paired_differences
from evalkit.metrics.score import PreparedSet
from evalkit.options import SamplingOptions

_BASE = "1,1.25,1.5,1.75,2,3,4,5,6,7,8,9,10"
GRIDS: dict[str, tuple[str, str]] = {
    "imagen": ("", _BASE),
    "imagen-sr": ("sr1", "1,3,5,7,8,10,12,15,18"),
    "sd-card": ("", "1.5,2,3,4,5,6,7,8"),
    "mosaic": ("", "1,1.5,2,3,4,5,6,7,8"),
    "amused": ("", "1.5,2,3,4,5,6,7,8,10,15,20"),
}
"""Published grids of guidance scales: the stage that they apply to (empty: the main one), and the
scales. Imagen's are of Saharia et al. 2022, for 64 px and for super-resolution."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The values of one setting; empty: the model's default."""

    setting: str
    """`guidance`, `steps` or `sampler`."""
    stage: str
    """Stage of a cascade; empty: the main one."""
    values: tuple[str, ...]

    @classmethod
    def of(cls, setting: str, text: str | None) -> Axis:
        """Read an axis from `1,2,3`, `STAGE=1,2,3` or the name of a published grid.

        Raises:
            ConfigError: No value, the same value twice, or no number where one is needed.

        >>> Axis.of("guidance", "sr1=1,8").values, Axis.of("guidance", "imagen-sr").stage
        (('1', '8'), 'sr1')
        """
        if text is None:
            return cls(setting=setting, stage="", values=())
        stage, values = GRIDS[text] if setting == "guidance" and text in GRIDS else ("", text)
        if "=" in values:
            stage, _, values = values.partition("=")
        found = tuple(filter(None, (value.strip() for value in values.split(","))))
        if not found or len(set(found)) < len(found):
            raise ConfigError(
                f"--{setting} {text!r}: give each value once, such as 1,1.5,2, or for guidance one "
                f"of the grids {', '.join(GRIDS)}."
            )
        if setting != "sampler":
            for value in found:
                _number(value, setting)
        return cls(setting=setting, stage=stage, values=found)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One choice of settings."""

    values: Mapping[str, str]
    """By setting, such as `{"guidance": "1.5"}`; only what the sweep varies."""
    stages: Mapping[str, str]

    @property
    def name(self) -> str:
        """Such as `guidance 1.5, steps 50`."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())

    @property
    def numbers(self) -> dict[str, float]:
        """The varied settings that are numbers, such as `{"guidance": 1.5}`."""
        return {key: float(value) for key, value in self.values.items() if key != "sampler"}

    @property
    def folder(self) -> str:
        """Name of its run folder."""
        parts = (f"{key}-{value}" for key, value in self.values.items())
        return "_".join(parts).replace("/", "-").replace(":", "-")

    def applied(self, sampling: SamplingOptions) -> SamplingOptions:
        """Return the options with this point's settings."""
        changes: dict[str, Any] = {
            key: f"{self.stages[key]}={value}" if self.stages[key] else value
            for key, value in self.values.items()
        }
        return replace(sampling, **changes)


@dataclass(frozen=True, kw_only=True)
class Best:
    """The point with the lowest distance, and those that can't be told from it."""

    metric: str
    """The record that decides."""
    name: str
    not_excluded: tuple[str, ...]
    """Points whose paired difference from the best is not significant, with the best itself."""
    level: float
    """p-value below which a point is excluded: 0.05 over the number of other points."""
    unknown: str = ""
    """Why nothing can be excluded; empty if the differences have p-values."""


def points(axes: Sequence[Axis]) -> list[Point]:
    """Return every combination of the axes' values.

    Raises:
        ConfigError: No axis has a value.
    """
    varied = [axis for axis in axes if axis.values]
    if not varied:
        raise ConfigError("Nothing to sweep. Give --guidance, --steps or --sampler, such as 1,2,3.")
    stages = {axis.setting: axis.stage for axis in varied}
    return [
        Point(values=dict(zip(stages, values, strict=True)), stages=stages)
        for values in itertools.product(*(axis.values for axis in varied))
    ]


def best_point(
    records: Mapping[str, Sequence[ResultRecord]],
    sets: Mapping[str, PreparedSet],
    distance: str,
    *,
    level: float = 0.95,
) -> Best | None:
    """Return the point with the lowest distance, and which others could be the best.

    All points share captions and noise, so their differences are paired. Choosing the lowest of
    several points is a choice among noisy numbers: a point is excluded only if its difference from
    the chosen one is significant at 0.05 over the number of other points (Bonferroni).

    Args:
        records: Records by point.
        sets: Prepared sets by point.
        distance: `fid`, `fd` or another Fréchet distance.
        level: Confidence level; 0.95 means 0.05.
    """
    metric = next(
        (
            name
            for name in (f"{distance}-infinity", distance)
            if all(_value(several, name) is not None for several in records.values())
        ),
        None,
    )
    if metric is None:
        return None
    values = {name: _value(several, metric) or 0.0 for name, several in records.items()}
    chosen = min(values, key=lambda name: values[name])
    threshold = (1 - level) / max(1, len(values) - 1)
    kept, unknown = [chosen], ""
    for name in values:
        if name == chosen:
            continue
        p_value, reason = _p_value(sets[chosen], sets[name], distance)
        unknown = unknown or reason
        if p_value is None or p_value >= threshold:
            kept.append(name)
    ordered = tuple(name for name in values if name in kept)
    return Best(metric=metric, name=chosen, not_excluded=ordered, level=threshold, unknown=unknown)


def rises(values: Sequence[float]) -> str:
    """Say whether values rise from one to the next.

    >>> rises([1.0, 2.0, 2.5]), rises([3.0, 2.0]), rises([1.0, 3.0, 2.0])
    ('rises', 'falls', 'neither rises nor falls throughout')
    """
    steps = [after - before for before, after in itertools.pairwise(values)]
    if all(step > 0 for step in steps):
        return "rises"
    if all(step < 0 for step in steps):
        return "falls"
    return "neither rises nor falls throughout"


def _p_value(first: PreparedSet, second: PreparedSet, distance: str) -> tuple[float | None, str]:
    for record in paired_differences(first, second):
        if record.metric == f"{distance}-difference":
            found = record.details.get("p_value")
            return (None, record.reason) if found is None else (float(found), "")
    return None, f"{distance} has no paired difference"


def _value(records: Sequence[ResultRecord], metric: str) -> float | None:
    return next((record.value for record in records if record.metric == metric), None)


def _number(text: str, setting: str) -> None:
    try:
        float(text)
    except ValueError:
        raise ConfigError(
            f"--{setting}: {text!r} is no number. Give numbers such as 1,1.5,2, or a grid: "
            f"{', '.join(GRIDS)}."
        ) from None
