"""The table of votes: its columns, reading, writing and validation.

One row is one answer of one rater to one question on one comparison. A table is read completely or
not at all: every row is checked before the first one is used, and messages name the row and the
remedy.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from drawbench.errors import DuplicateVoteError, NoVotesError, VotesError
from evalkit.core import tables
from evalkit.core.errors import MissingDataError
from evalkit.core.results import write_atomically
from evalkit.core.tables import found_columns, parse_table

ANSWERS = ("a", "tie", "b")
REQUIRED_COLUMNS = (
    "rater_id",
    "prompt_id",
    "category",
    "model_a",
    "model_b",
    "question",
    "answer",
)
OPTIONAL_COLUMNS = {
    "item_id": "id of the comparison, if a prompt is shown more than once",
    "left_model": "the model shown on the left (or first); needed to test for a side bias",
    "response_s": "seconds from showing the item to this answer",
    "answered_at": "time of the answer, ISO 8601; without it, rows are in order",
    "prompt": "text of the prompt, for the report",
    "partial": "true if the rater did not finish",
    "checks_shown": "attention checks that this rater was shown",
    "checks_failed": "attention checks that this rater failed",
    "rater_status": "status of the rater on a crowd platform, such as approved or returned",
    "simulated": "true for votes of simulated raters",
}
MAY_BE_BLANK = {"category", *OPTIONAL_COLUMNS} - {"left_model"}
COUNTS = ("checks_shown", "checks_failed")
FLAGS = ("partial", "simulated")

# Spreadsheets treat a cell that starts like this as a formula. A quote is put before it; if the
# text starts with quotes, one more is added, so that reading restores the text.
_FORMULA = re.compile(r"^'*[=+\-@\t\r\n]")
_NEUTRALISED = re.compile(r"^'+[=+\-@\t\r\n]")


def read_votes(path: Path) -> pd.DataFrame:
    """Read a CSV of votes.

    Columns: `rater_id, prompt_id, category, model_a, model_b, question, answer` (`a`, `tie`, `b`),
    and those of `OPTIONAL_COLUMNS` that are present. Other columns are ignored.

    Raises:
        VotesError: The file is not a CSV, a column is missing, or a cell is not valid.
        DuplicateVoteError: A rater answered one question on one comparison twice.
        NoVotesError: The file has no rows.
    """
    return validate_votes(read_cells(path), source=str(path))


def read_cells(path: Path) -> pd.DataFrame:
    """Read a CSV as text, without the quotes that protect against formulas.

    Raises:
        VotesError: The file can't be read, is not UTF-8, or is not a table; see
            `evalkit.core.tables`.
        NoVotesError: It is empty, or has only a header.
    """
    table = parse_table(read_text(path), source=str(path), fault=VotesError)
    if not table.rows:
        raise NoVotesError(
            f"{path} contains no votes. Expected the columns {_listed()} and at least one row."
        )
    cells_by_column = zip(*(row.cells for row in table.rows), strict=True)
    columns = dict(zip(table.header, cells_by_column, strict=True))
    return pd.DataFrame(
        {name: [_restore(cell) for cell in cells] for name, cells in columns.items()}
    )


def read_text(path: Path) -> str:
    """Read a file of votes as text.

    Raises:
        VotesError: It can't be read or is not UTF-8.
    """
    try:
        return tables.read_text(Path(path), fault=VotesError)
    except MissingDataError as error:
        raise VotesError(f"{path} can't be read: no such file. Check the path.") from error


def validate_votes(frame: pd.DataFrame, *, source: str = "votes") -> pd.DataFrame:
    """Check a table of votes and convert its columns to their types.

    Args:
        frame: One row per vote; cells as text, or as the types this function returns.
        source: Name of the table in messages.

    Returns:
        The required columns and the optional ones that are present: text, but `response_s` is float
        (NaN where unknown), `checks_shown` and `checks_failed` are integers, `partial` and
        `simulated` are booleans.

    Raises:
        VotesError, DuplicateVoteError, NoVotesError: See `read_votes`.
    """
    missing = [name for name in REQUIRED_COLUMNS if name not in frame.columns]
    if missing:
        raise VotesError(
            f"{source}: column {missing[0]!r} is missing. Expected {_listed()}, found "
            f"{found_columns(list(frame.columns))}."
        )
    if frame.empty:
        raise NoVotesError(f"{source} contains no votes.")
    names = [*REQUIRED_COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in frame.columns)]
    votes = frame[names].reset_index(drop=True).copy()
    for name in names:
        if name in ("response_s", *COUNTS, *FLAGS):
            continue
        votes[name] = votes[name].fillna("").astype(str).str.strip()
        if name not in MAY_BE_BLANK:
            _refuse(votes[name] == "", votes[name], source, f"{name} is blank", "Fill it in.")
    _check_answers(votes, source)
    _check_models(votes, source)
    _convert_optional(votes, source)
    _check_categories(votes, source)
    _check_duplicates(votes, source)
    return votes


def orient_pairs(votes: pd.DataFrame) -> pd.DataFrame:
    """Flip rows so that each pair of models has the same A and B throughout.

    A pair that appears in one order keeps it; a pair that appears in both is sorted
    alphabetically. The result does not depend on the order of rows.
    """
    first = np.minimum(*_model_arrays(votes))
    pair = first + "\0" + np.maximum(*_model_arrays(votes))
    ordered = votes["model_a"].to_numpy(dtype=object) == first
    share_ordered = pd.Series(ordered).groupby(pair).transform("mean").to_numpy()
    flip = (share_ordered > 0) & ~ordered
    if not flip.any():
        return votes
    votes = votes.copy()
    votes.loc[flip, ["model_a", "model_b"]] = votes.loc[flip, ["model_b", "model_a"]].to_numpy()
    votes.loc[flip, "answer"] = votes.loc[flip, "answer"].map({"a": "b", "tie": "tie", "b": "a"})
    return votes


def votes_sha256(votes: pd.DataFrame) -> str:
    """Hash the votes, independently of the order of rows and of models within a pair."""
    names = [*REQUIRED_COLUMNS, *(["item_id"] if "item_id" in votes else [])]
    rows = sorted(orient_pairs(votes)[names].itertuples(index=False, name=None))
    digest = hashlib.sha256()
    for row in rows:
        digest.update("\x1f".join(row).encode())
        digest.update(b"\x1e")
    return digest.hexdigest()


def write_votes(path: Path, votes: pd.DataFrame) -> None:
    """Write votes as the CSV that `read_votes` reads, safe to open in a spreadsheet."""
    known = [name for name in (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS) if name in votes]
    rows = votes[known].astype(object).itertuples(index=False, name=None)
    write_atomically(Path(path), csv_text(known, rows).encode())


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Format a CSV in which no text is a formula to a spreadsheet; numbers are unchanged."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([neutralise(name) for name in header])
    writer.writerows([neutralise(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def neutralise(cell: Any) -> Any:
    """Make a cell safe for spreadsheets; booleans in lower case, missing values blank.

    >>> neutralise("=1+1"), neutralise("plain"), neutralise(-1.5), neutralise(True)
    ("'=1+1", 'plain', -1.5, 'true')
    """
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if cell is None or (isinstance(cell, float | np.floating) and np.isnan(cell)):
        return ""
    if isinstance(cell, str) and _FORMULA.match(cell):
        return "'" + cell
    return cell


def _restore(cell: str) -> str:
    return cell[1:] if _NEUTRALISED.match(cell) else cell


def _listed() -> str:
    return ", ".join(REQUIRED_COLUMNS)


def _model_arrays(votes: pd.DataFrame) -> tuple[Any, Any]:
    return votes["model_a"].to_numpy(dtype=object), votes["model_b"].to_numpy(dtype=object)


def _refuse(bad: Any, seen: Any, source: str, what: str, remedy: str) -> None:
    """Raise for the first bad row. Rows count from 1, without the header."""
    where = np.flatnonzero(np.asarray(bad))
    if where.size:
        more = f" (and {where.size - 1} more)" if where.size > 1 else ""
        value = str(pd.Series(seen).iloc[int(where[0])])
        raise VotesError(f"{source}: row {where[0] + 1}{more}: {what}, got {value!r}. {remedy}")


def _check_answers(votes: pd.DataFrame, source: str) -> None:
    votes["answer"] = votes["answer"].str.lower()
    unknown = ~votes["answer"].isin(ANSWERS)
    _refuse(unknown, votes["answer"], source, "unknown answer", "Allowed: a, tie, b.")


def _check_models(votes: pd.DataFrame, source: str) -> None:
    same = votes["model_a"] == votes["model_b"]
    _refuse(
        same, votes["model_a"], source, "model_a and model_b are the same", "Compare two models."
    )
    if "left_model" in votes:
        left = votes["left_model"]
        strange = (left != votes["model_a"]) & (left != votes["model_b"])
        _refuse(
            strange, left, source, "left_model is neither model_a nor model_b", "Name one of them."
        )


def _convert_optional(votes: pd.DataFrame, source: str) -> None:
    if "response_s" in votes:
        seconds = pd.to_numeric(votes["response_s"].replace("", np.nan), errors="coerce")
        given = votes["response_s"].notna() & (votes["response_s"].astype(str).str.strip() != "")
        bad = given & ~(np.isfinite(seconds) & (seconds >= 0))
        _refuse(
            bad, votes["response_s"], source, "response_s is not a time", "Give seconds, 0 or more."
        )
        votes["response_s"] = seconds.astype(float)
    for name in (name for name in COUNTS if name in votes):
        text = votes[name].fillna("").astype(str).str.strip().replace("", "0")
        _refuse(
            ~text.str.fullmatch(r"\d+"), text, source, f"{name} is not a count", "Give 0, 1, ..."
        )
        votes[name] = text.astype(int)
    for name in (name for name in FLAGS if name in votes):
        text = votes[name].fillna("").astype(str).str.strip().str.lower()
        unknown = ~text.isin(["true", "false", "1", "0", ""])
        _refuse(unknown, text, source, f"{name} is neither true nor false", "Write true or false.")
        votes[name] = text.isin(["true", "1"])


def _check_categories(votes: pd.DataFrame, source: str) -> None:
    per_prompt = votes.groupby("prompt_id")["category"].nunique()
    mixed = per_prompt[per_prompt > 1]
    if len(mixed):
        prompt = mixed.index[0]
        seen = sorted(votes.loc[votes["prompt_id"] == prompt, "category"].unique())
        raise VotesError(
            f"{source}: prompt {prompt!r} is in {len(seen)} categories ({', '.join(seen)}). "
            "Give each prompt one category."
        )


def _check_duplicates(votes: pd.DataFrame, source: str) -> None:
    models = _model_arrays(votes)
    key = votes[["rater_id", "prompt_id", "question"]].assign(
        first=np.minimum(*models), second=np.maximum(*models)
    )
    if "item_id" in votes:
        key["item_id"] = votes["item_id"]
    again = key.duplicated(keep="first").to_numpy()
    if not again.any():
        return
    row = int(np.flatnonzero(again)[0])
    earlier = int(np.flatnonzero((key == key.iloc[row]).all(axis=1))[0])
    more = f" ({int(again.sum())} duplicates in all)" if again.sum() > 1 else ""
    vote = votes.iloc[row]
    raise DuplicateVoteError(
        f"{source}: rows {earlier + 1} and {row + 1} are both votes of rater "
        f"{vote['rater_id']!r} on prompt {vote['prompt_id']!r}, question "
        f"{vote['question']!r}{more}. Keep one of them, or identify repeated comparisons with a "
        "column item_id."
    )
