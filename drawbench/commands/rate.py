"""`rate` and `screenshots`: serve the pages for raters and researchers, and picture them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from drawbench.commands.opening import note_missing_images, open_study, require_store
from drawbench.commands.options import DatabaseUrl, StudyPath
from evalkit.core.errors import ConfigError

PASSWORD_VARIABLE = "EVALKIT_RESULTS_PASSWORD"  # noqa: S105 (the name of one, not one)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("rate")(rate)
    app.command("screenshots")(screenshots)


def rate(
    study: Annotated[
        Path | None,
        typer.Argument(help="Folder of the study; by default a sample study."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 for other machines, behind a proxy with TLS."
        ),
    ] = "127.0.0.1",
    results: Annotated[
        bool,
        typer.Option(
            "--results", help=f"Serve the results page; {PASSWORD_VARIABLE} is its password."
        ),
    ] = False,
    join_limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Raters who may join from one network address within an hour without a personal "
            "link; 0 for any number. [default: 20]",
        ),
    ] = None,
    proxy: Annotated[
        str,
        typer.Option(
            help="Address of the proxy in front, which says whose requests it passes on; needed "
            "unless it is on this machine. Several are separated by commas."
        ),
    ] = "",
    database: DatabaseUrl = "",
) -> None:
    """Serve the rating page of a study, or its results page."""
    require_store()
    from drawbench.rating.serving import page_command, page_environment

    command = page_command(results, port, address)
    if results and not os.environ.get(PASSWORD_VARIABLE):
        raise ConfigError(f"The results page needs a password. Set {PASSWORD_VARIABLE} first.")
    if study is not None:
        store = open_study(study, database)  # errors are printed here, not in a browser
        store.database.close()
        note_missing_images(store.study, "raters can report them or answer without them")
    environment = page_environment(study, database, join_limit=join_limit, proxies=proxy)
    raise typer.Exit(subprocess.call(command, env=environment))


def screenshots(study: StudyPath) -> None:
    """Take screenshots of the rating page for the report. Needs Chromium."""
    require_store()
    from drawbench.rating.screenshots import take_screenshots
    from drawbench.study import load_study

    for path in take_screenshots(load_study(study)):
        typer.echo(str(path))
