"""Computed features on disk, by the hashes of image and extractor.

Each (extractor, layer, preparation) has a folder with `identity.json` and append-only shards
`*.npy` of (key, feature) records. A shard is written to a temporary name, flushed and renamed, and
its name is never reused, so several processes can add to one folder and a killed process keeps
everything it had finished. Shards are memory-mapped, so memory does not grow with the number of
images.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalkit.core.downloads import cache_root
from evalkit.core.errors import DataError, OutputError
from evalkit.core.files import writing
from evalkit.core.places import (
    AnyPath,
    has_file,
    is_remote,
    names_in,
    place,
    read_all,
    remove,
    write_object,
)
from evalkit.core.progress import errors
from evalkit.core.results import write_atomically
from evalkit.features.base import identity_hash
from evalkit.features.seen import clear_seen

_MOST_REFILLS = 3
"""Attempts against another process that clears the store."""

Grouping = Callable[["StoredSet", np.ndarray, int], Any]
"""Called with a set, the group of each image, and the number of groups."""

_noted: set[AnyPath] = set()


@dataclass(frozen=True)
class StoredFeatures:
    """What the store has of one extractor, for `evalkit cache`."""

    folder: AnyPath
    identity: Mapping[str, Any]
    num_shards: int
    num_rows: int
    """Number of images or captions; two processes may have added the same one twice."""
    size_bytes: int


class FeatureStore:
    """Features by identity and key, shared by all runs on this machine.

    Args:
        root: The folder; by default `features` in the cache.
    """

    def __init__(self, root: AnyPath | str | None = None) -> None:
        self.root = place(root) if root is not None else cache_root() / "features"

    def open(self, identity: Mapping[str, Any], dim: int) -> FeatureTable:
        """Open the features of one extractor, layer and preparation."""
        return FeatureTable(self.root / identity_hash(identity), identity, dim)

    def contents(self) -> list[StoredFeatures]:
        """List what is stored, by folder name."""
        found = []
        for folder in self._folders():
            shards = [folder / name for name in names_in(folder) if name.endswith(".npy")]
            size = sum(shard.stat().st_size for shard in shards)
            rows = sum(_num_rows(shard) for shard in shards)
            identity = _read_json(folder / "identity.json")
            found.append(StoredFeatures(folder, identity, len(shards), rows, size))
        return found

    def _folders(self) -> list[AnyPath]:
        folders = [self.root / name for name in names_in(self.root)]
        return [folder for folder in folders if "identity.json" in names_in(folder)]

    def clear(self) -> int:
        """Delete all stored features, and return how many bytes that freed."""
        if is_remote(self.root):
            return self._clear_remote()
        freed = clear_seen(self.root)
        for identity in self.root.glob("*/identity.json"):
            folder = identity.parent
            with writing(folder, "Choose the store with --store"):
                for path in [*folder.glob("*.npy"), *folder.glob("*.tmp"), identity]:
                    with suppress(FileNotFoundError):  # another process has just renamed it
                        size = path.stat().st_size
                        path.unlink()
                        freed += size
            with suppress(OSError):  # another process may have added to it meanwhile
                folder.rmdir()
        return freed

    def _clear_remote(self) -> int:
        freed = 0
        for folder in self._folders():
            files = [folder / name for name in names_in(folder)]
            freed += sum(file.stat().st_size for file in files)
            remove(files)
        return freed


class FeatureTable:
    """Features of one identity; `get` looks them up, `add` writes a shard."""

    def __init__(self, folder: AnyPath, identity: Mapping[str, Any], dim: int) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.dim = dim
        self._places: dict[bytes, tuple[int, int]] = {}
        self._shards: list[AnyPath | np.ndarray] = []
        """Files, or the records themselves where the folder can't be written."""
        self._read: set[str] = set()
        self.refresh()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, sha256: str) -> bool:
        return bytes.fromhex(sha256) in self._places

    def refresh(self) -> None:
        """Map the shards that were added since, by this process or another.

        Raises:
            DataError: A shard is damaged.
        """
        for name in names_in(self.folder):
            path = self.folder / name
            if name in self._read or not name.endswith(".npy"):
                continue
            try:
                records = self._map(path)
            except FileNotFoundError:  # deleted this moment
                continue
            self._keep(path, records)
            self._read.add(path.name)

    def get(self, sha256s: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Return the features of images by the hash of their bytes, in order.

        Raises:
            KeyError: One of them is not stored.
            FileNotFoundError: Another process has deleted a shard; `forget_deleted` follows.
        """
        found = np.empty((len(sha256s), self.dim), np.float32)
        places = [self._places[bytes.fromhex(sha256)] for sha256 in sha256s]
        shards, rows = np.array(places, np.int64).reshape(-1, 2).T
        for index in np.unique(shards):
            wanted = shards == index
            # Mapped again each time, so that the pages are released.
            found[wanted] = self._records(self._shards[index])["feature"][rows[wanted]]
        return found

    def add(self, sha256s: Sequence[str], features: Float32[np.ndarray, "n d"]) -> None:
        """Write one shard of features; keys that are already stored stay unchanged.

        Where the folder can't be written, the features stay in memory, and a note says so.
        """
        new = {bytes.fromhex(key): row for key, row in zip(sha256s, features, strict=True)}
        new = {key: row for key, row in new.items() if key not in self._places}
        if not new:
            return
        records = np.empty(len(new), self._record_type())
        records["key"] = np.frombuffer(b"".join(new), np.uint8).reshape(len(new), 32)
        records["feature"] = list(new.values())
        try:
            self._write_identity()
            _write_shard(self.folder / f"{uuid.uuid4().hex}.npy", records)
        except OutputError as error:
            _note_unwritable(self.folder.parent, error)
            self._keep(records, records)
        else:
            self.refresh()

    def _keep(self, shard: AnyPath | np.ndarray, records: np.ndarray) -> None:
        for row, key in enumerate(records["key"]):
            self._places.setdefault(key.tobytes(), (len(self._shards), row))
        self._shards.append(shard)

    def _records(self, shard: AnyPath | np.ndarray) -> np.ndarray:
        return shard if isinstance(shard, np.ndarray) else self._map(shard)

    def forget_deleted(self) -> None:
        """Forget the features whose shards another process has deleted."""
        gone = {
            index
            for index, shard in enumerate(self._shards)
            if not isinstance(shard, np.ndarray) and not shard.is_file()
        }
        self._places = {key: at for key, at in self._places.items() if at[0] not in gone}

    def _record_type(self) -> np.dtype[Any]:
        return np.dtype([("key", np.uint8, (32,)), ("feature", "<f4", (self.dim,))])

    def _write_identity(self) -> None:
        path = self.folder / "identity.json"
        if not has_file(path):
            text = json.dumps({**self.identity, "dim": self.dim}, indent=1, sort_keys=True)
            write_atomically(path, text.encode())

    def _map(self, path: AnyPath) -> np.ndarray:
        path = _local_copy(path) if is_remote(path) else path
        try:
            with path.open("rb") as handle:
                np.lib.format.read_magic(handle)
            shard: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: damaged feature shard ({error}). Delete it.") from error
        if shard.dtype != self._record_type() or shard.ndim != 1:
            raise DataError(
                f"{path}: records of type {shard.dtype}, expected {self.dim} dimensions. Delete it."
            )
        return shard


class StoredSet:
    """Features of a set in order, read from the table on access.

    Behaves like a float32 array of (images, dimensions) that can be sliced and indexed by rows.

    Args:
        table: The table.
        sha256s: Keys of the images, in order.
        refill: Computes what the table has lost since, because another process cleared the store.
    """

    def __init__(
        self, table: FeatureTable, sha256s: Sequence[str], refill: Callable[[], None] | None = None
    ) -> None:
        self.table = table
        self.keys = np.array(sha256s, dtype=object)
        self._refill = refill
        self.grouped: Grouping | None = None
        """Computes moments by group in other processes; see `evalkit.metrics.frechet.workers`."""

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def shape(self) -> tuple[int, int]:
        """Images and dimensions."""
        return len(self.keys), self.table.dim

    @property
    def ndim(self) -> int:
        """2, as for an array."""
        return 2

    def load(self) -> Float32[np.ndarray, "n d"]:
        """Load all features into memory."""
        return self._get(self.keys)

    def subset(self, rows: np.ndarray) -> StoredSet:
        """Select the features of some images, without reading them."""
        part = StoredSet(self.table, list(self.keys[rows]), self._refill)
        part.grouped = self.grouped
        return part

    def __getitem__(self, rows: Any) -> Float32[np.ndarray, "n d"]:
        return self._get(self.keys[rows])

    def _get(self, keys: np.ndarray) -> Float32[np.ndarray, "n d"]:
        for _ in range(_MOST_REFILLS):
            try:
                return self.table.get(list(keys))
            except FileNotFoundError:
                if self._refill is None:
                    raise
                self.table.forget_deleted()
                self._refill()
        raise DataError(
            f"{self.table.folder}: the stored features were deleted again and again. Run it again."
        )

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array: np.ndarray = self.load()
        return array if dtype is None else array.astype(dtype, copy=bool(copy))


def _local_copy(path: AnyPath) -> Path:
    """Copy a shard of a store at a URL into the cache, once: no shard ever changes.

    Raises:
        FileNotFoundError: There is none any more.
    """
    folder = hashlib.sha256(str(path.parent).encode()).hexdigest()[:32]
    copy = cache_root() / "remote-features" / folder / path.name
    if not copy.is_file():
        content = read_all([path])[0]
        if content is None:
            raise FileNotFoundError(str(path))
        write_atomically(copy, content)
    return copy


def _num_rows(path: AnyPath) -> int:
    """Count the rows of a shard; 0 if it is unreadable."""
    path = _local_copy(path) if is_remote(path) else path
    try:
        return len(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError):
        return 0


def _write_shard(path: AnyPath, records: np.ndarray) -> None:
    if is_remote(path):
        buffer = io.BytesIO()
        np.save(buffer, records)
        write_object(path, buffer.getvalue())
        return
    # The suffix excludes an unfinished shard from the pattern `*.npy`.
    temporary = path.with_suffix(".tmp")
    with writing(path):
        for attempt in range(_MOST_REFILLS):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as handle:
                    np.save(handle, records)
                    handle.flush()
                    os.fsync(handle.fileno())
                temporary.replace(path)
            except FileNotFoundError:  # another process is clearing the store
                if attempt + 1 == _MOST_REFILLS:
                    raise
            else:
                return
            finally:
                with suppress(OSError):
                    temporary.unlink()


def _note_unwritable(root: AnyPath, error: OutputError) -> None:
    """Print once per store that its features are lost at the end."""
    if root in _noted:
        return
    _noted.add(root)
    reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else str(error)
    errors.print(
        f"note: features can't be stored in {root} ({reason}). They are kept in memory, and the "
        "next measurement computes them again. Choose another folder with --store.",
        highlight=False,
        markup=False,
    )


def _read_json(path: AnyPath) -> dict[str, Any]:
    try:
        content = json.loads(read_all([path])[0] or b"")
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}). Delete its folder.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object. Delete its folder.")
    return content
