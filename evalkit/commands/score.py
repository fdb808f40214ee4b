"""`evalkit score`: measure existing images, whatever made them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evalkit.commands.sets import (
    open_against,
    open_samples,
    print_skipped,
    reference_name,
    say_features,
)
from evalkit.core.errors import ConfigError
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord, write_records
from evalkit.measurement import (
    category_records,
    default_metrics,
    kept_samples,
    refuse_biased_scores,
)
from evalkit.metrics.score import Scorer
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.options import MeasureOptions
from evalkit.reports.tables import terminal_table


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
        EvalkitError: As for `score_sets`.
    """
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
    return records
