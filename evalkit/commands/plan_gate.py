"""`evalkit plan gate`: how many images a gate needs, and how probably it passes with some."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.catalog import METRICS, metric_of
from evalkit.commands.gate import measure
from evalkit.core.errors import ConfigError
from evalkit.core.files import check_output
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import json_bytes, write_atomically
from evalkit.gate.definition import GateDefinition
from evalkit.gate.power import RequirementPlan, Spread, check_power
from evalkit.gate.requirements import Requirement, why_not_measured
from evalkit.options import MeasureOptions

_SIZES = (100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000)


@dataclass(frozen=True, kw_only=True)
class PlanRequest:
    """What to plan for."""

    power: float = 0.8
    """Probability that the gate passes."""
    n: int | None = None
    """Images of each run whose power is asked for; None: those that the power needs."""
    difference: Mapping[str, float] | None = None
    """The true difference, candidate minus baseline, by metric; 0 for the others."""
    deviation: Mapping[str, float] | None = None
    """Standard deviation that one image of each run brings to the difference, in place of a
    pilot."""


@dataclass(frozen=True, kw_only=True)
class GatePlan:
    """The plan of a gate."""

    parts: Sequence[RequirementPlan]
    alpha: float
    power: float
    n: int | None
    """Images of each run with which all requirements pass with this power, at least; None: no
    number is enough."""

    def power_at(self, n: int) -> float:
        """Return the probability that all pass with n images of each run, at least.

        It is 1 less the sum of the probabilities that one doesn't (Bonferroni's inequality), since
        how the metrics go together is unknown.
        """
        lacking = sum(1 - one.power_at(n, alpha=self.alpha) for one in self.parts)
        return max(0.0, 1 - lacking)


def plan_gate(
    candidate: str | None,
    definition: GateDefinition,
    options: MeasureOptions,
    request: PlanRequest,
    *,
    coco_root: Path | None,
    json_file: Path | None,
    progress: ProgressFactory = progress_bar,
) -> GatePlan:
    """Plan a gate from two pilot runs, or from given standard deviations, and print the plan.

    Args:
        candidate: Pilot run of the candidate; None: the deviations are given.
        definition: The gate, with the pilot's baseline.
        options: How to measure.
        request: What to plan for.
        coco_root: Folder of COCO.
        json_file: File that also receives the plan.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        ConfigError: A requirement that no plan is made for, or without a pilot or a deviation.
        EvalkitError: As for `gate`.
    """
    check_output(json_file, "--json")
    check_power(request.power)
    _check_names(definition, request)
    if request.deviation:
        if candidate is not None:
            raise ConfigError(f"--sd and the pilot {candidate}: give one of them.")
        spreads = _given(definition.requirements, request.deviation)
    else:
        spreads = _of_pilot(candidate, definition, options, coco_root, progress)
    differences = request.difference or {}
    parts = []
    for requirement, spread in spreads.items():
        row = METRICS[metric_of(requirement.metric)].line(requirement.metric)
        sign = 1.0 if row is not None and row.direction == "higher" else -1.0
        parts.append(
            RequirementPlan(
                metric=requirement.metric,
                margin=requirement.value,
                spread=spread,
                advantage=sign * differences.get(requirement.metric, 0.0),
                equivalent=requirement.kind == "equivalent",
                superior=requirement.kind == "superior",
            )
        )
    plan = GatePlan(parts=parts, alpha=definition.alpha, power=request.power, n=None)
    plan = GatePlan(
        parts=parts, alpha=definition.alpha, power=request.power, n=_needed(plan, request.power)
    )
    _print(plan, request)
    if json_file is not None:
        _write(json_file, plan, request)
        console.print(f"Plan: {json_file}", soft_wrap=True, highlight=False)
    return plan


def _check_names(definition: GateDefinition, request: PlanRequest) -> None:
    required = [one.metric for one in definition.requirements]
    for one in definition.requirements:
        if one.kind in ("bound", "superior in any"):
            raise ConfigError(
                f"{one.metric}: no plan is made for {one.kind!r}. Plan margins, equivalence and "
                "superiority."
            )
    for flag, given in (("--difference", request.difference), ("--sd", request.deviation)):
        unknown = [name for name in given or {} if name not in required]
        if unknown:
            raise ConfigError(
                f"{flag} names {unknown[0]}, which the gate does not require; it requires "
                f"{', '.join(required)}."
            )


def _given(
    requirements: Sequence[Requirement], deviation: Mapping[str, float]
) -> dict[Requirement, Spread]:
    found = {}
    for requirement in requirements:
        value = deviation.get(requirement.metric)
        if value is None:
            raise ConfigError(f"--sd lacks {requirement.metric}. Give {requirement.metric}=NUMBER.")
        if not value > 0:
            raise ConfigError(f"--sd {requirement.metric}={value:g} is not positive.")
        found[requirement] = Spread(standard_error=value, n=1)
    return found


def _of_pilot(
    candidate: str | None,
    definition: GateDefinition,
    options: MeasureOptions,
    coco_root: Path | None,
    progress: ProgressFactory,
) -> dict[Requirement, Spread]:
    """Measure the pilot, and scale what belongs to captions to images."""
    if candidate is None or definition.baseline is None:
        raise ConfigError(
            "No pilot. Give two runs, CANDIDATE --baseline RUN, or the standard deviation of each "
            "metric with --sd METRIC=NUMBER."
        )
    measured = measure(candidate, definition, options, coco_root=coco_root, progress=progress)
    found = {}
    for requirement, record in measured.found.items():
        why = record if isinstance(record, str) else why_not_measured(record)
        spread = None if isinstance(record, str) else Spread.of(record)
        if why or spread is None:
            raise ConfigError(f"The pilot yields no {requirement.metric}: {why}.")
        if spread.standard_error == 0:
            raise ConfigError(
                f"The pilot's runs do not differ at all in {requirement.metric}, so it has no "
                "spread to plan by. Give one with --sd."
            )
        found[requirement] = spread.in_images(measured.num_images)
    return found


def _needed(plan: GatePlan, power: float) -> int | None:
    """Return the fewest images with which all requirements pass with this power, at least."""
    single = [one.units_needed(power, alpha=plan.alpha) for one in plan.parts]
    if None in single:
        return None
    low = max(n for n in single if n is not None)
    if plan.power_at(low) >= power:
        return low
    high = 2 * low
    while plan.power_at(high) < power:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if plan.power_at(middle) >= power else (middle, high)
    return high


def _print(plan: GatePlan, request: PlanRequest) -> None:
    if plan.n is None:
        say = "No number of images is enough: a true difference is at its margin or beyond."
    else:
        say = f"{plan.n:,} images per run: the gate passes with power {plan.power:.0%}, at least."
    console.print(say, highlight=False)
    sizes = sorted({*_SIZES, *(n for n in (plan.n, request.n) if n is not None)})
    table = Table("images per run", box=box.SIMPLE_HEAD)
    for one in plan.parts:
        table.add_column(f"{one.metric}\nwithin {one.margin:g}", justify="right", overflow="fold")
    if len(plan.parts) > 1:
        table.add_column("all, at least", justify="right")
    for n in sizes:
        powers = [one.power_at(n, alpha=plan.alpha) for one in plan.parts]
        more = [plan.power_at(n)] if len(plan.parts) > 1 else []
        table.add_row(Text(f"{n:,}"), *(Text(f"{p:.0%}") for p in [*powers, *more]))
    console.print(table)
    for one in plan.parts:
        truth = f", for a true advantage of {one.advantage:+g}" if one.advantage else ""
        deviation = f"{one.metric}: standard deviation {one.spread.deviation:.4g} per image{truth}."
        console.print(deviation, highlight=False, soft_wrap=True)


def _write(path: Path, plan: GatePlan, request: PlanRequest) -> None:
    n = request.n if request.n is not None else plan.n
    document = {
        "schema_version": 1,
        "alpha": plan.alpha,
        "power": plan.power,
        "n": plan.n,
        "power_at_n": None if n is None else {"n": n, "power": plan.power_at(n)},
        "requirements": [
            {
                "metric": one.metric,
                "margin": one.margin,
                "advantage": one.advantage,
                "equivalent": one.equivalent,
                "superior": one.superior,
                "deviation": one.spread.deviation,
                "n": one.units_needed(plan.power, alpha=plan.alpha),
                "power_at_n": None if n is None else one.power_at(n, alpha=plan.alpha),
            }
            for one in plan.parts
        ],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, json_bytes(text))
