"""`suites` and `suite`: list the prompt suites, and verify one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from drawbench.suites.catalog import SuiteRow


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("suites")(list_suites)
    app.command("suite")(show_suite)


def list_suites() -> None:
    """List the prompt suites, one per line: name, size, source and licence."""
    from drawbench.suites.suite import listed_suites

    suites = listed_suites()
    width = max(len(suite.name) for suite in suites)
    for suite in suites:
        row = suite.row
        text = suite.fault if row is None else _described(row)
        typer.echo(f"{suite.name:<{width}}  {text}")


def show_suite(
    name: Annotated[
        str,
        typer.Argument(
            help="Name of a suite, FILE, or NAME=FILE.", metavar="SUITE", show_default=False
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the prompts with their ids to this CSV.")
    ] = None,
) -> None:
    """Load and verify a suite, and show its categories."""
    from drawbench.suites.suite import load_suite, suite_row, write_suite

    suite, row = load_suite(name), suite_row(name)
    table = Table(
        "category", "prompts", title=escape(f"{suite.name}: {len(suite.prompts)} prompts")
    )
    for category, count in suite.categories.items():
        table.add_row(escape(category), str(count))
    console = Console()
    console.print(table)
    console.print(f"sha256 {suite.sha256}\nfrom {escape(suite.source)}", highlight=False)
    if row is not None:
        console.print(escape(f"{row.summary}; licence: {row.licence}"), highlight=False)
    for note in suite.notes:
        console.print(f"note: {escape(note)}", highlight=False)
    if out is not None:
        write_suite(out, suite)
        console.print(f"written to {escape(str(out))}", highlight=False)


def _described(row: SuiteRow) -> str:
    return f"{row.size}: {row.summary}; source: {row.source}; licence: {row.licence}"
