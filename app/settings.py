"""What the pages are told by their surroundings. Read here and nowhere deeper."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the study is and who may see its results."""

    study: str
    """Folder of the study; empty for the embedded sample study."""
    database: str
    """URL of its votes; empty for the SQLite file in the folder."""
    results_password: str
    """Opens the results page; without one the page stays closed."""
    sample_folder: Path
    """Where the sample study is kept."""


def read_settings() -> Settings:
    """Settings from the environment, which `evalkit drawbench rate` fills in."""
    home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return Settings(
        study=os.environ.get("EVALKIT_STUDY", ""),
        database=os.environ.get("EVALKIT_DATABASE", ""),
        results_password=os.environ.get("EVALKIT_RESULTS_PASSWORD", ""),
        sample_folder=home / "evalkit" / "sample-study",
    )
