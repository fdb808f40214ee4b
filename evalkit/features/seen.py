"""Files whose content is known, by their state on disk.

A run's manifest says which bytes each image had when it was made. Whether it still has them is
answered without reading the file if its size and times are those of the last time that it was read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evalkit.core.results import write_atomically

SEEN = "seen"
"""Folder of the feature store with one file per folder of images."""
_TICK_NS = 2_000_000_000
"""A file that was written this shortly before it was read may change again within one tick."""

State = list[int]
"""Size, time of the content, time of the entry (ns), inode."""


class SeenFiles:
    """What is known about the images of some folders.

    Args:
        root: Folder of the feature store.
        folders: Folders of the images.
    """

    def __init__(self, root: Path, folders: Iterable[Path]) -> None:
        self._files = {folder: _file_of(root, folder) for folder in set(folders)}
        self._known = {folder: _read(file) for folder, file in self._files.items()}
        self._changed: set[Path] = set()

    def is_unchanged(self, path: Path, sha256: str) -> bool:
        """Return whether a file surely still has these bytes; False if it must be read.

        Raises:
            OSError: There is no such file.
        """
        return self._known[path.parent].get(path.name) == [*_state(path), sha256]

    def add(self, path: Path, sha256: str) -> None:
        """Note that a file has just been read with these bytes."""
        state = _state(path)
        if time.time_ns() - max(state[1:3]) > _TICK_NS:
            self._known[path.parent][path.name] = [*state, sha256]
            self._changed.add(path.parent)

    def save(self) -> None:
        """Write what was learned; without it, files are only read once more."""
        for folder in self._changed:
            with contextlib.suppress(OSError):
                content = json.dumps(self._known[folder]).encode()
                write_atomically(self._files[folder], content)


def clear_seen(root: Path) -> int:
    """Forget all files, and return how many bytes that freed."""
    freed = 0
    for file in (root / SEEN).glob("*.json"):
        freed += file.stat().st_size
        file.unlink(missing_ok=True)
    return freed


def _file_of(root: Path, folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
    return root / SEEN / f"{name}.json"


def _state(path: Path) -> State:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _read(file: Path) -> dict[str, Any]:
    """Read what is known of a folder; nothing if it is unreadable, which costs time only."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
