"""`evalkit plan fid`: how many images distinguish two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from evalkit.commands.sets import open_samples, own_reference, reference_name, say_features
from evalkit.core.errors import DataError
from evalkit.core.files import check_output
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord, write_records
from evalkit.metrics.planning import FrechetPlan, PilotIds, detectable_at, plan_fid, power_at
from evalkit.metrics.score import Scorer
from evalkit.metrics.task import INCEPTION, Task
from evalkit.options import MeasureOptions

_SIZES = (1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 50_000)


def plan_frechet(
    pilots: Sequence[str],
    against: str | None,
    options: MeasureOptions,
    *,
    difference: float,
    power: float,
    coco_root: Path | None,
    json_file: Path | None,
    progress: ProgressFactory = progress_bar,
) -> FrechetPlan:
    """Measure the pilot, print the plan, and write it where asked.

    Args:
        pilots: Samples of one model, or of both for the same captions.
        against: The reference; None: the data set of the pilots' runs.
        options: How to measure.
        difference: Difference of distances to detect.
        power: Probability of detecting it, in (0, 1).
        coco_root: Folder of COCO.
        json_file: File that also receives the record.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        ConfigError: A difference that is not positive, a probability outside (0, 1), no reference.
        NotEnoughImagesError: Too few images in the pilot for a corrected distance.
        DataError: A statistics file without this layer.
    """
    check_output(json_file, "--json")
    with progress("Listing the pilot"):
        sets = [open_samples(path) for path in pilots]
    compared = own_reference(reference_name(against, options), sets, coco_root, progress)
    given, options = options, compared.options(options)
    say_features(options, given)
    metric = "fid" if options.features == INCEPTION else "fd"
    scorer = Scorer.of(compared.reference, [metric], options, progress)
    tasks = [scorer.prepare(one.items).tasks[metric] for one in sets]
    plan = _plan(tasks, difference=difference, power=power)
    name = tasks[0].label(tasks[0].needs[0])
    _print(plan, name)
    if json_file is not None:
        write_records(json_file, [_record(plan, tasks[0], sets[0].subject)])
        console.print(f"Records: {json_file}", soft_wrap=True)
    return plan


def _plan(tasks: list[Task], *, difference: float, power: float) -> FrechetPlan:
    first, need = tasks[0], tasks[0].needs[0]
    real = first.real(need)
    reference = first.real_moments(need) if real is None else real
    if reference is None:
        raise DataError(f"The reference file has no statistics of layer {first.layer(need)}.")
    return plan_fid(
        first.fake(need),
        reference,
        difference=difference,
        second=tasks[1].fake(need) if len(tasks) > 1 else None,
        ids=PilotIds(
            first=first.fake_ids,
            second=tasks[1].fake_ids if len(tasks) > 1 else None,
            real=None if real is None else first.real_ids,
        ),
        power=power,
        level=first.options.level,
    )


def _print(plan: FrechetPlan, name: str) -> None:
    pilots = (
        "pilots of both models"
        if plan.paired
        else "one pilot; models with shared captions need fewer"
    )
    console.print(
        f"To detect a difference of {plan.difference:g} in {name} "
        f"(power {plan.power:.0%}, significance level {1 - plan.level:.2g}):\n"
        f"  {plan.n:,} images per model\n"
        f"From {pilots}: {plan.pilot_n:,} images each detect {plan.detectable_at_pilot:.3g}."
    )
    if plan.n == plan.minimum_n:
        console.print(
            f"The difference itself needs fewer, but below {plan.minimum_n:,} images "
            "(1.5 per dimension) the interval of the distance was not tested."
        )
    table = Table("images per model", f"detectable difference (power {plan.power:.0%})",
                  f"power for {plan.difference:g}", box=box.SIMPLE_HEAD)  # fmt: skip
    for n in sorted({*_SIZES, plan.n}):
        chance = f"{power_at(plan, n):.0%}"
        table.add_row(f"{n:,}", f"{detectable_at(plan, n):.3g}", chance)
    console.print(table)


def _record(plan: FrechetPlan, task: Task, subject: str) -> ResultRecord:
    need = task.needs[0]
    return ResultRecord(
        metric="images-needed",
        value=float(plan.n),
        n=len(task.items),
        direction="none",
        unit="images",
        reason="a plan: the number of images has no interval",
        subject=subject,
        fingerprint=task.fingerprint(need),
        details={"label": task.label(need), **asdict(plan), **task.left_out()},
    )
