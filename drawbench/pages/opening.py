"""Settings of the pages, read from the environment, and the study, opened once per process."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from drawbench.rating.session import open_for_rating
from drawbench.store import Store
from drawbench.study import load_study
from drawbench.study.texts import Texts, english
from evalkit.core.errors import EvalkitError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The study, and the password of its results."""

    study: str
    """Folder of the study; empty for the embedded sample study."""
    database: str
    """URL of its votes; empty for the SQLite file in the folder."""
    results_password: str
    """Password of the results page; without one the page stays closed."""
    sample_folder: Path
    """Where the sample study is kept."""


def read_settings() -> Settings:
    """Read the settings from the environment, which `evalkit drawbench rate` fills in."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Settings(
        study=os.environ.get("EVALKIT_STUDY", ""),
        database=os.environ.get("EVALKIT_DATABASE", ""),
        results_password=os.environ.get("EVALKIT_RESULTS_PASSWORD", ""),
        sample_folder=home / "evalkit" / "sample-study",
    )


@cache
def shared_store() -> Store:
    """Open the store that all visitors of this process share.

    Raises:
        EvalkitError: The study or its database can't be opened; the next call tries again.
    """
    settings = read_settings()
    return open_for_rating(settings.study, settings.database, sample_path=settings.sample_folder)


def texts_without_store() -> Texts:
    """Return what raters read where the votes can't be reached; English without a study."""
    with suppress(EvalkitError):
        return load_study(Path(read_settings().study)).texts
    return english()
