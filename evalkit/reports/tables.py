"""Records as tidy rows, CSV, and tables on the terminal."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from evalkit.core.places import AnyPath
from evalkit.core.results import ResultRecord, write_atomically
from evalkit.reports import formatting, wording
from evalkit.reports.fingerprints import Scalar, column, comparability, flatten

COLUMNS = (
    "subject", "metric", "label", "value", "low", "high", "level", "method", "standard_error", "n",
    "n_reference", "p_value", "p_holm", "direction", "unit", "state", "reason", "marks",
)  # fmt: skip
"""Columns of every CSV, before those of the fingerprint."""

MOST_COLUMNS = 3
"""Number columns that fit into 80 characters, besides the first column."""

_LABEL_WIDTH, _CELL_WIDTH = 26, 24
"""Widths in characters of a metric's name, and of a number with its interval and mark."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠")
_CONTROL_STARTS = ("\t", "\r", "\n")
_STATE_WORDS = {"not_applicable": "not applicable", "failed": "failed"}


def tidy_row(record: ResultRecord) -> dict[str, Scalar]:
    """Flatten a record to one row; fingerprint entries get the prefix `fingerprint.`."""
    interval = record.interval
    row: dict[str, Scalar] = {
        "subject": record.subject,
        "metric": record.metric,
        "label": wording.label(record),
        "value": record.value,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "level": interval.level if interval else None,
        "method": interval.method if interval else None,
        "standard_error": record.standard_error,
        "n": record.n,
        "n_reference": wording.reference_count(record),
        "p_value": record.details.get("p_value"),
        "p_holm": record.details.get("p_holm"),
        "direction": record.direction,
        "unit": record.unit,
        "state": record.state,
        "reason": record.reason,
        "marks": wording.marks_text(record),
    }
    return row | flatten(record.fingerprint, "fingerprint.")


def write_csv(path: AnyPath, records: Iterable[ResultRecord]) -> None:
    """Write `results.csv`: one row per record, with all digits.

    A cell that a spreadsheet would run as a formula gets an apostrophe as prefix.
    """
    rows = [tidy_row(record) for record in records]
    columns = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
    buffer = io.StringIO()
    plain = csv.writer(buffer, lineterminator="\n")
    quoting = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    lines: list[list[Scalar]] = [[*columns], *([row.get(name) for name in columns] for row in rows)]
    for line in lines:
        safe = [safe_cell(cell) for cell in line]
        # With "\n" between rows, the csv module does not quote a carriage return in a cell.
        writer = quoting if any("\r" in cell for cell in safe) else plain
        writer.writerow(safe)
    write_atomically(path, buffer.getvalue().encode("utf-8", "replace"))


def safe_cell(value: Scalar) -> str:
    """Return a cell as text that no spreadsheet runs as a formula.

    >>> safe_cell("=1+1"), safe_cell("-0.5"), safe_cell(-0.5), safe_cell(None), safe_cell(True)
    ("'=1+1", '-0.5', '-0.5', '', 'true')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    starts_badly = text.startswith(_CONTROL_STARTS) or text.lstrip().startswith(_FORMULA_STARTS)
    return f"'{text}" if starts_badly and not _NUMBER.fullmatch(text) else text


def terminal_table(records: Sequence[ResultRecord], *, title: str = "") -> Table:
    """Build a table with one row per record: `12.24 [11.80, 12.71]` and n, else the state.

    Letters mark records of a metric that were measured differently; notes below the table say what
    differs, and why a number or an interval is missing. The table fits 80 columns.
    """
    alike = comparability(records)
    common = wording.common_badges(records)
    levels = {formatting.level_text(record) for record in records if record.interval}
    one_level = len(levels) == 1
    with_subject = len({record.subject for record in records}) > 1
    notes = _notes(records, common, with_subject=with_subject)
    table = _table(title, [*(_for_all(badge) for badge in common), *alike.notes, *notes])
    if with_subject:
        table.add_column("model", overflow="fold")
    table.add_column("metric", overflow="fold")
    table.add_column(f"value [{levels.pop()} interval]" if one_level else "value", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for place, record in enumerate(records):
        cells = [
            _metric_cell(record),
            _number_cell(record, alike.marks.get(place, ""), with_level=not one_level),
            Text(f"{record.n:,}"),
        ]
        table.add_row(*([Text(record.subject), *cells] if with_subject else cells))
    return table


def categories_table(records: Sequence[ResultRecord], *, title: str = "By category") -> Table:
    """Build a table of categories by metrics: `24.1 [23.0, 25.2]` and n.

    Args:
        records: With the category in their details.
        title: Its title.
    """
    levels = {formatting.level_text(record) for record in records if record.interval}
    metrics = {column(record): record for record in records}
    cells = {(str(r.details["category"]), column(r)): r for r in records}
    notes = dict.fromkeys(f"{r.details['category']}: {r.reason}." for r in records if r.reason)
    level = f" [{next(iter(levels))} interval]" if len(levels) == 1 else ""
    table = _table(title + level, list(notes))
    table.add_column("category", no_wrap=True)
    for record in metrics.values():
        table.add_column(_metric_cell(record), overflow="fold")
    table.add_column("n", justify="right", no_wrap=True)
    for category in dict.fromkeys(category for category, _ in cells):
        row = [cells.get((category, metric)) for metric in metrics]
        n = max(record.n for record in row if record is not None)
        shown = [
            Text("") if r is None else _number_cell(r, "", with_level=len(levels) > 1) for r in row
        ]
        table.add_row(Text(category), *shown, Text(f"{n:,}"))
    return table


def comparison_table(records: Sequence[ResultRecord], *, title: str = "") -> Table:
    """Build a table of models by metrics: `12.24 [11.80, 12.71]`, marked if not comparable."""
    alike = comparability(records)
    common = wording.common_badges(records)
    cells = matrix(records)
    columns = list(dict.fromkeys(column(record) for record in records))
    marks = _notes(records, [*common, *_of_subjects(records)], with_subject=True, reasons=False)
    table = _table(title, [*(_for_all(badge) for badge in common), *alike.notes, *marks])
    table.add_column("model", overflow="fold")
    for name in columns:
        members = [record for record in records if column(record) == name]
        heading = Text(f"{name[1]} {formatting.direction_arrow(members[0].direction)}")
        heading.append(f"\n{common_unit(members)}", "dim")
        table.add_column(heading, justify="right", overflow="fold")
    for subject in dict.fromkeys(record.subject for record in records):
        row = [_subject_cell(subject, wording.own_badges(records, subject, common))]
        for name in columns:
            places = cells.get((subject, name), [])
            lines = [_matrix_cell(records[place], alike.marks.get(place, "")) for place in places]
            row.append(Text("\n").join(lines) if lines else Text("not measured", style="dim"))
        table.add_row(*row)
    return table


def metrics_tables(records: Sequence[ResultRecord], *, title: str = "", width: int = 80) -> Group:
    """Build tables of metrics by models, which fit many metrics of any number of models.

    The models are split over as many tables as the width requires; common notes follow the last.
    """
    alike = comparability(records)
    common = wording.common_badges(records)
    cells = matrix(records)
    levels = {formatting.level_text(record) for record in records if record.interval}
    heading = f"metric [{next(iter(levels))} interval]" if len(levels) == 1 else "metric"
    names = {column(record): _metric_cell(record) for record in reversed(records)}
    order = dict.fromkeys(column(record) for record in records)

    def text(place: int) -> Text:
        mark = alike.marks.get(place, "")
        return _number_cell(records[place], mark, with_level=len(levels) > 1)

    tables: list[Table] = []
    room = max(1, (width - _LABEL_WIDTH) // _CELL_WIDTH)
    for subjects in _parts(list(dict.fromkeys(record.subject for record in records)), room):
        table = _table("" if tables else title, ())
        table.add_column(heading, overflow="fold")
        for subject in subjects:
            table.add_column(Text(subject), justify="right", overflow="fold", min_width=_CELL_WIDTH)
        for name in order:
            lines = [[text(place) for place in cells.get((one, name), [])] for one in subjects]
            missing = Text("not measured", style="dim")
            table.add_row(names[name], *(Text("\n").join(few) if few else missing for few in lines))
        tables.append(table)
    notes = [*(_for_all(badge) for badge in common), *alike.notes]
    notes += _notes(records, common, with_subject=True)
    said = Text("\n".join(notes), style="table.caption")
    return Group(*tables, *([said] if notes else []))


def table_notes(records: Sequence[ResultRecord]) -> list[str]:
    """Return what a table of several models says below: marks, comparability, missing numbers."""
    common = wording.common_badges(records)
    alike = (f"{note}." for note in comparability(records).notes)
    own = _notes(records, common, with_subject=True)
    return [*(_for_all(badge) for badge in common), *alike, *own]


def _parts(subjects: Sequence[str], room: int) -> list[Sequence[str]]:
    """Split the subjects into as few parts as fit, of nearly equal size; at least one."""
    parts = max(1, -(-len(subjects) // room))
    ends = [-(-len(subjects) * part // parts) for part in range(parts + 1)]
    return [subjects[start:end] for start, end in itertools.pairwise(ends)]


def models_table(
    records: Sequence[ResultRecord], *, title: str = "", width: int = 80
) -> RenderableType:
    """Build the table that has room for several models' records."""
    if len({column(record) for record in records}) <= MOST_COLUMNS:
        return comparison_table(records, title=title)
    return metrics_tables(records, title=title, width=width)


def matrix(
    records: Sequence[ResultRecord],
) -> Mapping[tuple[str, tuple[str, str]], list[int]]:
    """Index the records by subject and column; more than one where settings differ."""
    cells: dict[tuple[str, tuple[str, str]], list[int]] = {}
    for place, record in enumerate(records):
        cells.setdefault((record.subject, column(record)), []).append(place)
    return cells


def common_unit(records: Iterable[ResultRecord]) -> str:
    """Return the unit that the records share; empty if they have none or several."""
    units = {record.unit for record in records}
    return units.pop() if len(units) == 1 else ""


def state_words(record: ResultRecord) -> str:
    """Return the text shown in place of a missing value, such as `not applicable`; else empty."""
    return _STATE_WORDS.get(record.state, "")


def _table(title: str, notes: Sequence[str]) -> Table:
    return Table(
        title=Text(title, style="bold") if title else None,
        title_justify="left",
        caption=Text("\n".join(notes)) if notes else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )


def _metric_cell(record: ResultRecord) -> Text:
    """Format a metric's name, such as `Images per second ↑ (images/s)`."""
    cell = Text(f"{wording.label(record)} {formatting.direction_arrow(record.direction)}")
    return cell.append(f" ({record.unit})", style="dim") if record.unit else cell


def _value_cell(record: ResultRecord, mark: str) -> Text:
    if record.state != "ok":
        return Text(state_words(record), style="yellow" if record.state != "failed" else "red")
    return Text(formatting.value_text(record)).append(f" ({mark})" * bool(mark), style="yellow")


def _number_cell(record: ResultRecord, mark: str, *, with_level: bool) -> Text:
    cell = _value_cell(record, mark)
    if record.interval is not None:
        cell.append(f" {formatting.interval_text(record)}")
        return cell.append(f" {formatting.level_text(record)}") if with_level else cell
    error = formatting.standard_error_text(record)
    return cell.append(f" (s.e. {error})") if error else cell


def _matrix_cell(record: ResultRecord, mark: str) -> Text:
    cell = _value_cell(record, mark)
    if record.state != "ok":
        return cell.append(f": {record.reason}", style="dim")
    interval = formatting.interval_text(record)
    return cell.append(f"\n{interval}", style="dim") if interval else cell


def _subject_cell(subject: str, badges: Iterable[wording.Badge]) -> Text:
    cell = Text(subject)
    for badge in badges:
        cell.append(f"\n{badge.text}", style="yellow" if badge.tone == "warn" else "dim")
    return cell


def _for_all(badge: wording.Badge) -> str:
    return f"All rows: {badge.text}."


def _notes(
    records: Sequence[ResultRecord],
    common: Sequence[wording.Badge],
    *,
    with_subject: bool,
    reasons: bool = True,
) -> list[str]:
    """Write one line per note, with the names of the records that it applies to.

    Args:
        records: The records of the table.
        common: Badges that it shows elsewhere.
        with_subject: Whether to name the models.
        reasons: Whether to say why a value or an interval is missing.
    """
    holders: dict[str, list[tuple[str, str]]] = {}
    every = [(record.subject, wording.label(record)) for record in records]
    for name, record in zip(every, records, strict=True):
        for text in _said(record, common, reasons=reasons):
            holders.setdefault(text, []).append(name)
    return [
        f"{'; '.join(_named(names, every, with_subject=with_subject))}: {text}."
        for text, names in holders.items()
    ]


def _named(
    names: Sequence[tuple[str, str]], every: Sequence[tuple[str, str]], *, with_subject: bool
) -> list[str]:
    """Name records by subject and label: a subject or a label alone where it has all of its own."""
    wanted = set(names)
    if not with_subject:
        return list(dict.fromkeys(label for _, label in names))
    whole = {subject for subject, _ in names if _all_of(0, subject, wanted, every)}
    left = [name for name in names if name[0] not in whole]
    labels = {label for _, label in left if _all_of(1, label, wanted, every)}
    found = [subject if subject in whole else "" for subject, _ in names]
    found += [label if label in labels else f"{subject}, {label}" for subject, label in left]
    return list(dict.fromkeys(filter(None, found)))


def _all_of(
    part: int, value: str, wanted: Collection[tuple[str, str]], every: Sequence[tuple[str, str]]
) -> bool:
    """Whether all records with this subject (part 0) or label (part 1) are wanted."""
    return all(name in wanted for name in every if name[part] == value)


def _said(record: ResultRecord, common: Sequence[wording.Badge], *, reasons: bool) -> list[str]:
    parts = [badge.text for badge in wording.badges(record) if badge not in common]
    return [*parts, record.reason.rstrip(".")] if record.reason and reasons else parts


def _of_subjects(records: Sequence[ResultRecord]) -> list[wording.Badge]:
    """Return the badges that stand beside the models' names."""
    return [badge for record in records for badge in wording.subject_badges(record.fingerprint)]
