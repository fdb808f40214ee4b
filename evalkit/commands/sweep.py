"""`evalkit sweep`: one model over guidance scales, steps or samplers, with shared noise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from evalkit.analyses.cost import Cost, duration, estimate, size
from evalkit.analyses.sweep import Axis, Best, Point, best_point, points, rises
from evalkit.commands.exporting import print_exports
from evalkit.commands.sets import refuse_incomplete
from evalkit.core.errors import ConfigError
from evalkit.core.files import check_folder
from evalkit.core.places import AnyPath, has_file
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord, write_records
from evalkit.core.run import RunFolder
from evalkit.generation import (
    GenerationOptions,
    PreparedRun,
    check_complete,
    chosen_settings,
    prepare_run,
)
from evalkit.measurement import MeasurementPlan, run_items
from evalkit.metrics.score import PreparedSet
from evalkit.options import MeasureOptions, TrackingOptions
from evalkit.reports.curve import CurvePoint, write_curve
from evalkit.reports.html import ComparisonReport
from evalkit.reports.tables import models_table, write_csv
from evalkit.reports.trackers import scalars, tracker_log
from evalkit.reports.wording import label
from generators.base import Generator

DISTANCES = ("fid", "fd")
CLIP = "clip-score"


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The records of each point, and the best one."""

    records: Mapping[str, Sequence[ResultRecord]]
    best: Best | None


def sweep(
    generation: GenerationOptions,
    measure: MeasureOptions,
    axes: Sequence[Axis],
    *,
    out: AnyPath,
    yes: bool,
    exports: Sequence[Path] = (),
    tracking: TrackingOptions | None = None,
    command: str = "",
    progress: ProgressFactory = progress_bar,
    ask: Callable[[str], bool] = typer.confirm,
) -> SweepResult:
    """Generate, measure and compare every point; the same command resumes.

    The points share captions and noise, since neither depends on settings, and the reference is
    measured once.

    Args:
        generation: Model, captions and sampling; a point replaces the varied settings.
        measure: The measuring options.
        axes: What is varied.
        out: Folder of the runs, and of `sweep.json`, `sweep.csv` and `sweep.html`.
        yes: Start without a question.
        exports: Further files for the records of all points.
        tracking: The trackers that get each point's numbers, at the step of its place.
        command: What was typed, for the trackers and the page.
        progress: Such as `evalkit.core.progress.progress_bar`.
        ask: Asks a question on the terminal.

    Raises:
        ConfigError: Nothing to vary, a setting that the model lacks, or an unanswered question.
        IncompleteError: A metric that was asked for by name failed.
        EvalkitError: As for `evalkit fid`.
    """
    chosen = points(axes)
    check_folder(out, "--out")
    generation.source.check()
    first = _prepare(generation, chosen[0], out, None, progress)
    for point in chosen:
        chosen_settings(first.generator.spec, point.applied(generation.sampling))
    plan = MeasurementPlan.of(first, measure, progress)
    cost = estimate(first, progress)
    if not _agreed(cost, chosen, first, out, yes=yes, ask=ask):
        console.print("Stopped. Nothing but the first batch was generated.")
        return SweepResult(records={}, best=None)
    records: dict[str, list[ResultRecord]] = {}
    sets: dict[str, PreparedSet] = {}
    logged = {"command": command, "model": first.run.config["model"]}
    trackers = tracking or TrackingOptions()
    with tracker_log(trackers, name=out.name, out=out, configuration=logged) as log:
        for place, point in enumerate(chosen):
            prepared = _prepare(generation, point, out, first.generator, progress)
            prepared.generate(progress)
            check_complete(prepared.run)
            at_point = replace(plan, prepared=prepared)
            records[point.name] = [
                record.with_context(subject=point.name, fingerprint={})
                for record in at_point.measure().records
            ]
            sets[point.name] = plan.scorer.prepare(run_items(prepared.run, prepared.run.rows()))
            log.log({**point.numbers, **scalars(records[point.name])}, step=place)
    distance = next((name for name in DISTANCES if name in plan.scorer.metrics), None)
    best = best_point(records, sets, distance, level=measure.level) if distance else None
    _write(out, records, best, first)
    print_exports(exports, _page(records, best, first, command))
    refuse_incomplete([record for several in records.values() for record in several], measure)
    return SweepResult(records=records, best=best)


def _prepare(
    generation: GenerationOptions,
    point: Point,
    out: AnyPath,
    loaded: Generator | None,
    progress: ProgressFactory,
) -> PreparedRun:
    sampling = point.applied(generation.sampling)
    options = replace(generation, sampling=sampling, out=out / point.folder)
    return prepare_run(options, progress, loaded=loaded)


def _agreed(
    cost: Cost,
    chosen: Sequence[Point],
    first: PreparedRun,
    out: AnyPath,
    *,
    yes: bool,
    ask: Callable[[str], bool],
) -> bool:
    """Print what the sweep will cost, and ask whether to start."""
    total, others = len(first.items), len(chosen) - 1
    per_image = 1 / cost.images_per_s
    done = _images_done(out, chosen)
    missing = total * len(chosen) - done
    steps = [float(point.values["steps"]) for point in chosen if "steps" in point.values]
    factor = sum(steps) / (len(steps) * steps[0]) if steps else 1.0
    seconds = missing * per_image * factor
    disk = cost.num_bytes + others * total * cost.num_bytes / max(1, cost.num_images)
    console.print(
        f"{len(chosen)} points, {missing:,} images left at {cost.images_per_s:.3g} images/s: "
        f"{duration(seconds)}, {size(disk)} on disk, without measuring",
        soft_wrap=True,
        highlight=False,
    )
    if yes or not missing:
        return True
    if not sys.stdin.isatty() and ask is typer.confirm:
        raise ConfigError("A sweep asks before it starts. Add --yes to start without a question.")
    return ask("Start?")


def _images_done(out: AnyPath, chosen: Sequence[Point]) -> int:
    begun = (out / point.folder for point in chosen if has_file(out / point.folder / "run.json"))
    return sum(RunFolder.read(folder).num_listed() for folder in begun)


def _write(
    out: AnyPath,
    records: Mapping[str, Sequence[ResultRecord]],
    best: Best | None,
    first: PreparedRun,
) -> None:
    everything = [record for several in records.values() for record in several]
    write_records(out / "sweep.json", everything)
    write_csv(out / "sweep.csv", everything)
    name = first.run.config["display_name"]
    console.print(models_table(everything, title=f"{name}, {len(records)} points"))
    lines = sentences(records, best)
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
    curve = curve_points(records, best.metric if best else None)
    if curve:
        assert best is not None
        page = out / "sweep.html"
        distance = next(label(r) for r in everything if r.metric == best.metric)
        labels = {
            "x_label": "CLIP score, higher is better",
            "y_label": f"{distance}, lower is better",
        }
        write_curve(
            page, curve, title=f"{name}: {distance} against CLIP score", lines=lines, **labels
        )
        console.print(f"Curve: {page}", soft_wrap=True)
    console.print(f"Records: {out / 'sweep.json'}", soft_wrap=True)


def _page(
    records: Mapping[str, Sequence[ResultRecord]],
    best: Best | None,
    first: PreparedRun,
    command: str,
) -> ComparisonReport:
    """Return the content of a page about all points."""
    return ComparisonReport(
        title=f"{first.run.config['display_name']}, {len(records)} points",
        question=" ".join(sentences(records, best)) or "How do the settings change the metrics?",
        subjects=list(records),
        records=[record for several in records.values() for record in several],
        fingerprint={"command": command} if command else {},
        made_with=first.run.made_with,
    )


def sentences(records: Mapping[str, Sequence[ResultRecord]], best: Best | None) -> list[str]:
    """Say where the distance is lowest, what else could be the best, and what CLIP score does."""
    lines = []
    if best is not None:
        lines.append(f"{best.metric} is lowest at {best.name}.")
        if best.unknown:
            lines.append(f"How sure that choice is can't be told: {best.unknown}.")
        elif len(best.not_excluded) == 1:
            lines.append(f"Every other point is worse (p < {best.level:.2g} each).")
        else:
            others = "; ".join(name for name in best.not_excluded if name != best.name)
            lines.append(
                f"Not excluded as the best (p >= {best.level:.2g}, paired, corrected for the "
                f"number of points): {others}."
            )
    scores = [_find(several, CLIP) for several in records.values()]
    values = [record.value for record in scores if record and record.value is not None]
    if len(values) == len(records) > 1:
        lines.append(
            f"CLIP score {rises(values)}, from {values[0]:.4g} at {next(iter(records))} to "
            f"{values[-1]:.4g} at {list(records)[-1]}."
        )
    return lines


def curve_points(
    records: Mapping[str, Sequence[ResultRecord]], metric: str | None
) -> list[CurvePoint]:
    """Return the FD-CLIP curve; empty unless every point has both."""
    found = []
    for name, several in zip(_short(list(records)), records.values(), strict=True):
        x, y = _find(several, CLIP), _find(several, metric or "")
        if x is None or y is None or x.value is None or y.value is None:
            return []
        found.append(
            CurvePoint(
                name=name, x=x.value, y=y.value, x_interval=x.interval, y_interval=y.interval
            )
        )
    return found


def _short(names: Sequence[str]) -> list[str]:
    """Leave out of the points' names the settings that all of them share."""
    parts = [name.split(", ") for name in names]
    shared = set.intersection(*map(set, parts)) if len(parts) > 1 else set()
    return [", ".join(part for part in own if part not in shared) for own in parts]


def _find(records: Sequence[ResultRecord], metric: str) -> ResultRecord | None:
    return next((record for record in records if record.metric == metric), None)
