"""`evalkit drawbench plan`: the difference that a planned study can detect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drawbench.errors import StudyError

if TYPE_CHECKING:
    from drawbench.stats.power import SequentialPlan, StudyPlan
    from evalkit.core.results import ResultRecord


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("plan")(plan)


def plan(
    raters: Annotated[int, typer.Option(min=2, help="Raters per category.")] = 25,
    categories: Annotated[
        str | None,
        typer.Option(
            help="Numbers of prompts by category, such as 25,10,19; by default those of DrawBench."
        ),
    ] = None,
    rater_correlation: Annotated[
        float, typer.Option(min=0, max=1, help="Correlation of two votes of one rater.")
    ] = 0.05,
    prompt_correlation: Annotated[
        float, typer.Option(min=0, max=1, help="Correlation of two votes on one prompt.")
    ] = 0.1,
    ties: Annotated[float, typer.Option(min=0, max=0.99, help="Expected share of ties.")] = 0.2,
    pilot: Annotated[
        Path | None,
        typer.Option(help="Votes of a pilot study, to estimate correlations and ties from."),
    ] = None,
    difference: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=0.499, help="Difference from a win rate of 1/2 to detect with --power."
        ),
    ] = None,
    power: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Probability of detecting it.")
    ] = 0.8,
    level: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="Level of the intervals.")
    ] = 0.95,
    looks: Annotated[
        int, typer.Option(min=1, help="Number of analyses, including the final one.")
    ] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write result records to this file.")
    ] = None,
) -> None:
    """Plan a study: detectable difference, raters needed, and the cost of interim looks."""
    from drawbench.simulation.raters import DRAWBENCH_SIZES
    from drawbench.stats.power import StudyPlan
    from evalkit.core.results import write_records

    if pilot is not None:
        rater_correlation, prompt_correlation, ties = _from_pilot(pilot)
    study = StudyPlan(
        category_sizes=_sizes(categories) if categories else tuple(DRAWBENCH_SIZES.values()),
        raters_per_category=raters,
        rater_correlation=rater_correlation,
        prompt_correlation=prompt_correlation,
        tie_share=ties,
    )
    for line in _describe(study, power, level):
        typer.echo(line)
    if difference is not None:
        typer.echo(_needed(study, difference, power, level))
    if looks > 1:
        for line in _describe_looks(study, looks, level, power):
            typer.echo(line)
    if json_file is not None:
        write_records(json_file, _records(study, power, level, looks))
        typer.echo(f"records: {json_file}")


def _from_pilot(path: Path) -> tuple[float, float, float]:
    """Estimate correlations and ties of a pilot; over pairs and questions, take the largest."""
    from drawbench.stats.power import estimate_correlations
    from drawbench.stats.preference import split_pairs
    from drawbench.votes import read_votes

    found = [
        estimate_correlations(part)
        for _, of_pair in split_pairs(read_votes(path))
        for _, part in of_pair.groupby("question")
    ]
    rater, prompt = (max(row[column] for row in found) for column in (0, 1))
    ties = min(row[2] for row in found)
    typer.echo(f"pilot: correlation within raters {rater:.3f}, within prompts {prompt:.3f}")
    typer.echo(f"pilot: share of ties {ties:.3f}")
    return rater, min(prompt, 1 - rater), min(ties, 0.99)


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise StudyError(
            f"--categories {text!r}: expected numbers of prompts, such as 25,10,19."
        ) from None


def _describe(study: StudyPlan, power: float, level: float) -> Iterator[str]:
    raters, prompts = study.num_clusters
    yield f"{study.num_votes:,} votes on a question: {raters} raters, {prompts} prompts"
    yield (
        f"assumed: correlation {study.rater_correlation:.3g} of two votes of a rater, "
        f"{study.prompt_correlation:.3g} of two votes on a prompt; {100 * study.tie_share:.3g} % "
        "ties (--pilot estimates them from votes)"
    )
    half_width = 100 * study.half_width(level=level)
    yield f"{100 * level:g} % interval of a win rate near 50 %: +- {half_width:.1f} points"
    found = study.detectable_difference(power=power, level=level)
    if found is None:
        yield f"no difference is detected with a power of {100 * power:g} %"
        return
    yield (
        f"detected with a power of {100 * power:g} %: a win rate of {100 * (0.5 + found):.1f} % or "
        f"more ({100 * found:.1f} points from 50 %)"
    )


def _needed(study: StudyPlan, difference: float, power: float, level: float) -> str:
    from drawbench.stats.power import raters_needed

    count = raters_needed(study, difference, power=power, level=level)
    goal = f"{100 * difference:g} points with a power of {100 * power:g} %"
    if count is None:
        return f"no number of raters detects {goal}: prompts differ too much; add prompts"
    return f"to detect {goal}: {count} raters per category"


def _describe_looks(study: StudyPlan, looks: int, level: float, power: float) -> Iterator[str]:
    for item in _looks(study, looks, level, power):
        values = ", ".join(f"{value:.2f}" for value in item.critical_values)
        cost = f", detectable difference {100 * (item.detectable_ratio - 1):+.1f} %"
        yield (
            f"{looks} looks, boundary {item.boundary} (|z| of {values}): equal models called "
            f"different in {100 * item.false_positive_rate:.1f} %"
            f"{cost if item.boundary != 'none' else ''}"
        )


def _looks(study: StudyPlan, looks: int, level: float, power: float) -> Iterator[SequentialPlan]:
    from drawbench.stats.power import plan_looks

    for boundary in ("none", "pocock", "obrien-fleming"):
        yield plan_looks(study, looks, boundary=boundary, level=level, power=power)


def _records(study: StudyPlan, power: float, level: float, looks: int) -> list[ResultRecord]:
    from dataclasses import asdict

    from evalkit.core.results import ResultRecord

    fingerprint = {**asdict(study), "category_sizes": list(study.category_sizes), "level": level}
    reason = "no interval: computed from the plan, nothing was sampled"
    found = study.detectable_difference(power=power, level=level)
    return [
        ResultRecord(
            metric="drawbench-plan-half-width",
            value=study.half_width(level=level),
            n=study.num_votes,
            direction="lower",
            reason=reason,
            subject="plan",
            fingerprint=fingerprint,
        ),
        ResultRecord(
            metric="drawbench-plan-detectable-difference",
            value=found,
            n=study.num_votes,
            direction="lower",
            state="ok" if found is not None else "not_applicable",
            reason=reason if found is not None else "no difference is found with this power",
            subject="plan",
            fingerprint={**fingerprint, "power": power},
        ),
        *(
            ResultRecord(
                metric="drawbench-plan-false-positive-rate",
                value=item.false_positive_rate,
                n=study.num_votes,
                direction="lower",
                reason=reason,
                subject="plan",
                fingerprint={
                    **fingerprint,
                    "power": power,
                    "looks": looks,
                    "boundary": item.boundary,
                },
                details={
                    "critical_values": list(item.critical_values),
                    "information": list(item.information),
                    "detectable_ratio": item.detectable_ratio,
                },
            )
            for item in (_looks(study, looks, level, power) if looks > 1 else ())
        ),
    ]
