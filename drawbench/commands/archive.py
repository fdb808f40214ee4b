"""`backup`, `restore`, `export`, `import`: a study's data in files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from drawbench.commands.opening import note_missing_images, open_study, require_store
from drawbench.commands.options import DatabaseUrl, StudyPath

if TYPE_CHECKING:
    import pandas as pd

    from drawbench.store import Store


class ExportForm(StrEnum):
    """The kinds of export."""

    VOTES = "votes"
    RATINGS = "ratings"
    RATERS = "raters"
    QUOTAS = "quotas"
    REPORTS = "reports"
    LABEL_STUDIO = "label-studio"


class ImportForm(StrEnum):
    """The kinds of import."""

    VOTES = "votes"
    LABEL_STUDIO = "label-studio"
    BATCH = "batch"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("backup")(backup)
    app.command("restore")(restore)
    app.command("export")(export)
    app.command("import")(import_)


def backup(
    study: StudyPath,
    out: Annotated[Path, typer.Argument(help="Zip file to write.", metavar="FILE")],
    database: DatabaseUrl = "",
) -> None:
    """Write a study with its images and votes to one zip file. Raters may continue meanwhile."""
    store = open_study(study, database)
    from drawbench.store.backup import back_up

    typer.echo(f"{out}: {_counted(back_up(store, out))}")
    note_missing_images(store.study, "the backup lacks them too")


def restore(
    file: Annotated[Path, typer.Argument(help="Zip file written by backup.", metavar="FILE")],
    study: StudyPath,
    database: DatabaseUrl = "",
) -> None:
    """Restore a study from a backup, into SQLite or PostgreSQL."""
    require_store()
    from drawbench.store.backup import restore as run

    typer.echo(f"{study}: {_counted(run(file, study, database))}")


def export(
    study: StudyPath,
    out: Annotated[Path, typer.Option(help="File to write.")],
    form: Annotated[ExportForm, typer.Option("--as", help="Kind of export.")] = ExportForm.VOTES,
    url_prefix: Annotated[
        str, typer.Option(help="For label-studio: prefix of the image names in URLs.")
    ] = "/data/local-files/?d=images/",
    database: DatabaseUrl = "",
) -> None:
    """Export votes, ratings of single sets, raters, quotas or reported images as CSV.

    With --as label-studio, write the tasks as JSON and the labelling interface next to it as XML.
    """
    store = open_study(study, database)
    from drawbench.exchange.label_studio import label_studio_config, label_studio_tasks
    from evalkit.core.results import write_atomically

    if form is ExportForm.LABEL_STUDIO:
        tasks = label_studio_tasks(store, url_prefix=url_prefix)
        write_atomically(out, json.dumps(tasks, indent=1, ensure_ascii=False).encode())
        write_atomically(out.with_suffix(".xml"), label_studio_config(store).encode())
        typer.echo(f"{out}: {len(tasks)} tasks; {out.with_suffix('.xml')}: labelling interface")
        return
    frame = _frame(store, form)
    _write_csv(out, frame)
    typer.echo(f"{out}: {len(frame)} rows")


def import_(
    study: StudyPath,
    file: Annotated[Path, typer.Argument(help="File to read.", metavar="FILE")],
    form: Annotated[
        ImportForm,
        typer.Option(
            "--as",
            help="votes: a CSV of votes; label-studio: its JSON export; batch: the CSV of a "
            "Prolific or MTurk batch.",
        ),
    ] = ImportForm.VOTES,
    database: DatabaseUrl = "",
) -> None:
    """Import votes into a study, or match the batch of a crowd platform with its raters."""
    store = open_study(study, database)
    from drawbench.exchange.into_store import import_votes_csv
    from drawbench.exchange.label_studio import import_label_studio
    from drawbench.exchange.platforms import match_batch

    if form is ImportForm.BATCH:
        table = match_batch(store, file).table
        typer.echo(table.to_string(index=False))
        return
    read = import_votes_csv if form is ImportForm.VOTES else import_label_studio
    report = read(store, file)
    typer.echo(
        f"{report.num_votes} votes on {report.num_items} items by {report.num_raters} raters "
        "imported"
    )


def _frame(store: Store, form: ExportForm) -> pd.DataFrame:
    from drawbench.exchange import exports

    makers = {
        ExportForm.VOTES: exports.votes_frame,
        ExportForm.RATINGS: exports.ratings_frame,
        ExportForm.RATERS: exports.raters_frame,
        ExportForm.QUOTAS: exports.quota_frame,
        ExportForm.REPORTS: exports.reports_frame,
    }
    return makers[form](store)


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    from drawbench.votes import csv_text
    from evalkit.core.results import write_atomically

    rows = frame.astype(object).itertuples(index=False, name=None)
    write_atomically(path, csv_text(list(frame.columns), rows).encode())


def _counted(counts: dict[str, int]) -> str:
    shown = ("rater", "vote", "report")
    return ", ".join(f"{counts[name]} {name}s" for name in shown)
