"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StudyPath = Annotated[Path, typer.Argument(help="Folder of the study.", metavar="STUDY")]
DatabaseUrl = Annotated[
    str,
    typer.Option(
        "--database",
        envvar="EVALKIT_DATABASE",
        show_envvar=True,
        help="postgresql://USER:PASSWORD@HOST/NAME; without it, the SQLite file in the folder.",
    ),
]
AnswerWords = Annotated[
    list[str] | None,
    typer.Option(help="WORD=a, tie, b, left or right: what an answer means; repeatable."),
]
Submissions = Annotated[Path | None, typer.Option(help="Prolific's list of submissions.")]
