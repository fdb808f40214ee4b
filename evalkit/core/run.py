"""The run folder: images, their manifest, and their configuration.

    run.json         the resolved configuration and its hash
    manifest.jsonl   one row per image
    timings.jsonl    seconds per batch
    parts/           rows and seconds of single batches, where several processes write
    images/000/      PNG files, a thousand to a folder

A run is a fixed grid of batches over the index space. A batch's images are written first, each to a
temporary name that is flushed and renamed; then all its rows are appended at once, or written as a
part (see `evalkit.core.manifest`). A batch is done when its rows are durable. When a folder is
opened again, the remains of an unfinished batch are dropped and the whole batch is redone, so that
a killed run ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, overload

from evalkit.core.compaction import rewrite
from evalkit.core.errors import RunFolderError, as_clause
from evalkit.core.files import unwritable, writing
from evalkit.core.locks import locked
from evalkit.core.manifest import (
    PARTS,
    Line,
    ManifestRow,
    PartName,
    Parts,
    dump,
    has_torn_line,
    manifest_lines,
    part_content,
    readable,
    row_line,
)
from evalkit.core.places import AnyPath, has_file, is_remote, names_in, read_all
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import json_bytes, write_atomically
from evalkit.core.typed import check_types

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "WHOLE",
    "Batches",
    "ManifestRow",
    "Outcome",
    "RunFolder",
    "Shard",
    "WorkItem",
    "config_hash",
]
SCHEMA_VERSION = 1
_CHECKED_AT_ONCE = 256
"""Images that are read together; of a store, at once."""
_REPORT_EVERY = 1000
_GROW = 1 << 16
_INTACT, _BAD = 1, 2


@dataclass(frozen=True, kw_only=True)
class WorkItem:
    """One image that a run has to make."""

    index: int
    """Index in the run, from 0 without gaps."""
    caption_id: str
    sample_index: int
    """0 for the first sample of a caption."""
    seed: int
    prompt: str | None = None
    label: int | None = None
    image_id: str | None = None
    """The reference image that the caption describes, if there is one."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A generator's result for one item: uint8 pixels, or None and the reason."""

    pixels: np.ndarray | None
    status: str = "ok"
    reason: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shard:
    """A share of a run's batches: every `num`-th one."""

    number: int
    """From 1 to `num`."""
    num: int

    def has(self, batch: int) -> bool:
        """Return whether a batch, by its number in the grid from 0, belongs to the share."""
        return batch % self.num == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.num}"


WHOLE = Shard(1, 1)


class Batches(Sequence[Sequence[WorkItem]]):
    """Batches of a run's grid, sliced from the items when they are asked for."""

    def __init__(self, items: Sequence[WorkItem], size: int, numbers: Sequence[int]) -> None:
        self._items = items
        self._size = size
        self.numbers = numbers
        """Places in the grid, from 0."""

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Sequence[WorkItem]: ...
    @overload
    def __getitem__(self, at: slice) -> Batches: ...
    def __getitem__(self, at: int | slice) -> Sequence[WorkItem] | Batches:
        """Return a batch, or some of them."""
        if isinstance(at, slice):
            return Batches(self._items, self._size, self.numbers[at])
        start = self.numbers[at] * self._size
        return self._items[start : start + self._size]

    @property
    def num_items(self) -> int:
        """Items in all of them."""
        whole = len(self._items)
        return sum(min(self._size, whole - number * self._size) for number in self.numbers)


def config_hash(config: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a configuration, independent of the order of its keys."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(json_bytes(text)).hexdigest()


@dataclass(frozen=True, kw_only=True)
class _Document:
    """The content of `run.json`."""

    schema_version: int
    hash: str
    config: Mapping[str, Any]
    made_with: Mapping[str, str]


class RunFolder:
    """A folder of generated images. Create one with `create_or_resume`, open one with `read`."""

    def __init__(
        self, path: AnyPath, config: Mapping[str, Any], made_with: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.config = config
        self.made_with = dict(made_with or {})
        self.fingerprint = config_hash(config)
        self._inside: set[AnyPath] = set()

    @property
    def manifest_path(self) -> AnyPath:
        """The list of finished images."""
        return self.path / "manifest.jsonl"

    @property
    def parts_path(self) -> AnyPath:
        """The folder of parts."""
        return self.path / PARTS

    @property
    def timings_path(self) -> AnyPath:
        """The seconds of batches that no part has."""
        return self.path / "timings.jsonl"

    @classmethod
    def create_or_resume(
        cls, path: AnyPath, config: Mapping[str, Any], made_with: Mapping[str, str] | None = None
    ) -> RunFolder:
        """Open `path` for generation; an existing folder must have the same configuration.

        Args:
            path: The folder; created if missing.
            config: Everything that determines the images; its hash identifies the run.
            made_with: Library versions, recorded but not part of the identity.

        Raises:
            RunFolderError: The folder holds another run, or something else.
        """
        path = Path(path) if not is_remote(path) else path
        config = json.loads(json.dumps(config))
        if has_file(path / "run.json"):
            run = cls.read(path)
            if run.fingerprint != config_hash(config):
                raise RunFolderError(
                    f"{path} holds another run ({_difference(run.config, config)}). "
                    "Choose another --out, or repeat the run's options to resume it."
                )
            return run
        if not is_remote(path) and path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file. Give a folder with --out.")
        if any(not _is_leftover(name) for name in names_in(path)):
            if has_file(path / "run.json"):  # another process has begun the same run meanwhile
                return cls.create_or_resume(path, config, made_with)
            raise RunFolderError(
                f"{path} is neither empty nor a run folder. Choose another --out, or empty it."
            )
        run = cls(path, config, made_with)
        document = {
            "schema_version": SCHEMA_VERSION,
            "hash": run.fingerprint,
            "config": config,
            "made_with": run.made_with,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        write_atomically(path / "run.json", json_bytes(text))
        return run

    @classmethod
    def read(cls, path: AnyPath) -> RunFolder:
        """Open an existing run.

        Raises:
            RunFolderError: It is not a run folder, or its `run.json` is damaged.
        """
        path = Path(path) if not is_remote(path) else path
        file = path / "run.json"
        content = read_all([file])[0]
        if content is None:
            raise RunFolderError(f"{path} is not a run folder: it has no run.json.")
        try:
            document = json.loads(content.decode("utf-8"))
            check_types(_Document, document)
            run = cls(path, document["config"], document["made_with"])
            intact = document["hash"] == run.fingerprint
            version = document["schema_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{file} is damaged ({as_clause(error)}). Generate the run again."
            ) from error
        if version != SCHEMA_VERSION:
            raise RunFolderError(f"{file}: schema_version is {version}, but this evalkit reads 1.")
        if not intact:
            raise RunFolderError(f"{file} was edited: its hash does not match its configuration.")
        return run

    @contextmanager
    def locked(self, shard: Shard = WHOLE) -> Iterator[None]:
        """Lock the folder against writes by other processes.

        Shards of one run keep each other out only of their own share. An object store has no
        locks; nothing but parts is written there, which two processes may do at once.

        Raises:
            RunFolderError: Another process holds the lock.
            OutputError: The folder can't be written.
        """
        if is_remote(self.path):
            yield
            return
        with ExitStack() as held:
            try:
                is_whole = shard == WHOLE
                held.enter_context(locked(self.path / ".lock", wait=False, shared=not is_whole))
                if not is_whole:
                    own = self.path / f".lock-{shard.number}-of-{shard.num}"
                    held.enter_context(locked(own, wait=False))
            except BlockingIOError:
                raise RunFolderError(
                    f"{self.path} is locked: another process is writing to it. Wait for it, or "
                    "stop it."
                ) from None
            except OSError as error:
                raise unwritable(self.path, error, "Choose another --out") from error
            yield

    def lines(self, report: ProgressCallback = lambda done, total: None) -> Iterator[Line]:
        """Read the lines of both forms, each index's newest: first the manifest's, then the parts'.

        Raises:
            RunFolderError: A part is damaged, or a line of the manifest.
        """
        parts = Parts(self.parts_path)
        total = self.config.get("dataset", {}).get("n", 0)
        done = 0
        for line in manifest_lines(self.manifest_path):
            if not parts.names or not parts.cover(line.row().index):
                done += 1
                yield line
                if done % _REPORT_EVERY == 0:
                    report(done, max(total, done))
        for part in parts.read():
            if isinstance(part, RunFolderError):
                raise part
            yield from part.lines
            done += len(part.lines)
            report(done, max(total, done))

    def iter_rows(self) -> Iterator[ManifestRow]:
        """Read the rows one by one, in the order of their lines.

        Raises:
            RunFolderError: A complete line is damaged, or an index occurs twice.
        """
        seen = bytearray()
        for line in self.lines():
            row = line.row()
            if row.index >= len(seen):
                seen.extend(bytes(max(_GROW, row.index + 1 - len(seen))))
            if seen[row.index]:
                raise RunFolderError(f"{line.where}: index {row.index} occurs twice.")
            seen[row.index] = 1
            yield row

    def rows(self) -> list[ManifestRow]:
        """Read the rows, sorted by index; an unfinished last line is skipped.

        Raises:
            RunFolderError: A complete line is damaged, or an index occurs twice.
        """
        return sorted(self.iter_rows(), key=lambda row: row.index)

    def num_rows(self) -> int:
        """Count the rows, without keeping them."""
        return sum(1 for _ in self.iter_rows())

    def num_listed(self) -> int:
        """Count lines of the manifest, or indices in the names of parts, without parsing any."""
        parts = Parts(self.parts_path)
        if not parts.names:
            return sum(1 for _ in manifest_lines(self.manifest_path))
        if next(manifest_lines(self.manifest_path), None) is not None:
            return self.num_rows()
        return sum(name.end - name.first for name in parts.names)

    def pending(
        self,
        items: Sequence[WorkItem],
        batch_size: int,
        report: ProgressCallback = lambda done, total: None,
        *,
        shard: Shard = WHOLE,
    ) -> Batches:
        """Return the batches of the grid that are not finished.

        Rows of unfinished batches, and of images that are missing or altered, are dropped from the
        manifest first, unless there are parts: then the batch's new part will go before them. Call
        it inside `locked`.

        Args:
            items: All items of the run, in the order of their indices.
            batch_size: Items per batch.
            report: Called with (images checked, images in total): every finished one is hashed.
            shard: Return and check only the batches of this share.
        """
        state, clean = self._checked(items, batch_size, report, shard)
        numbers = array("q")
        for number in range(-(-len(items) // batch_size)):
            whole = state[number * batch_size : min((number + 1) * batch_size, len(items))]
            if shard.has(number) and whole.count(_INTACT) < len(whole):
                numbers.append(number)
        if not self.writes_parts and shard == WHOLE:
            redo = set(numbers)
            has_rows = (any(state[i * batch_size : (i + 1) * batch_size]) for i in numbers)
            if not clean or any(has_rows):
                rewrite(self, lambda at: at >= len(items) or at // batch_size not in redo)
            self._remove_temporary_files()
        report(len(items), len(items))
        return Batches(items, batch_size, numbers)

    @property
    def writes_parts(self) -> bool:
        """Whether batches have to be written as parts, because others write here or did so."""
        return is_remote(self.path) or bool(Parts(self.parts_path).names)

    def add_batch(self, items: Sequence[WorkItem], outcomes: Sequence[Outcome]) -> None:
        """Store a batch: images first, then all rows in one append."""
        rows = [self._store(item, out) for item, out in zip(items, outcomes, strict=True)]
        _append(self.manifest_path, b"".join(map(row_line, rows)))

    def add_part(
        self, items: Sequence[WorkItem], outcomes: Sequence[Outcome], elapsed_s: float
    ) -> None:
        """Store a batch as a part: images first, then rows and seconds as one object."""
        rows = [self._store(item, out) for item, out in zip(items, outcomes, strict=True)]
        name = PartName(items[0].index, items[-1].index + 1)
        write_atomically(self.parts_path / name.file, part_content(rows, elapsed_s))

    def add_timing(self, **figures: float) -> None:
        """Append a row of counts and seconds to `timings.jsonl`."""
        _append(self.timings_path, dump(figures))

    def timings(self) -> list[dict[str, float]]:
        """Read the readable seconds of both forms, by the first index of the batch where known."""
        content = read_all([self.timings_path])[0] or b""
        found: list[Any] = []
        for line in content.split(b"\n"):
            with suppress(ValueError, RecursionError):  # a kill may have truncated the last one
                found.append(json.loads(line))
        parts = Parts(self.parts_path)
        found += [dict(part.timing) for part in parts.read() if not isinstance(part, Exception)]
        return [row for row in found if _is_figures(row)]

    def image_path(self, row: ManifestRow) -> AnyPath:
        """Return the path of a row's image, which must lie inside the run folder.

        Raises:
            RunFolderError: The row's path leaves the run folder.
        """
        target, name = self.path / str(row.file), PurePosixPath(str(row.file))
        if name.is_absolute() or ".." in name.parts or "\0" in str(row.file):
            raise self._outside(row)
        if is_remote(self.path) or target.parent in self._inside:
            return target
        if not target.parent.resolve().is_relative_to(self.path.resolve()):
            raise self._outside(row)
        self._inside.add(target.parent)  # a thousand images have one folder
        return target

    def _outside(self, row: ManifestRow) -> RunFolderError:
        return RunFolderError(f"{self.manifest_path}: {row.file!r} is outside the run folder.")

    def _store(self, item: WorkItem, outcome: Outcome) -> ManifestRow:
        file = digest = None
        if outcome.pixels is not None:
            from evalkit.core.pixels import encode_png  # Pillow is not needed to read a run

            content = encode_png(outcome.pixels)
            file = f"images/{item.index // 1000:03d}/{item.index:06d}.png"
            digest = hashlib.sha256(content).hexdigest()
            write_atomically(self.path / file, content)
        return ManifestRow(
            **asdict(item),
            file=file,
            sha256=digest,
            status=outcome.status,
            reason=outcome.reason,
            notes=tuple(outcome.notes),
        )

    def _checked(
        self,
        items: Sequence[WorkItem],
        batch_size: int,
        report: ProgressCallback,
        shard: Shard,
    ) -> tuple[bytearray, bool]:
        """Compare the rows and images with the items.

        Returns:
            The state of each item, and whether the manifest has no line to drop.
        """
        state, checksums = bytearray(len(items)), array("I", bytes(4 * len(items)))
        clean, done = not self.has_torn_line(), 0
        for some in chunks(self.readable_lines(), _CHECKED_AT_ONCE):
            rows = []
            for line, row in some:
                if row is None:
                    clean = False
                elif row.index < len(items) and shard.has(row.index // batch_size):
                    rows.append((line, row))
            intact = self.intact([row for _, row in rows])
            for (line, row), is_intact in zip(rows, intact, strict=True):
                at, checksum = row.index, zlib.crc32(line.content)
                item = items[at]
                is_own = (row.caption_id, row.seed) == (item.caption_id, item.seed)
                if state[at] and line.source == self.manifest_path:
                    clean = False  # two processes appended it
                    is_intact = is_intact and checksums[at] == checksum
                state[at] = _INTACT if is_intact and is_own else _BAD
                checksums[at] = checksum
            done += len(some)
            report(min(done, len(items)), len(items))
        return state, clean

    def readable_lines(self) -> Iterator[tuple[Line, ManifestRow | None]]:
        """Read the lines of both forms, the manifest's first; a damaged one has no row."""
        parts = Parts(self.parts_path)
        for line in manifest_lines(self.manifest_path):
            row = readable(line)
            if row is None or not parts.names or not parts.cover(row.index):
                yield line, row
        for part in parts.read():
            if not isinstance(part, RunFolderError):
                yield from ((line, readable(line)) for line in part.lines)

    @staticmethod
    def is_image(row: ManifestRow, content: bytes) -> bool:
        """Return whether a file's content is a row's image."""
        return hashlib.sha256(content).hexdigest() == row.sha256

    def has_torn_line(self) -> bool:
        """Return whether the last line of the manifest has no end."""
        return has_torn_line(self.manifest_path)

    def intact(self, rows: Sequence[ManifestRow]) -> list[bool]:
        """Return for each row whether it has its image unaltered, or needs none."""
        with_image = [row for row in rows if row.file is not None]
        contents = read_all([self.image_path(row) for row in with_image])
        digests = {
            row.index: content is not None and self.is_image(row, content)
            for row, content in zip(with_image, contents, strict=True)
        }
        return [digests.get(row.index, True) for row in rows]

    def _remove_temporary_files(self) -> None:
        for pattern in ("images/*/.*.tmp", ".run.json.*.tmp", ".manifest.jsonl.*.tmp"):
            for file in self.path.glob(pattern):
                file.unlink()


def chunks(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Cut values into lists of a size.

    >>> list(chunks([1, 2, 3], 2))
    [[1, 2], [3]]
    """
    some: list[Any] = []
    for value in values:
        some.append(value)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def _is_figures(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(v, int | float) for v in row.values())


def _is_leftover(name: str) -> bool:
    """Return whether a file is the temporary `run.json` of a killed process, or a lock."""
    return (name.startswith(".run.json.") and name.endswith(".tmp")) or name == ".lock"


def _append(path: AnyPath, lines: bytes) -> None:
    with writing(path), path.open("ab") as handle:
        handle.write(lines)
        handle.flush()
        os.fsync(handle.fileno())


def _difference(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> str:
    """Describe the first keys in which two configurations differ."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found.append(_difference(before, after, f"{prefix}{key}."))
        else:
            found.append(f"{prefix}{key}: {before!r} there, {after!r} now")
    return "; ".join(found[:3]) + ("; ..." if len(found) > 3 else "")
