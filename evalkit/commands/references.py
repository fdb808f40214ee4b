"""`evalkit references`: published statistics by name."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from evalkit.core.progress import console, print_list
from evalkit.metrics.named_references import REFERENCES, keep_reference, state


def show() -> None:
    """List the references: where each is published, and whether it is cached."""
    table = Table(
        "name", "file", "published in", "here",
        title="References for --against", title_justify="left", box=box.SIMPLE_HEAD,
    )  # fmt: skip
    for name, row in REFERENCES.items():
        table.add_row(*map(escape, (name, row.file, row.where, state(name))))
    print_list(table)


def keep(name: str, file: Path) -> None:
    """Check a file, copy it into the cache and pin its hash.

    Raises:
        UnknownNameError: No reference has this name.
        DataError: It is no statistics file, or has another hash.
    """
    path = keep_reference(name, file)
    console.print(f"{name}: {path}, {state(name)}", soft_wrap=True, highlight=False)
