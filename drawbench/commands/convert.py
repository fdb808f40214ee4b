"""`evalkit drawbench convert`: convert votes of other tools to our own CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from drawbench.commands.options import AnswerWords, Submissions


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("convert")(convert)


def convert(
    source: Annotated[Path, typer.Argument(help="File of votes written by another tool.")],
    form: Annotated[
        str, typer.Option("--from", help="label-studio, mturk, prolific, arena or pick-a-pic.")
    ],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    answer: AnswerWords = None,
    submissions: Submissions = None,
) -> None:
    """Convert the votes of another tool to a CSV for `results --votes`."""
    from drawbench.exchange.formats import import_votes, parse_words
    from drawbench.votes import write_votes

    imported = import_votes(
        source, form=form, words=parse_words(answer or []), submissions=submissions
    )
    write_votes(out, imported.votes)
    for reason, number in imported.skipped.items():
        typer.echo(f"left out: {number} {reason}", err=True)
    typer.echo(f"{len(imported.votes)} votes: {out}")
