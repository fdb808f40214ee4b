"""Tables of images and captions: JSONL, JSON, CSV and TSV, with columns of any name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.tables import parse_json, parse_objects, parse_table, read_text
from evalkit.layouts.place import Place

TABLE_SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image_path", "file_name", "image", "path", "filename", "file"),
    "caption": ("prompt", "caption", "text", "prompts"),
    "id": ("id", "prompt_id", "caption_id", "item_id"),
    "category": ("category", "tag", "categories", "label"),
}
"""Usual names of the columns, tried in this order."""
_REQUIRED = ("image", "caption")


@dataclass(frozen=True)
class Row:
    """One row of a table, and its place for errors."""

    where: str
    cells: Mapping[str, Any]


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; empty: the table has no such column."""

    image: str
    caption: str
    id: str
    category: str


def read_table(path: Path) -> list[Row]:
    """Read a table whole; a JSON object maps images to captions, or to rows.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is not such a table, or has no row.
    """
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise DataError(
            f"{path}: expected a table of captions ending in {', '.join(TABLE_SUFFIXES)}."
        )
    text = read_text(path)
    if suffix == ".jsonl":
        found = parse_objects(text, source=str(path), expected="an object with a caption")
        rows = [Row(where, cells) for where, cells in found]
    elif suffix == ".json":
        rows = _json(text, path)
    else:
        table = parse_table(text, source=str(path), tabs=suffix == ".tsv")
        rows = [Row(where, cells) for where, cells in table.records()]
    if not rows:
        raise DataError(f"{path}: the table has no rows. Give one row per image.")
    return rows


def choose_columns(names: Sequence[str], place: Place, where: str, *, images: bool) -> Columns:
    """Choose the columns that a place names, else those with usual names.

    A table of nothing but images and their classes needs no captions.

    Args:
        names: The table's columns.
        place: Names columns, or leaves them open.
        where: Name of the table, for errors.
        images: Whether the table must have a column of images.

    Raises:
        ConfigError: A named or required column is missing.
    """
    found: dict[str, str] = {}
    for key, usual in COLUMNS.items():
        named = getattr(place, key)
        if named and named not in names:
            raise ConfigError(
                f"{where} has no column {named!r} for {key}; it has: {', '.join(names)}."
            )
        found[key] = named or next((name for name in usual if name in names), "")
    for key in _REQUIRED:
        needed = images if key == "image" else not _only_classes(names, found)
        if not found[key] and needed:
            raise ConfigError(
                f"{where} has no column of {key}s; it has: {', '.join(names)}. Name one: "
                f"folder:{place.path}?{key}=COLUMN."
            )
    return Columns(**found)


def _only_classes(names: Sequence[str], found: Mapping[str, str]) -> bool:
    """Return whether a table has classes of images and no column that could be a caption."""
    return bool(found["category"]) and {*names} <= {*found.values()}


def cell(row: Row, column: str) -> str:
    """Return a cell as text; empty where the table has no such column.

    Raises:
        DataError: It is neither a text nor a number.
    """
    value = row.cells.get(column) if column else None
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(f"{row.where}: {column!r} must be a text, got {value!r}.")
    return str(value).strip()


def _json(text: str, path: Path) -> list[Row]:
    found: Any = parse_json(text, source=str(path))
    if isinstance(found, Mapping):
        pairs = found.items()
        found = [
            {"image": k, **(v if isinstance(v, Mapping) else {"caption": v})} for k, v in pairs
        ]
    if not isinstance(found, list):
        raise DataError(f"{path}: expected a list of rows, or an object with a key per image.")
    return [
        Row(f"{path}, row {number}", _object(row, f"{path}, row {number}"))
        for number, row in enumerate(found, start=1)
    ]


def _object(row: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with a caption, got {type(row).__name__}.")
    return row
