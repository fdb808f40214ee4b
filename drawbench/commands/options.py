"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DATABASE_VARIABLE = "EVALKIT_DATABASE"
StudyPath = Annotated[Path, typer.Argument(help="Folder of the study.", metavar="STUDY")]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database",
        envvar=DATABASE_VARIABLE,
        show_envvar=True,
        help="Database of the votes, postgresql://USER:PASSWORD@HOST/NAME; by default the SQLite "
        "file in the study's folder.",
    ),
]
AnswerWords = Annotated[
    list[str] | None,
    typer.Option(
        help="Meaning of another tool's answer, WORD=a, tie, b, left or right; repeatable."
    ),
]
Submissions = Annotated[
    Path | None,
    typer.Option(help="CSV of submissions from Prolific, for the status of each rater."),
]
