"""What is wrong with a run folder: every row, every image, and what is missing."""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.compaction import said_missing
from evalkit.core.errors import RunFolderError
from evalkit.core.manifest import Line, ManifestRow, Parts, runs_of
from evalkit.core.places import is_remote, names_in, read_all, remove
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import write_atomically
from evalkit.core.run import RunFolder, chunks

SHARDS = "shards"
"""Folder of a run with one file for each shard that began."""
_AT_ONCE = 256
_MOST_KEPT = 1000
"""Faults that are kept one by one; all are counted."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong."""

    kind: str
    """`torn line`, `damaged line`, `damaged part`, `repeated index`, `missing image`, `altered
    image`, `missing rows` or `missing shard`."""
    where: str
    detail: str = ""


@dataclass(kw_only=True)
class Verification:
    """The outcome of checking a run."""

    num_rows: int = 0
    num_images: int = 0
    num_wanted: int | None = None
    """Images that the run is to have; None: not known."""
    num_parts: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Faults by kind."""
    faults: list[Fault] = field(default_factory=list)
    """The first of them."""

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong; an unfinished run lacks rows."""
        return not self.counts

    def add(self, kind: str, where: str, detail: str = "") -> None:
        """Note a fault."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(self.faults) < _MOST_KEPT:
            self.faults.append(Fault(kind=kind, where=where, detail=detail))


def verify(run: RunFolder, report: ProgressCallback = lambda done, total: None) -> Verification:
    """Read every row and every image of a run.

    Args:
        run: The run.
        report: Called with (images checked, images in total).
    """
    found = Verification(num_wanted=run.config.get("dataset", {}).get("n"))
    if run.has_torn_line():
        found.add("torn line", str(run.manifest_path), "the last line has no end")
    parts = Parts(run.parts_path)
    found.num_parts = len(parts.names)
    for part in parts.read():
        if isinstance(part, RunFolderError):
            found.add("damaged part", str(run.parts_path), str(part))
    state, checksums = bytearray(found.num_wanted or 0), array("I")
    for some in chunks(run.readable_lines(), _AT_ONCE):
        _check_rows(run, some, found, state, checksums)
        report(found.num_rows, max(found.num_rows, found.num_wanted or 0))
    missing = runs_of(i for i in range(found.num_wanted or 0) if not state[i])
    if missing:
        found.add("missing rows", str(run.path), said_missing(missing))
    for name in unfinished_shards(run):
        found.add("missing shard", str(run.path), name)
    return found


def _check_rows(
    run: RunFolder,
    some: list[tuple[Line, ManifestRow | None]],
    found: Verification,
    state: bytearray,
    checksums: Any,
) -> None:
    rows = []
    for line, row in some:
        if row is None:
            found.add("damaged line", line.where, line.content[:60].decode("utf-8", "replace"))
            continue
        if row.index >= len(state):
            state.extend(bytes(row.index + 1 - len(state)))
        if len(checksums) < len(state):
            checksums.extend([0] * (len(state) - len(checksums)))
        checksum = zlib.crc32(line.content)
        if state[row.index]:
            same = "the same row" if checksums[row.index] == checksum else "another row"
            found.add("repeated index", line.where, f"index {row.index}: {same}")
            continue
        state[row.index], checksums[row.index] = 1, checksum
        found.num_rows += 1
        rows.append(row)
    _check_images(run, rows, found)


def _check_images(run: RunFolder, rows: list[ManifestRow], found: Verification) -> None:
    inside = []
    for row in rows:
        try:
            if row.file is not None:
                inside.append((row, run.image_path(row)))
        except RunFolderError as error:
            found.add("damaged line", str(run.manifest_path), str(error))
    contents = read_all([path for _, path in inside])
    for (row, path), content in zip(inside, contents, strict=True):
        found.num_images += 1
        if content is None:
            found.add("missing image", str(path), f"index {row.index}")
        elif not run.is_image(row, content):
            what = "empty" if not content else f"{len(content):,} bytes"
            found.add("altered image", str(path), f"index {row.index}, {what}")


def note_shard(run: RunFolder, number: int, num: int, *, done: bool) -> None:
    """Note that a shard began or ended, so that a missing one has a name."""
    content = json.dumps({"shard": f"{number}/{num}", "done": done}).encode()
    write_atomically(run.path / SHARDS / f"{number}-of-{num}.json", content)


def forget_shards(run: RunFolder) -> None:
    """Delete the notes and the locks of shards, once they are merged."""
    names = names_in(run.path / SHARDS)
    remove([run.path / SHARDS / name for name in names])
    if not is_remote(run.path):
        remove([run.path / name for name in names_in(run.path) if name.startswith(".lock-")])
        with suppress(OSError):
            (run.path / SHARDS).rmdir()


def unfinished_shards(run: RunFolder) -> Iterator[str]:
    """Say which shards of a run that was begun in shards have not ended."""
    folder = run.path / SHARDS
    names = [name for name in names_in(folder) if name.endswith(".json")]
    contents = read_all([folder / name for name in names])
    ended: set[int] = set()
    num = 0
    for name, content in zip(names, contents, strict=True):
        number, _, of = name.removesuffix(".json").partition("-of-")
        if not (number.isdecimal() and of.isdecimal()):
            continue
        num = max(num, int(of))
        if content and b'"done": true' in content:
            ended.add(int(number))
    for shard in range(1, num + 1):
        if shard not in ended:
            yield f"{shard}/{num} has not ended"
