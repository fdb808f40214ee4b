"""Write a run's manifest again: sorted, whole, from both forms of its rows.

Only the place of each line is kept in memory, 16 bytes an image; the lines are copied from file to
file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from evalkit.core.errors import RunFolderError
from evalkit.core.files import writing
from evalkit.core.manifest import Line, Parts, dump, manifest_lines, readable, runs_of
from evalkit.core.places import AnyPath, is_remote, reaching, remove
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import write_atomically

if TYPE_CHECKING:
    from evalkit.core.run import RunFolder

_NONE = 0


class Places:
    """The file, offset and length of each index's line."""

    def __init__(self) -> None:
        self.sources: list[AnyPath] = []
        self._source = array("I")
        self._offset = array("q")
        self._length = array("I")
        self._last: AnyPath | None = None

    def add(self, index: int, line: Line) -> None:
        """Note a line; a later one of the same index replaces it."""
        if line.source is not self._last:
            self.sources.append(line.source)
            self._last = line.source
        short = index + 1 - len(self._source)
        if short > 0:
            self._source.extend([_NONE] * short)
            self._offset.extend([0] * short)
            self._length.extend([0] * short)
        self._source[index] = len(self.sources)  # _NONE is 0
        self._offset[index] = line.offset
        self._length[index] = len(line.content)

    def missing(self, num: int) -> list[tuple[int, int]]:
        """Return the indices below a number that have no line, as runs of (first, last)."""
        known = len(self._source)
        return runs_of(i for i in range(num) if i >= known or self._source[i] == _NONE)

    def __iter__(self) -> Iterator[tuple[AnyPath, int, int]]:
        """Yield source, offset and length in the order of the indices."""
        for source, offset, length in zip(self._source, self._offset, self._length, strict=True):
            if source != _NONE:
                yield self.sources[source - 1], offset, length


def rewrite(run: RunFolder, keep: Callable[[int], bool] = lambda index: True) -> None:
    """Write the manifest sorted, each index once, without damaged lines and those not kept.

    Args:
        run: A run without parts.
        keep: Whether to keep the line of an index.
    """
    places = Places()
    for line in manifest_lines(run.manifest_path):
        row = readable(line)
        if row is not None and keep(row.index):
            places.add(row.index, line)
    _write(run.manifest_path, places)


def compact(run: RunFolder, num: int, report: ProgressCallback = lambda done, total: None) -> int:
    """Turn the parts of a finished run into its manifest, and sort it.

    Killed in between, the rows are in both forms, and merging again ends it.

    Args:
        run: The run; nobody may be writing to it.
        num: Number of its images.
        report: Called with (rows read, rows in total).

    Returns:
        The number of parts that became part of the manifest.

    Raises:
        RunFolderError: Rows are missing; the message says which.
    """
    parts, places, is_sorted, last, done = Parts(run.parts_path), Places(), True, -1, 0
    for line, row in run.readable_lines():
        if row is None:
            is_sorted = False
            continue
        is_sorted = is_sorted and row.index == last + 1
        last = row.index
        places.add(row.index, line)
        done += 1
        if done % 1000 == 0:
            report(min(done, num), num)
    missing = places.missing(num)
    if missing:
        raise RunFolderError(f"{run.path} lacks {said_missing(missing)} of {num:,} images.")
    if parts.names or not is_sorted or run.has_torn_line():
        timings = sorted(run.timings(), key=lambda row: row.get("first_index", 0))
        _write(run.manifest_path, places)
        if timings:
            write_atomically(run.timings_path, b"".join(map(dump, timings)))
        remove([parts.folder / name.file for name in parts.names])
        with suppress(OSError):
            if not is_remote(parts.folder):
                parts.folder.rmdir()
    report(num, num)
    return len(parts.names)


def said_missing(missing: list[tuple[int, int]]) -> str:
    """Say which indices are missing.

    >>> said_missing([(0, 0), (4, 9)])
    '7 (0, 4 to 9)'
    """
    count = sum(last - first + 1 for first, last in missing)
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in missing[:4]]
    more = f", and {len(missing) - 4} more gaps" if len(missing) > 4 else ""
    return f"{count:,} ({', '.join(shown)}{more})"


def _write(target: AnyPath, places: Places) -> None:
    """Copy the lines into a new file, and put it in the place of the target."""
    folder = None if is_remote(target) else target.parent
    with writing(target):
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=folder)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as out:
                _copy(places, out)
                out.flush()
                os.fsync(out.fileno())
            temporary.chmod(0o666 & ~_umask())
            if is_remote(target):
                fs: Any = target.fs  # type: ignore[attr-defined]
                with reaching(target):
                    fs.put_file(name, str(target.path))  # type: ignore[attr-defined]
            else:
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def _copy(places: Places, out: IO[bytes]) -> None:
    source: AnyPath | None = None
    opened: IO[bytes] | None = None
    try:
        for path, offset, length in places:
            if path is not source:
                if opened is not None:
                    opened.close()
                source, opened = path, _opened(path)
            assert opened is not None
            opened.seek(offset)
            content = opened.read(length)
            if len(content) < length:
                raise RunFolderError(f"{path} was changed while it was read. Run it again.")
            out.write(content + b"\n")
    finally:
        if opened is not None:
            opened.close()


def _opened(path: AnyPath) -> IO[bytes]:
    """Open a file; one of a store is copied to this machine first, if it is long."""
    if not is_remote(path):
        return path.open("rb")
    spooled = tempfile.SpooledTemporaryFile(max_size=1 << 22)  # noqa: SIM115 (the caller closes)
    with path.open("rb") as remote:
        shutil.copyfileobj(remote, spooled)
    spooled.seek(0)
    return spooled


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
