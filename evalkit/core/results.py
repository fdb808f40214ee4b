"""Result records: the format of every number that a stage hands on.

A record carries its interval, its direction and a fingerprint of everything that could change the
number. A score that could not be computed is a record too, with a state and a reason.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evalkit.core.errors import DataError, as_clause
from evalkit.core.files import writing
from evalkit.core.intervals import check_level
from evalkit.core.places import AnyPath, is_remote, write_object
from evalkit.core.tables import parse_json, read_text
from evalkit.core.typed import check_types

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("results.schema.json")
"""JSON Schema (draft 2020-12) of a file of records."""

Direction = Literal["higher", "lower", "none"]
State = Literal["ok", "not_applicable", "failed"]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval and its method."""

    low: float
    """Lower end, in the unit of the value."""
    high: float
    """Upper end, in the unit of the value."""
    level: float = 0.95
    """Nominal coverage: the share of repetitions whose interval contains the truth, in (0, 1)."""
    method: str
    """How it was computed, in words that a methods section could quote."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(
                f"Interval from {self.low!r} to {self.high!r}: both ends must be finite. "
                "Record the reason instead of an interval."
            )
        if self.low > self.high:
            raise ValueError(f"Interval from {self.low!r} to {self.high!r}: the ends are swapped.")
        check_level(self.level)


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """One number, or the reason why there is none."""

    metric: str
    """What was measured, such as `fid` or `clip-score`."""
    value: float | None
    """The number; None exactly when the state is not `ok`."""
    n: int
    """Number of units behind the value (images for image metrics, votes for win rates)."""
    direction: Direction
    """Which direction is better."""
    unit: str = ""
    """Unit of the value, empty for a dimensionless number."""
    interval: Interval | None = None
    """The interval; if there is none, `reason` says why."""
    standard_error: float | None = None
    """Standard error of `value`, in its unit."""
    state: State = "ok"
    """`ok`, `not_applicable` (the metric is undefined here) or `failed` (it was not computed)."""
    reason: str = ""
    """Why there is no value, or no interval."""
    subject: str = ""
    """The model or pair of models that was measured."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """Everything that could change the number: data, preparation, extractor, sampler, versions."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Further figures of the same computation, such as shares by category."""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.state != "ok"):
            raise ValueError(
                f"{self.metric}: state {self.state!r} contradicts the value {self.value!r}."
            )
        if self.state != "ok" and not self.reason:
            raise ValueError(f"{self.metric}: a record in state {self.state!r} needs a reason.")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(
                f"{self.metric}: {self.value!r} is not finite. Record a state and a reason."
            )

    def with_context(self, *, subject: str, fingerprint: Mapping[str, Any]) -> ResultRecord:
        """Return a copy of the record with its subject and further fingerprint entries."""
        merged = {**self.fingerprint, **fingerprint}
        return dataclasses.replace(self, subject=subject, fingerprint=merged)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return dataclasses.asdict(self)


def record_from_dict(raw: Mapping[str, Any]) -> ResultRecord:
    """Rebuild a record from its JSON form.

    Raises:
        DataError: A key is missing or unknown, or the values contradict each other.
    """
    try:
        fields = dict(raw)
        if fields.get("interval") is not None:
            check_types(Interval, fields["interval"])
            fields["interval"] = Interval(**fields["interval"])
        check_types(ResultRecord, fields)
        return ResultRecord(**fields)
    except (TypeError, ValueError) as error:
        raise DataError(f"Not a result record ({as_clause(error)}).") from error


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema of a file of records, such as `results.json` or `--export x.json`."""
    schema: dict[str, Any] = json.loads(SCHEMA_FILE.read_text("utf-8"))
    return schema


def write_records(path: AnyPath, records: Iterable[ResultRecord]) -> None:
    """Write records as `results.json`, atomically; `results_schema` describes the file."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "records": [record.as_dict() for record in records],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    write_atomically(path, json_bytes(text + "\n"))


def read_records(path: AnyPath) -> list[ResultRecord]:
    """Read the records of one file.

    Raises:
        DataError: The file is not JSON, has another schema, or other content.
    """
    document = parse_json(read_text(path), source=str(path))
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: schema_version is {version!r}, but this evalkit reads {SCHEMA_VERSION}."
        )
    try:
        return [record_from_dict(raw) for raw in document["records"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: expected a list under 'records'.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def write_atomically(path: AnyPath, content: bytes) -> None:
    """Write to a temporary file beside `path`, flush it to disk, and rename it.

    At a URL, the content is written as one object.

    Raises:
        OutputError: The file system refuses.
    """
    if is_remote(path):
        write_object(path, content)
        return
    path = Path(path)
    # Two machines may have one process id each on a shared file system.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            with suppress(OSError):
                temporary.unlink()


def json_bytes(text: str) -> bytes:
    r"""Encode JSON as UTF-8; half of a surrogate pair, as in a broken file name, stays an escape.

    >>> json_bytes('{"file": "a\udcff"}')
    b'{"file": "a\\udcff"}'
    """
    return text.encode("utf-8", "backslashreplace")
