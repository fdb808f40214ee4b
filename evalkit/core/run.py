"""The run folder: images, their manifest, and their configuration.

    run.json         the resolved configuration and its hash
    manifest.jsonl   one row per image, appended batch by batch
    timings.jsonl    seconds per batch
    images/000/      PNG files, a thousand to a folder

A run is a fixed grid of batches over the index space. A batch's images are written first, each to a
temporary name that is flushed and renamed; then all its rows are appended at once. When a folder is
opened again, the remains of an unfinished batch are dropped and the whole batch is redone, so that
a killed run ends with the same bytes as an undisturbed one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.core.errors import RunFolderError
from evalkit.core.files import unwritable, writing
from evalkit.core.locks import locked
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import json_bytes, write_atomically

if TYPE_CHECKING:
    import numpy as np

SCHEMA_VERSION = 1


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


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A generator's result for one item: uint8 pixels, or None and the reason."""

    pixels: np.ndarray | None
    status: str = "ok"
    reason: str = ""
    notes: tuple[str, ...] = ()


def config_hash(config: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of a configuration, independent of the order of its keys."""
    text = json.dumps(config, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(json_bytes(text)).hexdigest()


class RunFolder:
    """A folder of generated images. Create one with `create_or_resume`, open one with `read`."""

    def __init__(
        self, path: Path, config: Mapping[str, Any], made_with: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.config = config
        self.made_with = dict(made_with or {})
        self.fingerprint = config_hash(config)

    @property
    def manifest_path(self) -> Path:
        """The append-only list of finished images."""
        return self.path / "manifest.jsonl"

    @classmethod
    def create_or_resume(
        cls, path: Path, config: Mapping[str, Any], made_with: Mapping[str, str] | None = None
    ) -> RunFolder:
        """Open `path` for generation; an existing folder must have the same configuration.

        Args:
            path: The folder; created if missing.
            config: Everything that determines the images; its hash identifies the run.
            made_with: Library versions, recorded but not part of the identity.

        Raises:
            RunFolderError: The folder holds another run, or something else.
        """
        path = Path(path)
        config = json.loads(json.dumps(config))
        if (path / "run.json").exists():
            run = cls.read(path)
            if run.fingerprint != config_hash(config):
                raise RunFolderError(
                    f"{path} holds another run ({_difference(run.config, config)}). "
                    "Choose another --out, or repeat the run's options to resume it."
                )
            return run
        if path.exists() and not path.is_dir():
            raise RunFolderError(f"{path} is a file. Give a folder with --out.")
        if path.exists() and any(not _is_leftover(file) for file in path.iterdir()):
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
    def read(cls, path: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            RunFolderError: It is not a run folder, or its `run.json` is damaged.
        """
        file = Path(path) / "run.json"
        if not file.is_file():
            raise RunFolderError(f"{path} is not a run folder: it has no run.json.")
        try:
            document = json.loads(file.read_text("utf-8"))
            run = cls(Path(path), document["config"], document["made_with"])
            intact = document["hash"] == run.fingerprint
            version = document["schema_version"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunFolderError(f"{file} is damaged ({error}). Generate the run again.") from error
        if version != SCHEMA_VERSION:
            raise RunFolderError(f"{file}: schema_version is {version}, but this evalkit reads 1.")
        if not intact:
            raise RunFolderError(f"{file} was edited: its hash does not match its configuration.")
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against writes by other processes.

        Raises:
            RunFolderError: Another process holds the lock.
        OutputError: The folder can't be written.
        """
        with ExitStack() as held:
            try:
                held.enter_context(locked(self.path / ".lock", wait=False))
            except BlockingIOError:
                raise RunFolderError(
                    f"{self.path} is locked: another process is writing to it. Wait for it, or "
                    "stop it."
                ) from None
            except OSError as error:
                raise unwritable(self.path, error, "Choose another --out") from error
            yield

    def rows(self) -> list[ManifestRow]:
        """Read the rows of the manifest, sorted by index; an unfinished last line is skipped.

        Raises:
            RunFolderError: A complete line is damaged, or an index occurs twice.
        """
        rows = [self._row(number, line) for number, line in enumerate(self._lines(), start=1)]
        rows.sort(key=lambda row: row.index)
        for before, after in itertools.pairwise(rows):
            if before.index == after.index:
                raise RunFolderError(f"{self.manifest_path}: index {after.index} occurs twice.")
        return rows

    def pending(
        self,
        items: Sequence[WorkItem],
        batch_size: int,
        report: ProgressCallback = lambda done, total: None,
    ) -> list[Sequence[WorkItem]]:
        """Return the batches of the grid that are not finished.

        Rows of unfinished batches, and of images that are missing or altered, are dropped from the
        manifest first. Call it inside `locked`.

        Args:
            items: All items of the run, in the order of their indices.
            batch_size: Items per batch.
            report: Called with (images checked, images in total): every finished one is hashed.
        """
        grid = [items[i : i + batch_size] for i in range(0, len(items), batch_size)]
        rows = {row.index: row for row in self.rows()}
        unfinished = []
        for number, batch in enumerate(grid, start=1):
            if not all(self._done(rows, item) for item in batch):
                unfinished.append(batch)
            report(min(number * batch_size, len(items)), len(items))
        redo = {item.index for batch in unfinished for item in batch}
        if redo & rows.keys() or self._has_partial_line():
            self._rewrite([row for row in rows.values() if row.index not in redo])
        self._remove_temporary_files()
        return unfinished

    def add_batch(self, items: Sequence[WorkItem], outcomes: Sequence[Outcome]) -> None:
        """Store a batch: images first, then all rows in one append."""
        rows = [self._store(item, out) for item, out in zip(items, outcomes, strict=True)]
        _append(self.manifest_path, "".join(_dump(asdict(row)) for row in rows))

    def add_timing(self, **figures: float) -> None:
        """Append a row of counts and seconds to `timings.jsonl`."""
        _append(self.path / "timings.jsonl", _dump(figures))

    def timings(self) -> list[dict[str, float]]:
        """Read the readable rows of `timings.jsonl`; none for a run without the file."""
        path = self.path / "timings.jsonl"
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        found = []
        for line in lines:
            with suppress(ValueError, RecursionError):  # a kill may have truncated the last one
                found.append(json.loads(line))
        return [row for row in found if _is_figures(row)]

    def image_path(self, row: ManifestRow) -> Path:
        """Return the path of a row's image, which must lie inside the run folder.

        Raises:
            RunFolderError: The row's path leaves the run folder.
        """
        target = (self.path / str(row.file)).resolve()
        if not target.is_relative_to(self.path.resolve()):
            raise RunFolderError(f"{self.manifest_path}: {row.file!r} is outside the run folder.")
        return target

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

    def _done(self, rows: Mapping[int, ManifestRow], item: WorkItem) -> bool:
        row = rows.get(item.index)
        if row is None or (row.caption_id, row.seed) != (item.caption_id, item.seed):
            return False
        if row.file is None:
            return True
        path = self.image_path(row)
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == row.sha256

    def _lines(self) -> list[bytes]:
        if not self.manifest_path.exists():
            return []
        return self.manifest_path.read_bytes().split(b"\n")[:-1]

    def _has_partial_line(self) -> bool:
        return self.manifest_path.exists() and not (
            self.manifest_path.read_bytes().endswith(b"\n") or not self.manifest_path.stat().st_size
        )

    def _row(self, number: int, line: bytes) -> ManifestRow:
        try:
            raw = json.loads(line)
            row = ManifestRow(**{**raw, "notes": tuple(raw["notes"])})
            if type(row.index) is not int or not isinstance(row.file, str | None):
                raise ValueError(f"index {row.index!r}, file {row.file!r}.")
            return row
        except (ValueError, TypeError, KeyError) as error:
            raise RunFolderError(
                f"{self.manifest_path}, line {number}: not a manifest row ({error}). "
                "Delete the line to generate its batch again."
            ) from error

    def _rewrite(self, rows: Sequence[ManifestRow]) -> None:
        ordered = sorted(rows, key=lambda row: row.index)
        text = "".join(_dump(asdict(row)) for row in ordered)
        write_atomically(self.manifest_path, json_bytes(text))

    def _remove_temporary_files(self) -> None:
        for pattern in ("images/*/.*.tmp", ".run.json.*.tmp", ".manifest.jsonl.*.tmp"):
            for file in self.path.glob(pattern):
                file.unlink()


def _is_figures(row: object) -> bool:
    return isinstance(row, dict) and all(isinstance(v, int | float) for v in row.values())


def _is_leftover(file: Path) -> bool:
    """Return whether a file is the temporary `run.json` of a killed process."""
    return file.name.startswith(".run.json.") and file.suffix == ".tmp"


def _append(path: Path, lines: str) -> None:
    with writing(path), path.open("ab") as handle:
        handle.write(json_bytes(lines))
        handle.flush()
        os.fsync(handle.fileno())


def _dump(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n"


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
