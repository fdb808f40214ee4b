"""The definition of a gate: its requirements and how it measures, from a TOML file or options."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evalkit.catalog import METRICS, MetricRow, metric_of
from evalkit.core.errors import ConfigError
from evalkit.core.tables import read_toml
from evalkit.gate.power import check_alpha, check_power
from evalkit.gate.requirements import Kind, Requirement, Rule

Margins = dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]]
Text = Annotated[str, Field(min_length=1)]


class Measuring(BaseModel):
    """The options of measuring that are part of what a gate means; else they are the protocol's."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    protocol: Text | None = None
    features: Text | None = None
    clip_model: Annotated[Text | None, Field(alias="clip-model")] = None
    clip_variant: Annotated[Text | None, Field(alias="clip-variant")] = None


class GateDefinition(BaseModel):
    """A gate. Every margin and bound is in its metric's unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    alpha: float = 0.05
    """Probability of passing at a true difference equal to the margin, at most; one-sided."""
    power: float = 0.8
    """Probability of a decision for which images are counted where the gate is undecided."""
    baseline: Text | None = None
    """The run to compare with."""
    against: Text | None = None
    """The reference of distances, as for `--against`."""
    margins: Margins = {}
    """Non-inferiority: how much worse the candidate may be."""
    equivalent: Margins = {}
    """Equivalence: how much worse or better it may be."""
    superior: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    """Superiority: how much better it must be at least; 0 for any difference."""
    superior_any: Annotated[tuple[Text, ...], Field(alias="superior-any", strict=False)] = ()
    """Metrics of which it must be better in one or more, corrected by Holm."""
    bounds: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    """What the candidate's own value must reach, such as `psnr` with the baseline."""
    measure: Measuring = Measuring()

    @property
    def rule(self) -> Rule:
        """How it decides."""
        return Rule(alpha=self.alpha, power=self.power)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """All requirements, in the order of the file's tables."""
        return tuple(self._requirements())

    def _requirements(self) -> Iterator[Requirement]:
        tables: Sequence[tuple[Kind, Mapping[str, float]]] = (
            ("non-inferior", self.margins),
            ("equivalent", self.equivalent),
            ("superior", self.superior),
            ("superior in any", dict.fromkeys(self.superior_any, 0.0)),
            ("bound", self.bounds),
        )
        for kind, values in tables:
            for metric, value in values.items():
                yield Requirement(metric=metric, kind=kind, value=value)


def read_gate(path: Path) -> GateDefinition:
    """Read a gate from a TOML file.

    Raises:
        MissingDataError: There is no such file.
        ConfigError: It is not TOML, has an unknown key, or a value of another type or range; the
            message names the first.
    """
    return _checked(read_toml(path, what="a gate"), f"{path}: ")


def gate_of(raw: Mapping[str, Any]) -> GateDefinition:
    """Build a gate from the options of the command line, by the keys of the file.

    Raises:
        ConfigError: As for `read_gate`.
    """
    return _checked(raw, "")


def parse_pairs(
    texts: Sequence[str], flag: str, *, default: float | None = None
) -> dict[str, float]:
    """Parse `METRIC=NUMBER` arguments.

    Args:
        texts: The arguments.
        flag: Their option, for errors.
        default: The number of an argument without one; None: it must have one.

    Raises:
        ConfigError: Another form, no number, or a metric twice.

    >>> parse_pairs(["fid-infinity=0.3"], "--margin")
    {'fid-infinity': 0.3}
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            value = float(number) if equals or default is None else default
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            raise ConfigError(
                f"{flag} expects METRIC=NUMBER, such as clip-score=0.2, got {text!r}."
            )
        if name in found:
            raise ConfigError(f"{flag} gives {name} twice. Give one.")
        found[name] = value
    return found


def metric_row(requirement: Requirement) -> tuple[str, MetricRow]:
    """Return the metric that a requirement measures, and its row.

    Raises:
        UnknownNameError: No such metric or record.
        ConfigError: A record that a gate can't compare.
    """
    name = metric_of(requirement.metric)
    row = METRICS[name]
    line = row.line(requirement.metric)
    if line is None:
        named = ", ".join(record.name for record in row.records)
        raise ConfigError(f"{requirement.metric} has several records. Name one: {named}.")
    if line.direction == "none":
        raise ConfigError(f"{requirement.metric} has no better direction, so no gate can be on it.")
    if requirement.kind == "bound":
        return name, row
    if row.full_reference:
        raise ConfigError(
            f"{requirement.metric} compares the two runs themselves and has no difference. Require "
            f"a value: --bound {requirement.metric}=NUMBER, or [bounds] in the file."
        )
    if not row.pairs:
        raise ConfigError(f"{requirement.metric} has no paired difference. Use --bound.")
    return name, row


def _checked(raw: Mapping[str, Any], where: str) -> GateDefinition:
    try:
        found = GateDefinition.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        said = "unknown key" if unknown else first["msg"].removesuffix(".")
        got = "" if unknown else f", got {str(first['input'])[:60]!r}"
        keys = ", ".join(field.alias or name for name, field in _fields(first["loc"]).items())
        advice = f" Known are {keys}" if unknown else ""
        raise ConfigError(f"{where}{place}: {said}{got}.{advice}".rstrip(".") + ".") from error
    check_alpha(found.alpha)
    check_power(found.power)
    if not found.requirements:
        raise ConfigError(
            f"{where}A gate needs a requirement. Give one, such as --margin clip-score=0.2, or "
            "[margins] in the file."
        )
    for requirement in found.requirements:
        metric_row(requirement)
    return found


def _fields(place: Sequence[Any]) -> Mapping[str, Any]:
    of_measuring = len(place) > 1 and place[0] == "measure"
    return (Measuring if of_measuring else GateDefinition).model_fields
