"""The log of a training, `log.csv`: a row every few steps, with the loss of all processes."""

from __future__ import annotations

import csv
import io
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from evalkit.core.errors import DataError
from evalkit.core.files import writing
from evalkit.core.results import write_atomically
from evalkit.core.tables import parse_table, read_text

LOG = "log.csv"


@dataclass(frozen=True)
class LogRow:
    """One row of the log."""

    step: int
    loss: float
    """Mean of the step over all processes."""
    learning_rate: float
    validation_loss: float | None
    """Mean over the images held out, by the moving average; None: not measured at this step."""
    seconds: float
    """Of training, over all calls."""


COLUMNS = tuple(field.name for field in fields(LogRow))


def append_row(folder: Path, row: LogRow) -> None:
    """Add a row to the log of a folder."""
    path = folder / LOG
    with writing(path):
        text = "" if path.is_file() else _lines([COLUMNS])
        with path.open("a", encoding="utf-8", newline="") as handle:
            handle.write(text + _lines([astuple(row)]))


def forget_rows_after(folder: Path, step: int) -> None:
    """Drop the rows of steps that a killed training did after its last checkpoint.

    Raises:
        DataError: The log is not one.
    """
    path = folder / LOG
    if not path.is_file():
        return
    text = read_text(path)
    whole = text[: text.rfind("\n") + 1]  # a killed process may leave half a row
    table = parse_table(whole, source=str(path))
    if table.header != COLUMNS:
        raise DataError(f"{path}: not the log of a training. Choose another --out or delete it.")
    kept = [row.cells for row in table.rows if int(row.cells[0]) <= step]
    write_atomically(path, _lines([COLUMNS, *kept]).encode())


def read_log(folder: Path) -> list[LogRow]:
    """Read the log of a folder.

    Raises:
        MissingDataError: There is none.
        DataError: It is damaged.
    """
    path = folder / LOG
    found = []
    for where, row in parse_table(read_text(path), source=str(path)).records():
        try:
            measured = row["validation_loss"]
            found.append(
                LogRow(
                    int(row["step"]),
                    float(row["loss"]),
                    float(row["learning_rate"]),
                    float(measured) if measured else None,
                    float(row["seconds"]),
                )
            )
        except (KeyError, ValueError) as error:
            raise DataError(f"{where}: not a row of a training's log ({error}).") from error
    return found


def _lines(rows: list[tuple[object, ...]] | list[tuple[str, ...]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()
