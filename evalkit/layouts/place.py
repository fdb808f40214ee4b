"""Where images are, and how to read them: `folder:PATH[?KEY=VALUE&...]`.

The keys name a layout, a table of captions and its columns, so that one word is enough wherever a
command takes images.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

from evalkit.core.errors import ConfigError

SCHEME = "folder:"
DATASETS = "datasets:"
"""Prefix of the name of a data set of the hub, or of its folder, that `datasets` opens."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A set of images on this machine or on the hub; every choice is a key of its name."""

    path: str
    layout: str = ""
    """Name of a layout; empty: recognised."""
    captions: str = ""
    """File with a row per image: .jsonl, .json, .csv, .tsv."""
    image: str = ""
    """Column of the images; empty: by its usual names."""
    caption: str = ""
    """Column of the captions."""
    id: str = ""
    """Column of the captions' ids."""
    category: str = ""
    """Column of the categories."""
    name: str = ""
    """Name in reports; empty: that of the folder."""

    @property
    def is_dataset(self) -> bool:
        """Whether `datasets` opens it."""
        return self.path.startswith(DATASETS)

    @property
    def local(self) -> Path:
        """Its path."""
        return Path(self.path).expanduser()

    @property
    def table(self) -> Path | None:
        """The table of captions: as given, else inside the folder."""
        if not self.captions:
            return None
        given = Path(self.captions).expanduser()
        return given if given.is_file() or self.local.is_file() else self._inside(given)

    def _inside(self, given: Path) -> Path:
        inside = self.local / given
        return inside if inside.is_file() else given

    @property
    def title(self) -> str:
        """Its name in reports."""
        if self.name:
            return self.name
        if self.is_dataset:
            return self.path.removeprefix(DATASETS).split("/")[-1]
        return shown_name(self.local)


def shown_name(path: Path) -> str:
    """Return the last part of a path, as it was named: a link keeps its own name.

    >>> shown_name(Path("a/b/.."))
    'a'
    """
    return Path(os.path.abspath(path)).name  # noqa: PTH100 (resolve follows links)


def parse_place(text: str) -> Place:
    """Parse a path, `folder:PATH`, or `folder:PATH?KEY=VALUE&...`.

    >>> parse_place("folder:out?layout=geneval&name=SDXL").layout
    'geneval'

    Raises:
        ConfigError: An unknown key.
    """
    rest = text.removeprefix(SCHEME)
    if not text.startswith(SCHEME) or Path(rest).expanduser().exists():
        return Place(path=rest)
    path, _, query = rest.rpartition("?") if "?" in rest else (rest, "", "")
    known = [field.name for field in fields(Place) if field.name != "path"]
    chosen: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, eq, value = part.partition("=")
        if key not in known or not (eq and value):
            raise ConfigError(
                f"{text}: {part!r} is not KEY=VALUE with one of the keys {', '.join(known)}."
            )
        chosen[key] = value
    return Place(path=path, **chosen)
