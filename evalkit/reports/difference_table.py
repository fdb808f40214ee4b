"""Paired differences as a table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from evalkit.core.results import ResultRecord
from evalkit.reports.tables import state_words
from evalkit.reports.views import difference_notes, difference_view, record_views


def difference_table(records: Sequence[ResultRecord], notes: Sequence[str] = ()) -> Table:
    """Build a table with a row per pair and metric: `-1.2 [-1.9, -0.5]`, p, and who is better."""
    views, _ = record_views(records)
    found = [difference_view(view) for view in views]
    levels = {one.view.level for one in found if one.view.interval}
    pairs = list(dict.fromkeys(record.subject for record in records))
    of_what = pairs[0] if len(pairs) == 1 else "first minus second"
    notes = [*notes, *difference_notes(found)]
    table = Table(
        title=Text(f"Paired differences, {of_what}", style="bold"),
        title_justify="left",
        caption=Text("\n".join(notes)) if notes else None,
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    if len(pairs) > 1:
        table.add_column("models", overflow="fold")
    table.add_column("metric", overflow="fold")
    heading = f"difference\n[{levels.pop()} interval]" if len(levels) == 1 else "difference"
    table.add_column(heading, no_wrap=True)
    table.add_column("p (Holm)" if any(one.correction for one in found) else "p", no_wrap=True)
    table.add_column("favours", overflow="fold")
    for one in found:
        record = one.view.record
        state = state_words(record)
        value = Text(f"{one.view.value} {one.view.interval}".strip())
        table.add_row(
            *([Text(record.subject)] if len(pairs) > 1 else []),
            Text(one.metric),
            Text(state, style="yellow") if state else value,
            Text(one.p_value.removeprefix("p ").removeprefix("= ")),
            Text(one.favours or one.verdict),
        )
    return table
