"""Captions from tables beside the images: `captions` or `metadata`, as `.jsonl` or `.csv`.

A table has the columns `file_name`, `text` and optionally `id` (by default the file name, and
`NAME#2` for an image's second caption) and `category`. File names are relative to the table's
folder, as in Hugging Face's `imagefolder`, so a set may have a table in each subfolder, and an
archive may hold its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.image_files import ImageFiles
from evalkit.core.tables import (
    ByteSource,
    found_columns,
    parse_objects,
    parse_table,
    read_text,
    same_name,
    split_lines,
)
from evalkit.datasets.base import Caption, check_inside, id_order

CAPTION_FILES = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")
NAME, TEXT = "file_name", "text"
_ENDINGS = (".jsonl", ".csv", ".tsv")


def find_tables(files: ImageFiles) -> list[str]:
    """Return the tables of captions in a set of files, at most one per folder.

    Raises:
        ConfigError: A folder has several.
    """
    found = [name for name in files.others if PurePosixPath(name).name in CAPTION_FILES]
    by_folder: dict[str, str] = {}
    for name in found:
        folder = str(PurePosixPath(name).parent)
        if folder in by_folder:
            first = PurePosixPath(by_folder[folder]).name
            where = files.root / folder
            raise ConfigError(
                f"{where} has {first} and {PurePosixPath(name).name}. "
                "Keep only one file of captions."
            )
        by_folder[folder] = name
    return found


def read_captions(files: ImageFiles, tables: Sequence[str]) -> tuple[Caption, ...]:
    """Read the tables of a set of files; the captions come in the order of their ids.

    Args:
        files: The files.
        tables: Names of tables among its `others`.

    Raises:
        DataError: A table is damaged, or doesn't fit the images.
    """
    names, found = _Names.of(files.images), _Found({}, Counter())
    for name in tables:
        below = str(PurePosixPath(name).parent)
        _read_table(files.others[name], "" if below == "." else below, names, found)
    return found.in_order()


def read_captions_of(table: ByteSource, images: Mapping[str, Any]) -> tuple[Caption, ...]:
    """Read one table whose file names are relative to the folder of the images.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is damaged, or doesn't fit the images.
    """
    found = _Found({}, Counter())
    _read_table(table, "", _Names.of(images), found)
    return found.in_order()


@dataclass(frozen=True)
class _Found:
    """Captions by id, and how many each image has."""

    captions: dict[str, Caption]
    numbers: Counter[str]

    def in_order(self) -> tuple[Caption, ...]:
        return tuple(sorted(self.captions.values(), key=lambda caption: id_order(caption.id)))


def _read_table(table: ByteSource, below: str, names: _Names, found: _Found) -> None:
    before = len(found.captions)
    for where, row in _rows(table):
        file_name = names.find(_column(row, NAME, where), below, where)
        text = _column(row, TEXT, where)
        _refuse_swallowed_rows(text, names, below, where)
        found.numbers[file_name] += 1
        number = found.numbers[file_name]
        own = file_name if number == 1 else f"{file_name}#{number}"
        caption_id = _column(row, "id", where) if row.get("id") not in (None, "") else own
        if caption_id in found.captions:
            raise DataError(f"{where}: caption id {caption_id!r} occurs twice. Ids must differ.")
        kind = _column(row, "category", where) if row.get("category") else None
        found.captions[caption_id] = Caption(caption_id, file_name, text, kind=kind)
    if len(found.captions) == before:
        raise DataError(f"{table}: contains no captions; expected the columns {NAME} and {TEXT}.")


@dataclass(frozen=True)
class _Names:
    """The images of a set by name, however their characters are written."""

    exact: Mapping[str, Any]
    normalised: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, images: Mapping[str, Any]) -> _Names:
        normalised: dict[str, list[str]] = {}
        for name in images:
            normalised.setdefault(same_name(name), []).append(name)
        return cls(images, normalised)

    def find(self, written: str, below: str, where: str) -> str:
        """Return the image that a table names.

        Raises:
            DataError: There is none, or the name fits two.
        """
        check_inside(written, where=where)
        name = str(PurePosixPath(below, written))
        if name in self.exact:
            return name
        alike = self.normalised.get(same_name(name), ())
        if len(alike) > 1:
            raise DataError(
                f"{where}: {written!r} fits {len(alike)} images whose names differ only in how "
                "their characters are written (NFC and NFD). Rename one of them."
            )
        if not alike:
            raise DataError(
                f"{where}: no image {written!r} in the folder. Names are relative to the table's "
                "folder. Repair the name, or remove the row."
            )
        return alike[0]

    def knows(self, written: str, below: str) -> bool:
        return same_name(str(PurePosixPath(below, written))) in self.normalised


def _rows(table: ByteSource) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row with its position in the file, for errors."""
    suffix = PurePosixPath(str(table)).suffix.lower()
    if suffix not in _ENDINGS:
        raise DataError(f"{table}: captions must be a {', '.join(_ENDINGS[:-1])} or .tsv file.")
    text = read_text(table)
    if suffix == ".jsonl":
        yield from parse_objects(
            text, source=str(table), expected=f"an object with {NAME} and {TEXT}"
        )
        return
    found = parse_table(text, source=str(table), tabs=suffix == ".tsv")
    if found.header:
        found.require((NAME, TEXT))
    yield from found.records()


def _column(row: Mapping[str, Any], name: str, where: str) -> str:
    if name not in row:
        raise DataError(
            f"{where}: {name!r} is missing, found {found_columns(list(row))}. Give each row "
            f"{NAME} and {TEXT}."
        )
    value = row[name]
    if isinstance(value, int) and not isinstance(value, bool) and name == "id":
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {name!r} must be a non-empty string, got {value!r}.")
    return value.strip()


def _refuse_swallowed_rows(text: str, names: _Names, below: str, where: str) -> None:
    """Refuse a caption with a line that begins like a row of the table."""
    for line in split_lines(text)[1:]:
        first = line.replace("\t", ",").partition(",")[0].strip().strip('"')
        if first and names.knows(first, below):
            raise DataError(
                f"{where}: the caption holds a row of the table, that of {first!r}: a quote "
                "before it was left open. Close it."
            )
