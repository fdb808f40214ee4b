"""Open a study for a command, or report in one line why it can't be opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from evalkit.core.registry import require

if TYPE_CHECKING:
    from drawbench.store import Store
    from drawbench.study import Study

STORE_PACKAGES = ("sqlalchemy", "alembic")


def open_study(path: Path, database: str = "") -> Store:
    """Open the votes of the study in a folder.

    Args:
        path: Folder of the study.
        database: URL of its votes; empty takes the SQLite file in the folder.

    Raises:
        EvalkitError: A package is not installed, or the study or database can't be opened.
    """
    require_store()
    from drawbench.store import open_store
    from drawbench.study import load_study

    return open_store(load_study(path), database)


def note_missing_images(study: Study, consequence: str) -> None:
    """Print a note about image files that are missing from a study's folder."""
    missing = study.missing_images()
    if missing:
        typer.echo(
            f"note: {len(missing)} of {len(study.images)} images are missing from "
            f"{study.path / 'images'} (the first: {missing[0]}.png); {consequence}. Restore them "
            "from a backup.",
            err=True,
        )


def require_store() -> None:
    """Raise an error that names the extra to install if the vote store is missing."""
    for package in STORE_PACKAGES:
        require(package, extra="app", what="a study's vote store")
