"""`evalkit matrix`: one image set under every protocol that it can serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.analyses.columns import (
    VARIATIONS,
    Column,
    default_protocols,
    protocol_columns,
    variation_columns,
)
from evalkit.analyses.matrix import MatrixResult, measure_matrix
from evalkit.commands.exporting import print_exports
from evalkit.commands.sets import (
    Samples,
    open_samples,
    own_reference,
    reference_name,
    refuse_incomplete,
)
from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.core.files import check_output
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import ResultRecord, write_records
from evalkit.features.hub_weights import check_hub_weights
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.metrics.task import extractor_key
from evalkit.options import MeasureOptions
from evalkit.protocols.catalog import open_protocol
from evalkit.reports import formatting
from evalkit.reports.html import ComparisonReport, write_comparison_html
from evalkit.workers.opening import library_versions


@dataclass(frozen=True, kw_only=True)
class MatrixOptions:
    """What a matrix compares."""

    protocols: tuple[str, ...] = ()
    """Names or files of protocols; empty: all on the reference's data set."""
    vary: tuple[str, ...] = tuple(VARIATIONS)
    """Variations of the base protocol."""
    base: str = ""
    """The protocol that is varied; empty: the first."""


def matrix(
    samples: str,
    against: str | None,
    options: MeasureOptions,
    chosen: MatrixOptions,
    *,
    coco_root: Path | None,
    html: Path,
    json_file: Path | None,
    exports: Sequence[Path] = (),
    command: str,
    progress: ProgressFactory = progress_bar,
) -> MatrixResult:
    """Measure a set under every column, print the table, and write the page.

    Raises:
        ConfigError: No reference images, no protocol that the set can serve, or no such variation.
        DataError: An image is unusable.
        IncompleteError: A metric that was asked for by name failed.
        OutputError: The page or the file of the records can't be written.
    """
    check_output(html, "--html")
    check_output(json_file, "--json")
    found = open_samples(samples)
    compared = own_reference(reference_name(against, options), [found], coco_root, progress)
    if isinstance(compared.reference, ReferenceStatistics):
        raise ConfigError(
            f"{compared.name} is a statistics file of one preparation; a matrix needs the images. "
            "Give a folder or a data set with --against."
        )
    assert compared.reference is not None, "a reference is named or the run's own"
    columns, left_out = matrix_columns(found, compared.dataset, options, chosen)
    console.print(f"{len(columns)} ways to measure {len(found.items):,} images", highlight=False)
    result = measure_matrix(
        found.items, compared.reference, columns, options.metrics, progress, run=found.source
    )
    records = [
        record.with_context(
            subject=name, fingerprint={**found.fingerprint, "reference": compared.name}
        )
        for name, several in result.records.items()
        for record in several
    ]
    console.print(_table(result.records, title=f"{found.subject} against {compared.name}"))
    for name, reason in {**left_out, **result.left_out}.items():
        console.print(f"Left out {name}: {reason}.", soft_wrap=True, markup=False)
    page = ComparisonReport(
        title=f"{found.subject} under {len(result.records)} protocols",
        question="How far apart do honest protocols put the same images?",
        subjects=list(result.records),
        records=records,
        fingerprint={"command": command},
        made_with=library_versions(),
    )
    write_comparison_html(html, page)
    if json_file is not None:
        write_records(json_file, records)
        console.print(f"Records: {json_file}", soft_wrap=True)
    print_exports(exports, page)
    console.print(f"Plot: {html}", soft_wrap=True)
    refuse_incomplete(records, options)
    return result


def matrix_columns(
    samples: Samples, dataset: str | None, options: MeasureOptions, chosen: MatrixOptions
) -> tuple[list[Column], dict[str, str]]:
    """Return the columns of a set, and the protocols that it can't serve with the reason.

    Raises:
        ConfigError: There is no column, or no such variation.
    """
    matchable = all(item.image_id for item in samples.items)
    names = list(chosen.protocols or default_protocols(dataset))
    columns, left_out = protocol_columns(
        names, options, num_samples=len(samples.items), matchable=matchable
    )
    if not columns:
        raise ConfigError(
            f"No protocol can measure {samples.subject} on {dataset or 'these images'}: "
            + "; ".join(f"{name}: {why}" for name, why in left_out.items())
            + ". Name some with --protocols."
        )
    by_name = {column.name: column for column in columns}
    base = chosen.base or options.protocol
    base_name = open_protocol(base).name if base else columns[0].name
    if base_name not in by_name:
        raise ConfigError(f"--base {base_name} is not among the protocols: {', '.join(by_name)}.")
    lacking = [name for name, _ in VARIATIONS["extractor"] if _is_lacking(name)]
    varied = variation_columns(
        by_name[base_name], chosen.vary, matchable=matchable, lacking=lacking
    )
    return [*columns, *varied], left_out


def _is_lacking(features: str) -> bool:
    """Return whether the weights of an extractor are neither cached nor reachable."""
    if features == "inception":
        return False
    try:
        check_hub_weights(extractor_key(features))
    except EvalkitError:
        return True
    return False


def _table(records: Mapping[str, Sequence[ResultRecord]], *, title: str) -> Table:
    """Build the table: a row for each column of the matrix, sorted by the first number."""
    metrics = list(dict.fromkeys(r.metric for several in records.values() for r in several))
    table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("measured as", overflow="fold")
    for metric in metrics:
        table.add_column(metric, justify="right", overflow="fold")
    table.add_column("our choice", justify="right", overflow="fold")
    for name in sorted(records, key=lambda name: _first_value(records[name])):
        by_metric = {record.metric: record for record in records[name]}
        marks = records[name][0].fingerprint
        notes = (marks.get("protocol_choices"), marks.get("protocol_images"))
        said = "; ".join(str(note).replace(" values our choice", "") for note in notes if note)
        cells = [_cell(by_metric.get(metric)) for metric in metrics]
        table.add_row(Text(name), *cells, Text(said))
    return table


def _first_value(records: Sequence[ResultRecord]) -> float:
    values = [record.value for record in records if record.value is not None]
    return values[0] if values else float("inf")


def _cell(record: ResultRecord | None) -> Text:
    if record is None or record.value is None:
        return Text("-", style="dim")
    interval = formatting.interval_text(record) if record.interval else ""
    error = formatting.standard_error_text(record)
    more = interval or (f"(s.e. {error})" if error else "")
    return Text(f"{formatting.value_text(record)} {more}".rstrip())
