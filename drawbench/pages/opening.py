"""Settings of the pages, read from the environment, and the study, opened once per process."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from drawbench.rating.gate import Gate
from drawbench.rating.limits import ClientLimit
from drawbench.rating.serving import JOIN_LIMIT_VARIABLE, read_join_limit
from drawbench.rating.session import open_for_rating
from drawbench.store import Store
from drawbench.study import load_study
from drawbench.study.texts import Texts, english
from evalkit.core.errors import EvalkitError

JOIN_WINDOW_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The study, and the password of its results."""

    study: str
    """Folder of the study; empty for the embedded sample study."""
    database: str
    """URL of its votes; empty for the SQLite file in the folder."""
    results_password: str
    """Password of the results page; without one the page stays closed."""
    join_limit: int
    """How many raters without an invitation may join from one client within an hour; 0 for any."""
    sample_folder: Path
    """Where the sample study is kept."""


def read_settings() -> Settings:
    """Read the settings from the environment, which `evalkit drawbench rate` fills in."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Settings(
        study=os.environ.get("EVALKIT_STUDY", ""),
        database=os.environ.get("EVALKIT_DATABASE", ""),
        results_password=os.environ.get("EVALKIT_RESULTS_PASSWORD", ""),
        join_limit=read_join_limit(os.environ.get(JOIN_LIMIT_VARIABLE, "")),
        sample_folder=home / "evalkit" / "sample-study",
    )


@cache
def shared_join_limit() -> ClientLimit:
    """Return the limit on joining that all visitors of this process share."""
    return ClientLimit(read_settings().join_limit, JOIN_WINDOW_S)


@cache
def shared_gate() -> Gate:
    """Return the door of the results that all visitors of this process share."""
    return Gate(read_settings().results_password)


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
