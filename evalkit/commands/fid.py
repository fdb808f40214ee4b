"""`evalkit fid` and `evalkit generate`: from a model name to a report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.analyses.cost import LONG_S, estimate
from evalkit.commands.exporting import print_exports
from evalkit.commands.preflight import say_floor
from evalkit.commands.report import keep_measurement, run_page, write_report
from evalkit.commands.sets import print_skipped, refuse_incomplete, say_features
from evalkit.core.files import check_output
from evalkit.core.places import AnyPath
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord, write_records
from evalkit.core.run import WHOLE, ManifestRow, Shard
from evalkit.datasets.base import known_as
from evalkit.datasets.open import dataset_known_as
from evalkit.engine import num_in_shard
from evalkit.generation import GenerationOptions, PreparedRun, check_complete, prepare_run
from evalkit.measurement import (
    MeasurementPlan,
    check_metrics,
)
from evalkit.options import MeasureOptions, TrackingOptions
from evalkit.protocols.applying import options_for
from evalkit.reports.tables import terminal_table, write_csv
from evalkit.reports.trackers import scalars, tracker_log
from generators.catalog import full_name


def fid(
    generation: GenerationOptions,
    measure: MeasureOptions,
    tracking: TrackingOptions | None = None,
    *,
    json_file: Path | None,
    exports: Sequence[Path] = (),
    command: str,
    progress: ProgressFactory = progress_bar,
) -> list[ResultRecord]:
    """Generate or resume, measure, report, and log to the trackers."""
    full_name(generation.model)
    check_output(json_file, "--json")
    generation.source.check()
    check_metrics(options_for(dataset_known_as(generation.source.name), measure))
    prepared = prepare_run(generation, progress)
    say_features(options_for(known_as(prepared.dataset), measure), measure)
    started = time.perf_counter()
    plan = MeasurementPlan.of(prepared, measure, progress)
    for name, reason in plan.lacking().items():
        console.print(f"Skipping {name}: {reason}", soft_wrap=True, markup=False)
    say_floor(plan, len(prepared.items))
    ready = time.perf_counter()
    if not generation.spread.is_spread:  # else each worker would load for one batch
        cost = estimate(prepared, progress)
        if cost.seconds > LONG_S:
            console.print(f"Generating {cost}", soft_wrap=True, highlight=False)
    out = prepared.run.path
    logged = {"command": command, "model": prepared.run.config["model"]}
    chosen = tracking or TrackingOptions()
    with tracker_log(chosen, name=out.name, out=out, configuration=logged) as log:
        prepared.generate(progress)
        sampled = time.perf_counter()
        check_complete(prepared.run)
        results = plan.measure()
        measuring = ready - started + time.perf_counter() - sampled
        timings = {"sampling": sampled - ready, "measuring": measuring}
        keep_measurement(prepared.run, results.clip_scores, results.clip_name, timings)
        records = [
            replace(record, fingerprint={**record.fingerprint, "command": command})
            for record in results.records
        ]
        store(prepared, records, json_file, exports)
        log.log(scalars(records), step=0)
    refuse_incomplete(records, measure)
    return records


def store(
    prepared: PreparedRun,
    records: list[ResultRecord],
    json_file: Path | None,
    exports: Sequence[Path],
) -> None:
    """Write results.json, results.csv, report.html and the exports, and print a summary."""
    folder = prepared.run.path
    write_records(folder / "results.json", records)
    write_csv(folder / "results.csv", records)
    if json_file is not None:
        write_records(json_file, records)
    page = write_report(prepared.run, records)
    console.print(terminal_table(records, title=prepared.run.config["display_name"]))
    print_failures(prepared.run.rows())
    print_skipped(records)
    print_exports(exports, run_page(prepared.run, records))
    console.print(f"Report: {page}", soft_wrap=True)


def generate(options: GenerationOptions, progress: ProgressFactory = progress_bar) -> AnyPath:
    """Generate or resume, and print where the images are."""
    prepared = prepare_run(options, progress)
    prepared.generate(progress)
    shard = options.spread.shard
    if shard != WHOLE:
        _say_shard(prepared, shard)
        return prepared.run.path
    check_complete(prepared.run)
    made = print_failures(prepared.run.iter_rows())
    console.print(f"{made:,} images: {prepared.run.path}", soft_wrap=True)
    return prepared.run.path


def _say_shard(prepared: PreparedRun, shard: Shard) -> None:
    num = num_in_shard(len(prepared.items), prepared.batch_size, shard)
    console.print(
        f"Shard {shard}: {num:,} of {len(prepared.items):,} images. When all shards have ended: "
        f"evalkit runs merge {prepared.run.path}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


def print_failures(rows: Iterable[ManifestRow]) -> int:
    """Print how many samples have no image, with the commonest reason of each status.

    Returns:
        The number of images.
    """
    made = num = 0
    reasons: dict[str, Counter[str]] = {}
    for row in rows:
        num += 1
        made += row.file is not None
        if row.status != "ok":
            reasons.setdefault(row.status, Counter())[row.reason] += 1
    for status, by_reason in reasons.items():
        (reason, _), *others = by_reason.most_common()
        more = f", and {len(others)} other reasons" if others else ""
        console.print(
            f"{by_reason.total():,} of {num:,} samples {status}: they have no image and are "
            f"excluded from the scores ({reason}{more})",
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
    return made
