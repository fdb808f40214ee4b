"""Read lists of prompts from files: CSV, TSV, or one prompt per line."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from drawbench.errors import SuiteError
from evalkit.core.tables import found_columns, parse_table, read_text, text_lines

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
    text = read_text(path, fault=SuiteError)
    return parse_rows(text, suffix=path.suffix.lower(), source=str(path))


def parse_rows(text: str, *, suffix: str, source: str) -> tuple[list[Row], list[str] | None]:
    """Parse the rows of a table given as text; `suffix` is ".csv", ".tsv" or ".txt".

    Raises:
        SuiteError: There is no column of prompts, or a row and the header differ in length.
    """
    if suffix == ".txt":
        return [(line, "") for line in text_lines(text)], None
    table = parse_table(text, source=source, tabs=suffix == ".tsv", fault=SuiteError)
    prompt = table.find(*_PROMPT_COLUMNS)
    if prompt is None:
        raise SuiteError(
            f"{source} has no column of prompts. Expected one of {', '.join(_PROMPT_COLUMNS)} in "
            f"the header, found {found_columns(table.header)}."
        )
    category, prompt_id = table.find(*_CATEGORY_COLUMNS), table.find(*_ID_COLUMNS)
    rows = [row.cells for row in table.rows]
    pairs = [(row[prompt], row[category] if category is not None else "") for row in rows]
    return pairs, None if prompt_id is None else [row[prompt_id].strip() for row in rows]
