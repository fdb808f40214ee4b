"""`rate`: start the page for raters, or the one for researchers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from drawbench.commands.opening import open_study
from drawbench.commands.options import DatabaseUrl
from evalkit.errors import ConfigError, MissingExtraError

PASSWORD_VARIABLE = "EVALKIT_RESULTS_PASSWORD"  # noqa: S105 (the name of one, not one)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("rate")(rate)


def rate(
    study: Annotated[
        Path | None,
        typer.Argument(help="Folder of the study; without it, the embedded sample study."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8501,
    address: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for other machines, behind TLS.")
    ] = "127.0.0.1",
    results: Annotated[
        bool, typer.Option("--results", help=f"The results page; {PASSWORD_VARIABLE} opens it.")
    ] = False,
    database: DatabaseUrl = "",
) -> None:
    """Put a study before raters in a browser."""
    if importlib.util.find_spec("streamlit") is None:
        raise MissingExtraError("the rating page", "app")
    if results and not os.environ.get(PASSWORD_VARIABLE):
        raise ConfigError(f"the results page needs a password: set {PASSWORD_VARIABLE} first")
    if study is not None:
        open_study(study, database).database.close()  # what is wrong is said here, not in a browser
    environment = {**os.environ, "EVALKIT_STUDY": str(study.absolute()) if study else ""}
    if database:
        environment["EVALKIT_DATABASE"] = database
    raise typer.Exit(subprocess.call(page_command(results, port, address), env=environment))


def page_command(results: bool, port: int, address: str) -> list[str]:
    """The command line that serves a page."""
    found = importlib.util.find_spec("app")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("the rating page", "app")
    script = Path(found.submodule_search_locations[0]) / ("results.py" if results else "rate.py")
    options = ["--server.port", str(port), "--server.address", address]
    return [sys.executable, "-m", "streamlit", "run", str(script), *options]
