"""The table of a watched training: a row for each checkpoint, on disk after each."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evalkit.analyses.watch import Checkpoint, order_of, step_in
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.results import ResultRecord, read_records, write_atomically, write_records
from evalkit.core.tables import parse_json, read_text
from evalkit.options import MeasureOptions
from evalkit.reports.tables import safe_cell

RECORDS, TABLE, OPTIONS = "watch.json", "watch.csv", "watch.options.json"
"""Files in the output folder."""
_NOT_OF_THE_NUMBERS = ("batch_size", "workers", "device", "store", "compile")
"""Fields of `MeasureOptions` that change no number, or only its rounding."""


@dataclass
class WatchTable:
    """The records of all checkpoints, on disk after each."""

    out: Path
    measured: dict[str, list[ResultRecord]]
    tried: set[str] = field(default_factory=set)
    """Checkpoints that this command measured, or tried to."""

    @classmethod
    def open(cls, out: Path, settings: dict[str, Any]) -> WatchTable:
        """Read what an earlier command measured with the same options.

        Raises:
            ConfigError: It was measured with others.
            DataError: A file is damaged.
        """
        kept, records = out / OPTIONS, out / RECORDS
        if records.is_file() and not kept.is_file():
            raise ConfigError(
                f"{records}: {OPTIONS} is missing, so it is not known how it was measured. Move it "
                "away, or choose another --out."
            )
        if records.is_file():
            earlier = parse_json(read_text(kept), source=str(kept))
            _refuse_other_settings(out, earlier if isinstance(earlier, dict) else {}, settings)
            return cls(out, by_checkpoint(_read(records)))
        text = json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True)
        write_atomically(kept, (text + "\n").encode())
        return cls(out, {})

    @property
    def num_measured(self) -> int:
        """Number of checkpoints that were measured, without those of which nothing could be."""
        return sum(any(r.state != "failed" for r in several) for several in self.measured.values())

    def knows(self, name: str) -> bool:
        """Whether there are records of a checkpoint, of whatever state."""
        return name in self.measured

    def has(self, checkpoint: Checkpoint) -> bool:
        """Whether a checkpoint was measured as it is now; what failed is tried once a command."""
        records = self.measured.get(checkpoint.name, [])
        if not records:
            return False
        known = {key: records[0].fingerprint.get(key) for key in checkpoint.state}
        failed = any(record.state == "failed" for record in records)
        return known == checkpoint.state and (not failed or checkpoint.name in self.tried)

    def add(self, checkpoint: Checkpoint, records: Sequence[ResultRecord]) -> None:
        """Store the records of a checkpoint, in place of earlier ones."""
        self.tried.add(checkpoint.name)
        others = [r for name, few in self.measured.items() if name != checkpoint.name for r in few]
        self.measured = by_checkpoint([*others, *records])
        write_records(self.out / RECORDS, self.everything())
        write_table(self.out / TABLE, self.measured)

    def place(self, checkpoint: Checkpoint) -> int:
        """Return the checkpoint's step, or its place among those that were measured."""
        names = list(self.measured)
        return names.index(checkpoint.name) if checkpoint.step is None else checkpoint.step

    def failed(self, *, in_part: bool) -> dict[str, str]:
        """Return the checkpoints that failed, with the first reason.

        Args:
            in_part: Whether those count too of which some metrics have a value.
        """
        enough = any if in_part else all
        return {
            name: next(record.reason for record in few if record.state == "failed")
            for name, few in self.measured.items()
            if enough(record.state == "failed" for record in few)
        }

    def everything(self) -> list[ResultRecord]:
        """Return all records, by the order of the rows."""
        return [record for several in self.measured.values() for record in several]


def _read(path: Path) -> list[ResultRecord]:
    """Read the records of earlier commands.

    Raises:
        DataError: The file is damaged, or of something else.
    """
    found = read_records(path)
    for record in found:
        if not isinstance(record.fingerprint, Mapping) or "checkpoint" not in record.fingerprint:
            raise DataError(
                f"{path}: not the records of evalkit watch. Move it away, or choose another --out."
            )
    return [replace(record, subject=str(record.subject)) for record in found]


def settings_of(against: str | None, options: MeasureOptions) -> dict[str, Any]:
    """Return what decides the numbers, ready for JSON."""
    fields = {f.name for f in dataclasses.fields(options)} - {*_NOT_OF_THE_NUMBERS}
    values = {name: getattr(options, name) for name in fields}
    values |= {"against": against, "typed": sorted(options.typed)}
    found: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return found


def _refuse_other_settings(out: Path, earlier: dict[str, Any], now: dict[str, Any]) -> None:
    for key in sorted({*earlier, *now}):
        if earlier.get(key) != now.get(key):
            raise ConfigError(
                f"{out / RECORDS} was measured with {key} {earlier.get(key)!r}, this command says "
                f"{now.get(key)!r}. Repeat its options, or choose another --out."
            )


def by_checkpoint(records: Iterable[ResultRecord]) -> dict[str, list[ResultRecord]]:
    """Group records by their checkpoint, in the order of their steps, then of their names."""
    found: dict[str, list[ResultRecord]] = {}
    for record in records:
        found.setdefault(record.subject, []).append(record)
    return {name: found[name] for name in sorted(found, key=order_of)}


def write_table(path: Path, measured: Mapping[str, Sequence[ResultRecord]]) -> None:
    """Write a row for each checkpoint: for each record its value, interval and reason.

    Args:
        path: The `.csv`.
        measured: Records by checkpoint, in the order of the rows.

    Raises:
        OutputError: The file can't be written.
    """
    names = list(dict.fromkeys(r.metric for several in measured.values() for r in several))
    header = ["checkpoint", "step", "n"]
    for name in names:
        header += [name, f"{name}.low", f"{name}.high", f"{name}.reason"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for checkpoint, records in measured.items():
        first = {record.metric: record for record in reversed(records)}
        row: list[str | int | float | None] = [
            checkpoint, step_in(checkpoint), max(record.n for record in records),
        ]  # fmt: skip
        for name in names:
            record = first.get(name)
            interval = record.interval if record else None
            row += [
                record.value if record else None,
                interval.low if interval else None,
                interval.high if interval else None,
                record.reason if record else "not measured",
            ]
        writer.writerow([safe_cell(cell) for cell in row])
    write_atomically(path, buffer.getvalue().encode("utf-8", "replace"))
