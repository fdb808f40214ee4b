"""The one strict reader of tables and texts: CSV, TSV, JSON, JSON Lines, TOML, lines of text.

A file is read completely or not at all, and never differently from what its author meant:

- The text is UTF-8, with or without a byte order mark.
- Only line feeds and carriage returns end a line. A form feed, U+2028 or another character that
  Unicode counts as a line break belongs to its line.
- Every row of a table has as many cells as its header. A quote that is left open, a separator that
  should have been quoted, and a cell of more than `MAX_CELL` characters are errors, because each of
  them joins or splits rows without a word.
- No text holds half of a surrogate pair, which JSON can express but nothing can write again.

Callers name the class of their errors with `fault`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from evalkit.core.errors import ConfigError, DataError, MissingDataError

MAX_CELL = 100_000
"""Characters of a cell; a longer one is a broken quote, not a text."""

_LINE_ENDS = re.compile(r"\r\n|\r|\n")
HALF_PAIR = re.compile(r"[\ud800-\udfff]")
"""Half of a surrogate pair, which no encoding can write."""
_MOST_NAMED = 12


@runtime_checkable
class ByteSource(Protocol):
    """A file, or a member of an archive; errors show its `str`."""

    def read_bytes(self) -> bytes:
        """Return the content."""


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    line: int
    """The line of the file in which it begins, from 1."""
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table whose rows all have as many cells as its header."""

    source: str
    """Its name in errors."""
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    fault: type[DataError] = DataError

    def find(self, *names: str) -> int | None:
        """Return the position of the first of these columns, in any case; None if there is none."""
        lowered = [cell.lower() for cell in self.header]
        return next((lowered.index(name) for name in names if name in lowered), None)

    def require(self, names: Iterable[str]) -> None:
        """Check that the table has these columns.

        Raises:
            DataError: One is missing; the message names it and the columns that were found.
        """
        wanted = list(names)
        missing = [name for name in wanted if name not in self.header]
        if missing:
            raise self.fault(
                f"{self.source}: column {missing[0]!r} is missing. Expected {', '.join(wanted)}, "
                f"found {found_columns(self.header)}."
            )

    def records(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield each row's position, for errors, and its cells by column."""
        for row in self.rows:
            yield f"{self.source}:{row.line}", dict(zip(self.header, row.cells, strict=True))


def found_columns(names: Sequence[str]) -> str:
    """Name the columns or keys that were found, for errors.

    >>> found_columns(["a", "b c"]), found_columns([])
    ('a, b c', 'none')
    """
    shown = [" ".join(str(name).split())[:40] or "(blank)" for name in names[:_MOST_NAMED]]
    more = [f"and {len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return ", ".join([*shown, *more]) or "none"


def read_text(source: ByteSource, *, fault: type[DataError] = DataError) -> str:
    """Read a UTF-8 text, without its byte order mark.

    Raises:
        MissingDataError: There is no such file.
        DataError: It can't be read, or is not UTF-8.
    """
    try:
        return decode_text(source.read_bytes(), source=str(source), fault=fault)
    except FileNotFoundError:
        raise MissingDataError(f"{source}: no such file. Check the path.") from None
    except OSError as error:
        why = error.strerror or error
        raise fault(f"{source} can't be read ({why}). Check path and permissions.") from error


def decode_text(content: bytes, *, source: str, fault: type[DataError] = DataError) -> str:
    """Decode a UTF-8 text, without its byte order mark.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise fault(f"{source}: not UTF-8 at byte {error.start}. Save it as UTF-8.") from error


def split_lines(text: str) -> list[str]:
    r"""Split a text at line feeds and carriage returns only; the last line needs no end.

    `str.splitlines` also splits at form feeds and U+2028, which texts and JSON strings contain.

    >>> split_lines("a\x0cb\u2028c\r\nd\n")
    ['a\x0cb\u2028c', 'd']
    """
    lines = _LINE_ENDS.split(text)
    return lines[:-1] if lines[-1] == "" else lines


def text_lines(text: str) -> list[str]:
    """Return the lines that are not blank, as lists of prompts are written."""
    return [line for line in split_lines(text) if line.strip()]


def parse_table(
    text: str, *, source: str, tabs: bool = False, fault: type[DataError] = DataError
) -> Table:
    """Parse a CSV or, with `tabs`, a TSV. Blank rows are passed over; the header is stripped.

    In a TSV, quotation marks are characters like any other (as in Parti's list of prompts).

    Raises:
        DataError: A quote is left open, a row and the header differ in length, a cell is too long,
            or two columns have one name.
    """
    lines = _rows(text, source=source, tabs=tabs, fault=fault)
    if not lines:
        return Table(source, (), (), fault)
    header = tuple(cell.strip() for cell in lines[0].cells)
    for row in lines[1:]:
        _check_row(row, header, "\t" if tabs else ",", source, fault)
    doubled = sorted({name for name in header if name and header.count(name) > 1})
    if doubled:
        raise fault(f"{source}: column {doubled[0]!r} appears twice in the header. Keep one.")
    return Table(source, header, tuple(lines[1:]), fault)


def parse_json(text: str, *, source: str, fault: type[DataError] = DataError) -> Any:
    """Parse a JSON document.

    Raises:
        DataError: It is not JSON, is nested too deeply, or contains half of a surrogate pair.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise fault(f"{source}: not valid JSON ({error}). Repair the file.") from error
    if "\\ud" in text or "\\uD" in text:
        _refuse_half_pairs(found, source, fault)
    return found


def parse_json_lines(
    text: str, *, source: str, fault: type[DataError] = DataError
) -> Iterator[tuple[str, Any]]:
    """Yield the position, for errors, and the value of each line of a JSON Lines file.

    Raises:
        DataError: As `parse_json`; the message names the line.
    """
    for number, line in enumerate(split_lines(text), start=1):
        if line.strip():
            where = f"{source}:{number}"
            yield where, parse_json(line, source=where, fault=fault)


def parse_objects(
    text: str, *, source: str, expected: str = "an object", fault: type[DataError] = DataError
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the lines of a JSON Lines file that has one object per line.

    Raises:
        DataError: As `parse_json_lines`, or a line is not an object.
    """
    for where, value in parse_json_lines(text, source=source, fault=fault):
        if not isinstance(value, Mapping):
            raise fault(f"{where}: expected {expected}, got {json.dumps(value)[:40]}.")
        yield where, value


def read_toml(
    path: ByteSource, *, what: str, fault: type[DataError] | type[ConfigError] = ConfigError
) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        what: What it holds, for errors, such as "settings".
        fault: The class of errors.

    Raises:
        MissingDataError: There is no such file.
        ConfigError: It can't be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise MissingDataError(f"{path}: no such file. Give a TOML file of {what}.") from None
    except OSError as error:
        raise fault(
            f"{path} can't be read ({error.strerror}). Check path and permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:160]
        raise fault(f"{path}: not a TOML file of {what} ({why}). Repair it.") from error


def same_name(text: str) -> str:
    """Return the form of a file name that is equal for all ways to write its characters (NFC).

    macOS writes é as two characters (NFD), most other systems as one.
    """
    return unicodedata.normalize("NFC", text)


def _rows(text: str, *, source: str, tabs: bool, fault: type[DataError]) -> list[Row]:
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter="\t" if tabs else ",",
        quoting=csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL,
        strict=True,
    )
    found: list[Row] = []
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append(Row(begins, tuple(cells)))
            begins = reader.line_num + 1
    except csv.Error as error:
        raise fault(f"{source}: line {begins}: {_csv_fault(error)}") from error
    return found


def _csv_fault(error: csv.Error) -> str:
    said = str(error)
    if "field larger" in said:
        return _too_long("more than 100,000")
    if "unexpected end" in said:
        return "a quote is opened and never closed. Close it."
    if "expected after" in said:
        return (
            f"not a CSV file ({said}). Close each quote before the next cell, and double the "
            "quotes inside a cell."
        )
    return f"not a CSV file ({said}). Quote cells that contain commas or line breaks."


def _too_long(count: str) -> str:
    return (
        f"a cell of {count} characters; the limit is {MAX_CELL:,}. A quote before it may be left "
        "open. Close it, or shorten the cell."
    )


def _check_row(
    row: Row, header: Sequence[str], separator: str, source: str, fault: type[DataError]
) -> None:
    where = f"{source}: line {row.line}"
    longest = max(map(len, row.cells))
    if longest > MAX_CELL:
        raise fault(f"{where}: {_too_long(f'{longest:,}')}")
    if len(row.cells) != len(header):
        what = "a tab" if separator == "\t" else "a comma"
        raise fault(
            f"{where} has {len(row.cells)} cells, but the header has {len(header)} "
            f"({found_columns(header)}). Quote cells that contain {what}."
        )
    if any(_holds_rows(cell, len(header), separator) for cell in row.cells):
        raise fault(
            f"{where}: a cell holds whole rows, so a quote before it was left open. Close it."
        )


def _holds_rows(cell: str, num_columns: int, separator: str) -> bool:
    """Return whether the further lines of a cell look like rows of the table.

    A quote left open ends at the next quote, wherever that is, and swallows the rows between. Two
    or three columns need more evidence, since a text may have a comma or two in each line.
    """
    if "\n" not in cell and "\r" not in cell:
        return False
    further = split_lines(cell)[1:]
    alike = sum(line.count(separator) == num_columns - 1 for line in further)
    if num_columns > 3:
        return alike > 0
    return num_columns > 1 and alike == len(further) > 1


def _refuse_half_pairs(value: Any, source: str, fault: type[DataError]) -> None:
    if HALF_PAIR.search(json.dumps(value, ensure_ascii=False)):
        raise fault(
            f"{source}: a text holds half of a surrogate pair (\\ud800 to \\udfff), which is no "
            "character. Write the whole character."
        )
