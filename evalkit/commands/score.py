"""`evalkit score`: measure existing images, whatever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.catalog import METRICS
from evalkit.commands.exporting import print_exports
from evalkit.commands.sets import (
    NO_REFERENCE,
    Against,
    Samples,
    open_against,
    open_samples,
    print_skipped,
    reference_name,
    refuse_incomplete,
    say_features,
)
from evalkit.core.errors import ConfigError, OutputError
from evalkit.core.files import check_output
from evalkit.core.places import has_file
from evalkit.core.progress import ProgressFactory, console, errors, progress_bar, silent
from evalkit.core.results import ResultRecord, read_records, write_records
from evalkit.core.run import RunFolder
from evalkit.measurement import category_records as records_of_categories
from evalkit.measurement import default_metrics, kept_samples, refuse_biased_scores
from evalkit.metrics.categories import category_records
from evalkit.metrics.score import Scorer
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.options import MeasureOptions
from evalkit.reports.html import Gallery, ReportSample, RunReport
from evalkit.reports.tables import categories_table, terminal_table, write_csv
from evalkit.workers.opening import library_versions

SHOWN_IMAGES = 24
"""Images of the page."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was measured of one set of images."""

    samples: Samples
    reference: str | None
    """Name of the reference; None: there is none."""
    records: Sequence[ResultRecord]
    """Of the whole set, or of it and of each category that the protocol measures on its own."""
    parts: Sequence[ResultRecord]
    """Of the categories, for metrics that are means over images."""

    @property
    def all_records(self) -> list[ResultRecord]:
        """The records of the whole set, then those of its categories."""
        return [*self.records, *self.parts]

    @property
    def title(self) -> str:
        """Names the set and the reference."""
        return self.samples.subject + (f" against {self.reference}" if self.reference else "")


def score(
    samples: str,
    against: str | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    json_file: Path | None,
    exports: Sequence[Path] = (),
    command: str = "",
    progress: ProgressFactory = progress_bar,
) -> list[ResultRecord]:
    """Score the samples, print the records, by category where there are any, and write them.

    Returns:
        The records of the whole set, then those of its categories.

    Raises:
        ConfigError: A metric needs a reference, and neither one nor a protocol is named.
        IncompleteError: A metric that was asked for by name failed.
        OutputError: A file can't be written.
        EvalkitError: As for `score_sets`.
    """
    check_output(json_file, "--json")
    with progress(f"Listing {samples}"):
        found = open_samples(samples)
    scored = score_samples(found, against, options, coco_root=coco_root, progress=progress)
    console.print(terminal_table(scored.records, title=scored.title))
    if scored.parts:
        console.print(categories_table(scored.parts))
    print_skipped(scored.records)
    if json_file is not None:
        write_records(json_file, scored.all_records)
        console.print(f"Records: {json_file}", soft_wrap=True)
    if exports:
        print_exports(exports, score_page(scored, command=command))
    if found.run is not None:
        _keep_in_run(found.run, scored.records)
    refuse_incomplete(scored.records, options)
    return scored.all_records


def score_samples(
    found: Samples,
    against: str | Against | None,
    options: MeasureOptions,
    *,
    coco_root: Path | None = None,
    progress: ProgressFactory = silent,
) -> Scored:
    """Score a set of images, with the options completed by the protocol.

    Args:
        found: The images.
        against: The reference; None: the data set of the protocol that the options name, if any.
        options: How to measure.
        coco_root: COCO's folder, if the reference is COCO.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        ConfigError: A metric needs a reference, and neither one nor a protocol is named.
        EvalkitError: As for `score_sets`.
    """
    given = options
    compared = reference_of(reference_name(against, options), found, options, coco_root, progress)
    options = compared.options(options, [found])
    compared = compared.for_samples(options, [found])
    found = replace(found, items=kept_samples(found.items, options))
    say_features(options, given)
    refuse_biased_scores(found.fingerprint.get("reranked"), options)
    metrics = options.metrics or metrics_of(compared, found, options)
    scorer = Scorer.of(
        compared.reference, metrics, options, progress, samples=found.items, curves=True
    )
    prepared = scorer.prepare(found.items, run=found.source)
    fingerprint = {"reference": compared.name, **options.protocol_marks()}

    def named(records: list[ResultRecord], part: str = "") -> list[ResultRecord]:
        context = {**found.fingerprint, **fingerprint}
        subject = found.subject + part
        return [record.with_context(subject=subject, fingerprint=context) for record in records]

    records, parts = named(scorer.records(prepared)), named(category_records(prepared))
    reference = compared.reference
    if options.by_category and reference and not isinstance(reference, ReferenceStatistics):
        of_each = records_of_categories(scorer, found.items, reference, metrics, found.source)
        records += [one for record in of_each for one in named([record], f", {record.subject}")]
        parts = []
    name = compared.name if compared.reference else None
    return Scored(samples=found, reference=name, records=records, parts=parts)


def score_page(scored: Scored, *, command: str = "") -> RunReport:
    """Return the content of a page about a set of images that was scored."""
    items = scored.samples.items
    shown = items[:SHOWN_IMAGES]
    return RunReport(
        title=scored.title,
        question=f"How good are these {len(items):,} images?",
        records=scored.all_records,
        galleries=[
            Gallery(
                title="Samples",
                explanation=f"The first {len(shown)} of {len(items):,} images, not selected.",
                samples=[
                    ReportSample(
                        image=item.path,
                        caption=item.caption or "",
                        caption_id=item.caption_id or "",
                        category=item.category or "",
                    )
                    for item in shown
                ],
            )
        ],
        fingerprint={"command": command} if command else {},
        made_with=library_versions(),
    )


def _keep_in_run(run: RunFolder, records: Sequence[ResultRecord]) -> None:
    """Store the records in the run's folder, for `evalkit report`, in place of earlier ones.

    Records of other metrics stay. A run that can't be written, such as one in an archive, is
    measured all the same; a note says so.
    """
    target = run.path / "results.json"
    measured = {record.metric for record in records}
    earlier = read_records(target) if has_file(target) else []
    kept = [record for record in earlier if record.metric not in measured]
    try:
        write_records(target, [*kept, *records])
        write_csv(run.path / "results.csv", [*kept, *records])
    except OutputError as error:
        errors.print(f"note: {error}", highlight=False, markup=False)
        return
    console.print(f"Kept in the run. Its report: evalkit report {run.path}", soft_wrap=True)


def reference_of(
    against: str | Against | None,
    found: Samples,
    options: MeasureOptions,
    coco_root: Path | None,
    progress: ProgressFactory,
) -> Against:
    """Open the reference; without one, return a stand-in if no metric needs any.

    Raises:
        ConfigError: A metric needs a reference, and none is named.
    """
    if against is not None:
        return open_against(against, coco_root, progress)
    needing = [name for name in options.metrics or () if METRICS[name].needs_reference]
    nothing_left = options.metrics is None and found.conditioning != "text"
    if needing or nothing_left:
        what = needing[0] if needing else "Without captions, every default metric"
        raise ConfigError(
            f"No reference, but {what} needs one. Give one with --against DATASET, FOLDER or "
            "STATISTICS.npz, or a --protocol that names its data set, or choose --metrics that "
            "need none."
        )
    return NO_REFERENCE


def metrics_of(compared: Against, found: Samples, options: MeasureOptions) -> tuple[str, ...]:
    """Return the default metrics that apply to the images, with or without a reference."""
    chosen = default_metrics(options, found.conditioning, scenes=found.has_scenes)
    if compared.reference:
        return chosen
    return tuple(name for name in chosen if not METRICS[name].needs_reference)
