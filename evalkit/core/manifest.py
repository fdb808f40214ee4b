"""Rows of a run's manifest, and the two forms in which a run folder has them.

- `manifest.jsonl`: one line per image. One process at a time appends to it.
- `parts/FIRST-END.jsonl`: the lines of one batch and its seconds, an object that is written once
  and whole. Any number of processes on any number of machines write parts, for nothing is appended,
  renamed or locked, and a batch that two of them made has one part. Merging turns the parts of a
  finished run into the manifest.

A part's rows go before the manifest's rows of the same indices: it is the newer one.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args, get_type_hints

from evalkit.core.errors import RunFolderError, as_clause
from evalkit.core.places import AnyPath, is_remote, names_in, read_all
from evalkit.core.typed import check_types

PARTS = "parts"
_SUFFIX = ".jsonl"
_READ_AT_ONCE = 64
"""Parts that are read together; of a store, at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestRow:
    """The outcome of a work item."""

    index: int
    caption_id: str
    sample_index: int
    seed: int
    prompt: str | None
    label: int | None
    image_id: str | None
    file: str | None
    """Path of the image relative to the run folder; None if there is no image."""
    sha256: str | None
    """Hash of the image file."""
    status: str
    """`ok`, or `refused`, `filtered`, `failed`."""
    reason: str
    notes: tuple[str, ...]


_KINDS = {name: get_args(hint) or (hint,) for name, hint in get_type_hints(ManifestRow).items()}
_KINDS["notes"] = (list,)
"""Types that a row's JSON has, looked up directly: there may be millions of rows."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of either form, and where it is."""

    source: AnyPath
    number: int
    """In its file, from 1."""
    offset: int
    """Of its first byte in its file."""
    content: bytes
    """Without its line feed."""

    @property
    def where(self) -> str:
        """Its place in errors."""
        return f"{self.source}, line {self.number}"

    def row(self) -> ManifestRow:
        """Parse it.

        Raises:
            RunFolderError: It is no manifest row.
        """
        try:
            raw = json.loads(self.content)
            for name, kinds in _KINDS.items():
                if type(raw[name]) not in kinds:
                    check_types(ManifestRow, raw)
            if raw["index"] < 0:
                raise ValueError(f"index is {raw['index']}, expected 0 or more.")
            raw["notes"] = tuple(raw["notes"])
            return ManifestRow(**raw)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise RunFolderError(
                f"{self.where}: not a manifest row ({as_clause(error)}). Resume the run to "
                "generate its batch again."
            ) from error


@dataclass(frozen=True, order=True, slots=True)
class PartName:
    """The indices of a part."""

    first: int
    end: int

    @property
    def file(self) -> str:
        """Its name in the folder of parts."""
        return f"{self.first:09d}-{self.end:09d}{_SUFFIX}"

    @classmethod
    def of(cls, name: str) -> PartName | None:
        """Read a file's name; None if it is no part's.

        >>> PartName.of(PartName(32, 64).file)
        PartName(first=32, end=64)
        """
        first, dash, end = name.removesuffix(_SUFFIX).partition("-")
        if not (dash and name.endswith(_SUFFIX) and first.isdecimal() and end.isdecimal()):
            return None
        return cls(int(first), int(end)) if int(first) < int(end) else None


@dataclass(frozen=True, slots=True)
class Part:
    """The content of a part."""

    name: PartName
    lines: Sequence[Line]
    timing: Mapping[str, float]


class Parts:
    """The parts of a run, as they were listed."""

    def __init__(self, folder: AnyPath) -> None:
        self.folder = folder
        found = map(PartName.of, names_in(folder))
        self.names = sorted(name for name in found if name is not None)
        self._firsts = [name.first for name in self.names]
        for before, after in zip(self.names, self.names[1:], strict=False):
            if before.end > after.first:
                raise RunFolderError(
                    f"{folder}: {before.file} and {after.file} overlap, so they are of two "
                    "batch sizes. Delete the wrong one."
                )

    def cover(self, index: int) -> bool:
        """Return whether a part has an index in its name."""
        at = bisect_right(self._firsts, index) - 1
        return at >= 0 and index < self.names[at].end

    def read(self) -> Iterator[Part | RunFolderError]:
        """Read all parts in the order of their indices; a damaged one is its error."""
        for start in range(0, len(self.names), _READ_AT_ONCE):
            names = self.names[start : start + _READ_AT_ONCE]
            contents = read_all([self.folder / name.file for name in names])
            for name, content in zip(names, contents, strict=True):
                yield _parsed(self.folder / name.file, name, content)


def part_content(rows: Sequence[ManifestRow], elapsed_s: float) -> bytes:
    """Return the content of a part: its rows, then the seconds of the batch as the last line."""
    timing = {"elapsed_s": elapsed_s, "first_index": rows[0].index, "num_images": len(rows)}
    return b"".join([*map(row_line, rows), dump(timing)])


def row_line(row: ManifestRow) -> bytes:
    """Return a row's line, with its line feed."""
    return dump(asdict(row))


def dump(row: Mapping[str, Any]) -> bytes:
    """Return a line of JSON; half of a surrogate pair stays an escape."""
    text = json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"
    return text.encode("utf-8", "backslashreplace")


def readable(line: Line) -> ManifestRow | None:
    """Return a line's row; None if it is damaged."""
    try:
        return line.row()
    except RunFolderError:
        return None


def manifest_lines(path: AnyPath) -> Iterator[Line]:
    """Read the complete lines of a manifest; the last one, if it has no line feed, is skipped."""
    for line, is_complete in _lines(path):
        if is_complete:
            yield line


def has_torn_line(path: AnyPath) -> bool:
    """Return whether the last line has no end, because its writer was killed."""
    if is_remote(path):  # written whole or not at all
        return False
    try:
        with path.open("rb") as handle:
            if not handle.seek(0, 2):
                return False
            handle.seek(-1, 2)
            return handle.read(1) != b"\n"
    except FileNotFoundError:
        return False


def runs_of(indices: Iterable[int]) -> list[tuple[int, int]]:
    """Join sorted indices into runs of (first, last).

    >>> runs_of([0, 1, 2, 8, 9])
    [(0, 2), (8, 9)]
    """
    found: list[tuple[int, int]] = []
    for index in indices:
        if found and index == found[-1][1] + 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found


def _lines(path: AnyPath) -> Iterator[tuple[Line, bool]]:
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        return
    number = offset = 0
    with handle:
        for content in handle:
            number += 1
            line = Line(path, number, offset, content.removesuffix(b"\n"))
            yield line, content.endswith(b"\n")
            offset += len(content)


def _parsed(path: AnyPath, name: PartName, content: bytes | None) -> Part | RunFolderError:
    """Parse a part; whole ones have a line for each index, and the timing after them."""
    found = [] if content is None else content.split(b"\n")
    num = name.end - name.first
    fault = "it is missing" if content is None else f"{len(found) - 1} of {num + 1} lines"
    if len(found) == num + 2 and not found[-1]:
        try:
            timing = json.loads(found[num])
            if isinstance(timing, dict) and timing.get("num_images") == num:
                lines, offset = [], 0
                for number, line in enumerate(found[:num], start=1):
                    lines.append(Line(path, number, offset, line))
                    offset += len(line) + 1
                return Part(name, lines, timing)
            fault = "its last line is no timing"
        except ValueError as error:
            fault = f"its last line is no timing ({error})"
    return RunFolderError(
        f"{path} is damaged: {fault}. Resume the run to generate its batch again."
    )
