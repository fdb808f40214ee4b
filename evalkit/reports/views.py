"""The data of the templates: records and samples as text, with all decisions made.

Everything here is plain text; the templates escape it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.results import ResultRecord
from evalkit.reports import charts, formatting, wording
from evalkit.reports.fingerprints import (
    Comparability,
    column,
    comparability,
    flatten,
    value_text,
)
from evalkit.reports.interval_charts import ChartRow, interval_chart
from evalkit.reports.tables import common_unit, matrix, state_words

_MOST_DETAIL_CHARACTERS = 300
_MOST_DETAILS = 40
_SHOWN_ELSEWHERE = (
    "copies", "histogram", "label", "mark", "most_influential", "influence_by_category",
    "against_n",
)  # fmt: skip
_MOST_CARDS = 6
_MOST_SIDE_BY_SIDE = 7
NONE_DETECTED = (
    "None detected: the interval contains 0, or the test does not reject once corrected for all "
    "tests."
)
"""What the word in a table of differences means."""
_PAIR = re.compile(r"\s+(?:-|−|–|minus|vs\.?|against)\s+")


@dataclass(frozen=True, kw_only=True)
class RecordView:
    """One record as text."""

    record: ResultRecord
    label: str
    summary: str
    source: str
    features: str
    value: str
    interval: str
    level: str
    standard_error: str
    state: str
    """Text in place of a missing value; else empty."""
    direction: str
    arrow: str
    badges: tuple[wording.Badge, ...]
    own_badges: tuple[wording.Badge, ...]
    """The badges that not all records of the page share; a plain one only at its first record, and
    one of the model only at the model's first."""
    note_numbers: tuple[int, ...]
    """Numbers of the sentences about the record, which the page has once, below its table."""
    mark: str
    details: tuple[tuple[str, str], ...]
    histogram: charts.Histogram | None

    @property
    def is_difference(self) -> bool:
        """Whether it is a paired difference of two subjects."""
        return wording.is_difference(self.record)


@dataclass(frozen=True, kw_only=True)
class ChartView:
    """One metric, several subjects."""

    label: str
    direction: str
    svg: str


@dataclass(frozen=True, kw_only=True)
class CellView:
    """One record in the table of models by metrics."""

    view: RecordView
    is_best: bool


@dataclass(frozen=True, kw_only=True)
class ColumnView:
    """One column of the table of models by metrics."""

    label: str
    unit: str
    """The unit of all records of the column; empty if they have none or several."""
    direction: str
    arrow: str
    badges: tuple[wording.Badge, ...]
    """The badges that all records of the column share, besides those of the models."""


@dataclass(frozen=True, kw_only=True)
class MatrixView:
    """Models by metrics."""

    columns: tuple[ColumnView, ...]
    rows: tuple[tuple[str, tuple[wording.Badge, ...], tuple[tuple[CellView, ...], ...]], ...]
    """Subject, its badges, and its cells in the order of the columns."""
    notes: tuple[str, ...]
    has_best: bool

    @property
    def metrics_as_rows(self) -> bool:
        """Whether metrics are rows: too many for columns, and fewer models."""
        return _MOST_SIDE_BY_SIDE < len(self.columns) > len(self.rows)


@dataclass(frozen=True, kw_only=True)
class DifferenceView:
    """A paired difference of two subjects."""

    view: RecordView
    p_value: str
    """The p-value, corrected if it was one of several tests."""
    correction: str
    """How it was corrected, such as `Holm, 12 tests`; empty if it was not."""
    verdict: str
    """What the interval says where it favours no subject, in a few words; else empty."""
    favours: str
    """The subject that the interval favours; empty if it contains 0, or the test does not reject
    once it is corrected."""

    @property
    def metric(self) -> str:
        """The label of the metric that is compared."""
        return self.view.label.removesuffix(", difference")


def record_view(
    record: ResultRecord,
    mark: str = "",
    *,
    common: Sequence[wording.Badge] = (),
    single_values: Sequence[float] = (),
) -> RecordView:
    """Prepare one record for display.

    Args:
        record: The record.
        mark: Letter if others of its column were measured differently.
        common: Badges that the page shows elsewhere, for all records.
        single_values: Single values whose mean the value is; drawn as a histogram.
    """
    badges = wording.badges(record)
    return RecordView(
        record=record,
        label=wording.label(record),
        summary=wording.summary(record),
        source=wording.source(record),
        features=wording.features_phrase(record.fingerprint),
        value=formatting.typographic(formatting.value_text(record)),
        interval=formatting.typographic(formatting.interval_text(record)),
        level=formatting.level_text(record),
        standard_error=formatting.standard_error_text(record),
        state=state_words(record),
        direction=formatting.direction_words(record.direction),
        arrow=formatting.direction_arrow(record.direction),
        badges=tuple(badges),
        own_badges=tuple(badge for badge in badges if badge not in common),
        note_numbers=(),
        mark=mark,
        details=tuple(_details(record)),
        histogram=charts.histogram(record.details.get("histogram"))
        or charts.histogram_of(single_values),
    )


def record_views(
    records: Sequence[ResultRecord], single_values: Mapping[str, Sequence[float]] | None = None
) -> tuple[list[RecordView], tuple[str, ...]]:
    """Prepare all records for display, with notes on those that are not comparable."""
    alike = comparability(records)
    # A paired difference says nothing of the models.
    measured = [record for record in records if not wording.is_difference(record)]
    common = wording.common_badges(measured or records)
    views: list[RecordView] = []
    sentences: dict[str, int] = {}
    plain: set[wording.Badge] = set()
    of_subjects: dict[str, list[wording.Badge]] = {}
    for place, record in enumerate(records):
        view = record_view(
            record,
            alike.marks.get(place, ""),
            common=[*common, *plain, *of_subjects.get(record.subject, [])],
            single_values=(single_values or {}).get(record.metric, ()),
        )
        plain |= {badge for badge in view.own_badges if badge.tone == "plain"}
        of_subjects.setdefault(record.subject, wording.subject_badges(record.fingerprint))
        numbers = [sentences.setdefault(text, len(sentences) + 1) for text in _sentences(view)]
        views.append(replace(view, note_numbers=tuple(numbers)))
    return views, alike.notes


def note_sentences(views: Sequence[RecordView]) -> list[str]:
    """Return the sentences that `RecordView.note_numbers` counts, in their order."""
    return list(dict.fromkeys(text for view in views for text in _sentences(view)))


def _sentences(view: RecordView) -> list[str]:
    """Say why a value or an interval is missing, how the interval was computed, and on what."""
    interval = view.record.interval
    said = (view.record.reason, interval.method if interval else "", view.features)
    return [text for text in said if text]


def headline_views(views: Sequence[RecordView], headline: Sequence[str]) -> list[RecordView]:
    """Choose the records for the cards: the named ones in that order, or the first six."""
    if not headline:
        return list(views[:_MOST_CARDS])
    return [view for metric in headline for view in views if view.record.metric == metric]


def chart_views(views: Sequence[RecordView]) -> list[ChartView]:
    """Build a chart for each metric that several records share."""
    columns: dict[tuple[str, str], list[RecordView]] = {}
    for view in views:
        if view.record.state == "ok":
            columns.setdefault(column(view.record), []).append(view)
    found = []
    for members in columns.values():
        if len(members) < 2:
            continue
        chart = interval_chart(
            [_chart_row(view) for view in members],
            title=f"{members[0].label}, {members[0].direction}",
            with_zero=any(wording.is_difference(view.record) for view in members),
        )
        if chart is not None:
            found.append(
                ChartView(label=members[0].label, direction=members[0].direction, svg=chart)
            )
    return found


def _chart_row(view: RecordView) -> ChartRow:
    record = view.record
    assert record.value is not None, "only records with a value are drawn"
    mark = f"({view.mark})" if view.mark else ""
    return ChartRow(
        label=record.subject or view.label,
        value=record.value,
        low=record.interval.low if record.interval else None,
        high=record.interval.high if record.interval else None,
        text=" ".join(filter(None, [view.value, mark, view.interval])),
    )


def matrix_view(records: Sequence[ResultRecord], subjects: Sequence[str]) -> MatrixView:
    """Build the table of models by metrics; mark the best value of each comparable column."""
    alike = comparability(records)
    cells = matrix(records)
    common = wording.common_badges(records)
    columns = list(dict.fromkeys(column(record) for record in records))
    headings: dict[tuple[str, str], ColumnView] = {}
    for name in columns:
        above = {b for one in headings.values() for b in one.badges if b.tone == "plain"}
        headings[name] = _column_view(records, name, above)
    best = {name: _best(records, name, alike) for name in columns}
    shared = [badge for one in headings.values() for badge in one.badges]
    rows = []
    for subject in dict.fromkeys([*subjects, *(record.subject for record in records)]):
        line = []
        for name in columns:
            places = cells.get((subject, name), [])
            line.append(tuple(_cell(records, at, alike, best[name], shared) for at in places))
        rows.append((subject, wording.own_badges(records, subject, common), tuple(line)))
    return MatrixView(
        columns=tuple(headings.values()),
        rows=tuple(rows),
        notes=alike.notes,
        has_best=any(places for places in best.values()),
    )


def difference_view(view: RecordView) -> DifferenceView:
    """Prepare a paired difference for display, with what its interval says."""
    details = view.record.details
    num_tests = details.get("num_tests", 1)
    several = isinstance(num_tests, int) and num_tests > 1
    p_value = details.get("p_holm") if several else details.get("p_value")
    return DifferenceView(
        view=view,
        p_value=_p_text(p_value) if isinstance(p_value, int | float) else "",
        correction=f"Holm, {num_tests} tests" if several else "",
        verdict=_verdict(view.record),
        favours=_favoured(view.record),
    )


def difference_notes(found: Sequence[DifferenceView]) -> list[str]:
    """Return the sentences below a table of differences, each once with the metrics it is about.

    They say what "none detected" means, why a difference is missing or is not that of the two
    values, and which marks apply.
    """
    holders: dict[str, list[str]] = {}
    for one in found:
        for text in (one.view.record.reason, *(badge.text for badge in one.view.own_badges)):
            if text:
                holders.setdefault(text.rstrip("."), []).append(one.metric)
    none = [NONE_DETECTED] if any(one.verdict == "none detected" for one in found) else []
    return [
        *none,
        *(f"{', '.join(dict.fromkeys(names))}: {text}." for text, names in holders.items()),
    ]


def command_text(fingerprint: Mapping[str, Any]) -> str:
    """Return the recorded command line; empty if there is none."""
    command = fingerprint.get("command")
    if isinstance(command, list | tuple):
        return shlex.join(str(part) for part in command)
    return str(command) if command else ""


def agreed_entries(
    fingerprints: Sequence[Mapping[str, Any]], *, disputed: str | None = None
) -> dict[str, Any]:
    """Return the top-level entries on which all fingerprints that have them agree.

    Args:
        fingerprints: Any number of them.
        disputed: Replacement of an entry on which they disagree; None omits it.
    """
    values: dict[str, list[Any]] = {}
    for fingerprint in fingerprints:
        for key, value in fingerprint.items():
            values.setdefault(key, []).append(value)
    agreed = {key: all(value == found[0] for value in found) for key, found in values.items()}
    return {
        key: found[0] if agreed[key] else disputed
        for key, found in values.items()
        if agreed[key] or disputed is not None
    }


def _details(record: ResultRecord) -> list[tuple[str, str]]:
    """Return a record's further figures, as many as a page has room for."""
    shown = {key: value for key, value in record.details.items() if key not in _SHOWN_ELSEWHERE}
    pairs = [(key, _cut(value_text(value))) for key, value in flatten(shown).items()]
    more = len(pairs) - _MOST_DETAILS
    if more <= 0:
        return pairs
    return [*pairs[:_MOST_DETAILS], (f"and {more:,} more", "in results.json")]


def _cell(
    records: Sequence[ResultRecord],
    place: int,
    alike: Comparability,
    best: Iterable[int],
    above: Sequence[wording.Badge],
) -> CellView:
    record = records[place]
    elsewhere = [*wording.subject_badges(record.fingerprint), *above]
    view = record_view(record, alike.marks.get(place, ""), common=elsewhere)
    return CellView(view=view, is_best=place in best)


def _best(
    records: Sequence[ResultRecord], name: tuple[str, str], alike: Comparability
) -> frozenset[int]:
    """Return the positions of a column's best values.

    There are none if its records are not comparable, or if any of them has no interval: a value
    alone does not say whether it is better.
    """
    shown = {
        place: record.value
        for place, record in enumerate(records)
        if column(record) == name and record.value is not None
    }
    direction = next(record.direction for record in records if column(record) == name)
    if len(shown) < 2 or direction == "none" or any(place in alike.marks for place in shown):
        return frozenset()
    if any(records[place].interval is None for place in shown):
        return frozenset()
    best = max(shown.values()) if direction == "higher" else min(shown.values())
    return frozenset(place for place, value in shown.items() if value == best)


def _column_view(
    records: Sequence[ResultRecord], name: tuple[str, str], above: Collection[wording.Badge]
) -> ColumnView:
    members = [record for record in records if column(record) == name]
    of_models = {badge for r in members for badge in wording.subject_badges(r.fingerprint)}
    shared = [wording.badges(record) for record in members if record.state == "ok"]
    return ColumnView(
        label=name[1],
        unit=common_unit(members),
        direction=formatting.direction_words(members[0].direction),
        arrow=formatting.direction_arrow(members[0].direction),
        badges=tuple(
            badge
            for badge in (shared[0] if shared else [])
            if badge not in of_models
            and badge not in above
            and all(badge in others for others in shared)
        ),
    )


def _verdict(record: ResultRecord) -> str:
    if record.value is None or record.interval is None or _favoured(record):
        return ""
    if record.interval.low <= 0 <= record.interval.high or _is_undone(record):
        return "none detected"
    return "the interval excludes 0"


def _favoured(record: ResultRecord) -> str:
    names = _PAIR.split(record.subject)
    if record.value is None or record.interval is None or len(names) != 2:
        return ""
    if record.direction == "none" or record.interval.low <= 0 <= record.interval.high:
        return ""
    if _is_undone(record):
        return ""
    first_wins = (record.value > 0) == (record.direction == "higher")
    return names[0 if first_wins else 1]


def _is_undone(record: ResultRecord) -> bool:
    """Whether the test no longer rejects once it is corrected for all tests shown."""
    p_value = record.details.get("p_holm")
    if record.interval is None or not isinstance(p_value, int | float):
        return False
    return p_value >= 1 - record.interval.level


def _p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def _cut(text: str) -> str:
    if len(text) <= _MOST_DETAIL_CHARACTERS:
        return text
    return f"{text[:_MOST_DETAIL_CHARACTERS]}… (full text in results.json)"
