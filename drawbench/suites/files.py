"""Read lists of prompts from files: CSV, TSV, or one prompt per line."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drawbench.errors import SuiteError
from evalkit.core.errors import MissingDataError

_PROMPT_COLUMNS = ("prompt", "prompts", "text", "caption")
_CATEGORY_COLUMNS = ("category", "categories")
_ID_COLUMNS = ("id", "prompt_id")

Row = tuple[str, str]
"""Prompt and category."""


def clean_text(text: str) -> str:
    r"""Normalise text to Unicode NFC, with single spaces and none at the ends.

    >>> clean_text("  a  red\tcar ")
    'a red car'
    """
    return unicodedata.normalize("NFC", " ".join(text.split()))


def read_rows(path: Path) -> tuple[list[Row], list[str] | None]:
    """Read (prompt, category) rows, and ids if there are any, from CSV, TSV or lines of text.

    Raises:
        MissingDataError: There is no such file.
        SuiteError: The file is not such a table.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise MissingDataError(
            f"{path}: no such file. Give a CSV with the columns prompt and category."
        ) from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"{path}: not UTF-8 at byte {error.start}. Save it as UTF-8.") from error
    except OSError as error:
        raise SuiteError(f"{path} can't be read ({error.strerror}).") from error
    return parse_rows(text, suffix=path.suffix.lower(), source=str(path))


def parse_rows(text: str, *, suffix: str, source: str) -> tuple[list[Row], list[str] | None]:
    """Parse the rows of a table given as text; `suffix` is ".csv", ".tsv" or ".txt".

    Raises:
        SuiteError: There is no column of prompts, or a row and the header differ in length.
    """
    if suffix == ".txt":
        return [(line, "") for line in text.splitlines() if line.strip()], None
    header, *rows = _table(text, tabs=suffix == ".tsv", source=source) or [[]]
    prompt = _column(header, _PROMPT_COLUMNS)
    if prompt is None:
        raise SuiteError(
            f"{source} has no column of prompts. Expected one of {', '.join(_PROMPT_COLUMNS)} in "
            f"the header, found {', '.join(header) or 'nothing'}."
        )
    category, prompt_id = _column(header, _CATEGORY_COLUMNS), _column(header, _ID_COLUMNS)
    pairs = [(row[prompt], row[category] if category is not None else "") for row in rows]
    return pairs, None if prompt_id is None else [row[prompt_id].strip() for row in rows]


def _table(text: str, *, tabs: bool, source: str) -> list[list[str]]:
    # In tab-separated prompt lists (Parti's), bare quotation marks belong to the prompt.
    quoting: Any = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter="\t" if tabs else ",",
            quoting=quoting,
            strict=True,
        )
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise SuiteError(
            f"{source}: not a CSV file ({error}). Quote cells that contain commas."
        ) from error
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise SuiteError(
                f"{source}: row {number} has {len(row)} cells, but the header has {len(rows[0])}. "
                "Quote cells that contain a comma."
            )
    return rows


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    lowered = [cell.strip().lower() for cell in header]
    return next((lowered.index(name) for name in names if name in lowered), None)
