"""`evalkit protocols`: list measurement protocols, show one, compare two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from evalkit.core.progress import console, print_list
from evalkit.protocols.catalog import NOT_DRAWABLE, PROTOCOLS, open_protocol
from evalkit.protocols.model import OUR_CHOICE, MeasurementProtocol

_NO_VALUE = "-"


def list_protocols() -> None:
    """Print the protocols, then those that can't be run exactly, with the reason."""
    table = _table("Protocols", ("name", "data set", "requests", "our choice", "summary"))
    for name in PROTOCOLS:
        one = open_protocol(name)
        ours = f"{len(one.our_choices)} of {one.num_values}"
        table.add_row(
            *map(escape, (name, one.dataset, f"{one.captions.count:,}", ours, one.summary))
        )
    others = _table("Known, but not exactly enough to run", ("name", "reason"))
    for name, reason in NOT_DRAWABLE.items():
        others.add_row(escape(name), escape(reason))
    print_list(table, others)


def show_protocol(name: str) -> None:
    """Print every value of a protocol with its source, and what was published under it.

    Raises:
        UnknownNameError: No protocol has this name.
        MissingDataError: The file does not exist.
        ConfigError: The file is not a protocol, or the protocol is not known well enough.
    """
    protocol = open_protocol(name)
    table = _table(
        f"{protocol.name} ({protocol.choices_phrase()})", ("value", "", "where it is stated")
    )
    for key, value in protocol.values().items():
        source = protocol.sources[key]
        style = "yellow" if source.startswith(OUR_CHOICE) else ""
        table.add_row(escape(key), escape(_shown(value)), Text(source, style=style))
    console.print(Text(protocol.summary, style="bold"), table)
    if protocol.generation:
        told = _table("How the published images were generated", ("", ""))
        for key, text in protocol.generation.items():
            told.add_row(escape(key.replace("_", " ")), escape(text))
        console.print(told)
    if protocol.published:
        values = _table("Published values", ("model", "metric", "value", "source"))
        for one in protocol.published:
            values.add_row(*map(escape, (one.model, one.metric, f"{one.value:g}", one.source)))
        console.print(values)
    for sentence in protocol.departures:
        console.print(f"Differs here: {sentence}", markup=False, highlight=False, soft_wrap=True)


def diff_protocols(first: str, second: str) -> list[str]:
    """Print the values in which two protocols differ; return their names.

    Raises:
        UnknownNameError: No protocol has this name.
        ConfigError: A file is not a protocol, or a protocol is not known well enough.
    """
    a, b = open_protocol(first), open_protocol(second)
    values = (a.values(), b.values())
    different = [
        key
        for key in dict.fromkeys((*values[0], *values[1]))
        if values[0].get(key) != values[1].get(key)
    ]
    if not different:
        console.print(f"{a.name} and {b.name} decide the same.", highlight=False)
        return []
    title = f"{len(different)} values differ"
    header = ("value", *(f"{one.name}\n({one.choices_phrase()})" for one in (a, b)))
    table = _table(title, header)
    for key in different:
        table.add_row(escape(key), *(_cell(one, key) for one in (a, b)))
    console.print(table)
    console.print(f"* {OUR_CHOICE}", highlight=False)
    return different


def _cell(protocol: MeasurementProtocol, key: str) -> Text:
    """Format one side of a difference; a star marks a value of our choice."""
    if key not in protocol.values():
        return Text(_NO_VALUE, style="dim")
    ours = protocol.sources[key].startswith(OUR_CHOICE)
    return Text(_shown(protocol.values()[key]) + (" *" if ours else ""))


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) else repr(value) if value == "" else str(value)


def _table(title: str, header: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name in header:
        table.add_column(name, overflow="fold")
    return table
