"""`evalkit score`: measure existing images, whatever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from evalkit.commands.sets import (
    open_against,
    open_samples,
    print_skipped,
    reference_name,
    refuse_incomplete,
    say_features,
)
from evalkit.core.errors import ConfigError, OutputError
from evalkit.core.files import check_output
from evalkit.core.progress import ProgressFactory, console, errors, progress_bar
from evalkit.core.results import ResultRecord, read_records, write_records
from evalkit.core.run import RunFolder
from evalkit.measurement import (
    category_records,
    default_metrics,
    kept_samples,
    refuse_biased_scores,
)
from evalkit.metrics.score import Scorer
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.options import MeasureOptions
from evalkit.reports.tables import terminal_table, write_csv


def score(
    samples: str,
    against: str | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    json_file: Path | None,
    progress: ProgressFactory = progress_bar,
) -> list[ResultRecord]:
    """Score the samples, print the records, and write them on request.

    Raises:
        ConfigError: Neither a reference nor a protocol is named.
        IncompleteError: A metric that was asked for by name failed.
        OutputError: The file of the records can't be written.
        EvalkitError: As for `score_sets`.
    """
    check_output(json_file, "--json")
    with progress(f"Listing {samples}"):
        found = open_samples(Path(samples))
    against = reference_name(against, options)
    if against is None:
        raise ConfigError(
            "No reference. Give one with --against DATASET, FOLDER or STATISTICS.npz, or a "
            "--protocol that names its data set."
        )
    compared = open_against(against, coco_root, progress)
    given, options = options, compared.options(options, [found])
    compared = compared.for_samples(options, [found])
    found = replace(found, items=kept_samples(found.items, options))
    say_features(options, given)
    refuse_biased_scores(found.fingerprint.get("reranked"), options)
    metrics = options.metrics or default_metrics(
        options, found.conditioning, scenes=found.has_scenes
    )
    scorer = Scorer.of(compared.reference, metrics, options, progress, samples=found.items)
    records = [
        record.with_context(subject=found.subject, fingerprint={})
        for record in scorer.records(scorer.prepare(found.items, run=found.source))
    ]
    if options.by_category and not isinstance(compared.reference, ReferenceStatistics):
        parts = category_records(scorer, found.items, compared.reference, metrics, found.source)
        records += [
            record.with_context(subject=f"{found.subject}, {record.subject}", fingerprint={})
            for record in parts
        ]
    context = {**found.fingerprint, "reference": compared.name, **options.protocol_marks()}
    records = [
        record.with_context(subject=record.subject, fingerprint=context) for record in records
    ]
    console.print(terminal_table(records, title=f"{found.subject} against {against}"))
    print_skipped(records)
    if json_file is not None:
        write_records(json_file, records)
        console.print(f"Records: {json_file}", soft_wrap=True)
    if found.run is not None:
        _keep_in_run(found.run, records)
    refuse_incomplete(records, given)
    return records


def _keep_in_run(run: RunFolder, records: Sequence[ResultRecord]) -> None:
    """Store the records in the run's folder, for `evalkit report`, in place of earlier ones.

    Records of other metrics stay. A run that can't be written, such as one in an archive, is
    measured all the same; a note says so.
    """
    target = run.path / "results.json"
    measured = {record.metric for record in records}
    earlier = read_records(target) if target.is_file() else []
    kept = [record for record in earlier if record.metric not in measured]
    try:
        write_records(target, [*kept, *records])
        write_csv(run.path / "results.csv", [*kept, *records])
    except OutputError as error:
        errors.print(f"note: {error}", highlight=False, markup=False)
        return
    console.print(f"Kept in the run. Its report: evalkit report {run.path}", soft_wrap=True)
