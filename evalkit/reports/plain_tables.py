"""The tables of a page as plain text cells, for formats without layout: Markdown and LaTeX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from evalkit.core.results import ResultRecord
from evalkit.protocols.published import Published
from evalkit.reports import formatting, wording
from evalkit.reports.fingerprints import column, comparability
from evalkit.reports.html import ComparisonReport, RunReport
from evalkit.reports.tables import common_unit, matrix, state_words, table_notes
from evalkit.reports.views import difference_notes, difference_view, record_views


@dataclass(frozen=True, kw_only=True)
class PlainTable:
    """A table of texts; the first column is of names, the others of numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    texts: tuple[str, ...] = ()
    """Headings of columns of texts, which are aligned to the left."""


def plain_tables(page: RunReport | ComparisonReport) -> list[PlainTable]:
    """Build the tables of a page: values, paired differences, published values."""
    records = page.records
    published = page.published if isinstance(page, ComparisonReport) else ()
    notes = page.notes if isinstance(page, ComparisonReport) else ()
    measured = [record for record in records if not wording.is_difference(record)]
    differences = [record for record in records if wording.is_difference(record)]
    return [
        *([_values(measured)] if measured else []),
        *([_differences(differences, notes)] if differences else []),
        *([_published(published)] if published else []),
    ]


def _values(records: Sequence[ResultRecord]) -> PlainTable:
    """Build the table of models by metrics, the more numerous of the two as rows."""
    alike, cells = comparability(records), matrix(records)
    subjects = list(dict.fromkeys(record.subject for record in records))
    columns = list(dict.fromkeys(column(record) for record in records))
    names = {name: _metric_name([r for r in records if column(r) == name]) for name in columns}
    num_images = Counter(record.n for record in records if record.state == "ok")
    usual = num_images.most_common(1)[0][0] if num_images else 0

    def cell(subject: str, name: tuple[str, str]) -> str:
        places = cells.get((subject, name), [])
        found = [_cell(records[at], alike.marks.get(at, ""), usual) for at in places]
        return "; ".join(found) or "not measured"

    if len(columns) > len(subjects):
        header = ("metric", *subjects)
        rows = [(names[one], *(cell(subject, one) for subject in subjects)) for one in columns]
    else:
        header = ("model", *(names[one] for one in columns))
        rows = [(subject, *(cell(subject, one) for one in columns)) for subject in subjects]
    levels = {formatting.level_text(record) for record in records if record.interval}
    brackets = f"in brackets: {' or '.join(sorted(levels))} intervals" if levels else ""
    counted = f"n = {usual:,}" if usual else ""
    reference = {count for record in records if (count := wording.reference_count(record))}
    if len(reference) == 1:
        counted += f", reference: {reference.pop():,} images"
    opening = "; ".join(filter(None, [counted, brackets]))
    return PlainTable(
        title="Values",
        header=header,
        rows=tuple(rows),
        notes=(*([f"{opening}."] if opening else []), *table_notes(records)),
    )


def _metric_name(records: Sequence[ResultRecord]) -> str:
    first, unit = records[0], common_unit(records)
    arrow = "" if first.direction == "none" else f" {formatting.direction_arrow(first.direction)}"
    return f"{wording.label(first)}{arrow}" + (f" ({unit})" if unit else "")


def _cell(record: ResultRecord, mark: str, usual: int) -> str:
    """Format a value with its interval, its mark, and n where it isn't the usual one."""
    state = state_words(record)
    if state:
        return state
    parts = [formatting.value_text(record)]
    if mark:
        parts.append(f"({mark})")
    interval, error = formatting.interval_text(record), formatting.standard_error_text(record)
    if interval or error:
        parts.append(interval or f"(s.e. {error})")
    if record.n != usual:
        parts.append(f"(n = {record.n:,})")
    return formatting.typographic(" ".join(parts))


def _differences(records: Sequence[ResultRecord], said: Sequence[str]) -> PlainTable:
    views, notes = record_views(records)
    found = [difference_view(view) for view in views]
    pairs = list(dict.fromkeys(record.subject for record in records))
    several = len(pairs) > 1
    correction = next((one.correction for one in found if one.correction), "")
    header = (
        *(["models"] if several else []),
        "metric",
        "difference",
        "interval",
        "n",
        f"p ({correction})" if correction else "p",
        "favours",
    )
    rows = [
        (
            *([one.view.record.subject] if several else []),
            one.metric,
            one.view.state or one.view.value,
            one.view.interval,
            f"{one.view.record.n:,}",
            one.p_value.removeprefix("p ").removeprefix("= "),
            one.favours or one.verdict,
        )
        for one in found
    ]
    return PlainTable(
        title="Paired differences, first minus second"
        if several
        else f"Paired differences, {pairs[0]}",
        header=header,
        rows=tuple(rows),
        notes=(*said, *(f"{note}." for note in notes), *difference_notes(found)),
        texts=("models", "metric", "favours"),
    )


def _published(values: Sequence[Published]) -> PlainTable:
    return PlainTable(
        title="Published values, not measured here",
        header=("model", "metric", "value", "protocol", "source"),
        rows=tuple(
            (
                one.stated.model,
                wording.metric_label(one.stated.metric),
                f"{one.stated.value:g}",
                one.protocol,
                one.stated.source,
            )
            for one in values
        ),
        texts=("model", "metric", "protocol", "source"),
    )
