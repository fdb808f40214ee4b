"""Checkpoints' samples in a folder: which are finished, and which have changed.

A training writes the samples of each checkpoint into a folder of their own. One is finished when

- it is a run folder and its manifest has every image,
- or it contains the file that marks one, `DONE` by default,
- or nothing in it has changed for some time.

A run folder is never finished by time alone, since its manifest says what is missing.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from evalkit.core.errors import DataError, MissingDataError, as_clause
from evalkit.core.image_files import scan_folder
from evalkit.core.run import RunFolder

_NUMBER = re.compile(r"\d+")
MARKER = "DONE"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The samples of one checkpoint, as they are now."""

    path: Path
    num_images: int
    images_changed_at: float
    """When an image last changed, in seconds since 1970; of a run, when its manifest did."""
    changed_at: float
    """When anything in it last changed."""
    is_run: bool
    fault: str = ""
    """Why it can't be read; empty: it can."""

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.path.name

    @property
    def step(self) -> int | None:
        """Its step, by its name."""
        return step_in(self.name)

    @property
    def state(self) -> dict[str, float]:
        """What tells whether its samples have changed, for the fingerprints of its records."""
        return {
            "images_in_folder": self.num_images,
            "images_changed_at": round(self.images_changed_at, 3),
        }

    def why_unfinished(self, *, marker: str, settle_s: float, now: float) -> str:
        """Say what it waits for; empty: it is finished.

        Args:
            marker: Name of the file that marks a finished one.
            settle_s: Seconds without a change after which it counts as finished.
            now: The time, in seconds since 1970.

        Raises:
            RunFolderError: Its manifest or its configuration is damaged.
        """
        if self.fault:
            return self.fault
        if self.is_run:
            run = RunFolder.read(self.path)
            there, wanted = len(run.rows()), run.config["dataset"]["n"]
            return "" if there == wanted else f"{there:,} of {wanted:,} images"
        if not self.num_images:
            return "no images"
        if (self.path / marker).is_file():
            return ""
        age = now - self.changed_at
        return "" if age >= settle_s else f"changed {max(age, 0):.0f} s ago"


def step_in(name: str) -> int | None:
    """Return the last number in a name; None: it has none.

    >>> step_in("checkpoint-1000"), step_in("epoch3_step000500"), step_in("final")
    (1000, 500, None)
    """
    found = _NUMBER.findall(name)
    return int(found[-1]) if found else None


def folders(root: Path) -> list[Path]:
    """List the visible subfolders of a folder in the order of their steps, then of their names.

    Raises:
        MissingDataError: There is no such folder.
        DataError: It can't be read.
    """
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder. Give the folder that training writes.")
    try:
        found = [path for path in root.iterdir() if path.is_dir() and path.name[:1] != "."]
    except OSError as error:
        raise DataError(f"{root} can't be read ({error.strerror}). Check permissions.") from error
    return sorted(found, key=lambda path: order_of(path.name))


def read_checkpoint(path: Path) -> Checkpoint:
    """Look at the samples in a folder; one that was deleted this moment has none."""
    is_run = (path / "run.json").is_file()
    try:
        files = scan_folder(path)
    except DataError as error:
        return Checkpoint(
            path=path, num_images=0, images_changed_at=0.0, changed_at=0.0, is_run=False,
            fault=as_clause(error),
        )  # fmt: skip
    # Of a run its manifest counts, whatever reports are written beside it.
    images = [path / "manifest.jsonl"] if is_run else list(files.images.values())
    changed = max((_changed_at(source) for source in images), default=0.0)
    return Checkpoint(
        path=path,
        num_images=len(files.images),
        images_changed_at=changed,
        changed_at=max(changed, *(_changed_at(one) for one in (path, *files.others.values()))),
        is_run=is_run,
    )


def tree_times(path: Path) -> tuple[tuple[str, int], ...]:
    """Return when each folder below a path changed: files were added, renamed or deleted in it.

    It takes a fraction of looking at every file.
    """
    times = []
    for root, inner, _ in os.walk(path):
        inner.sort()
        with suppress(OSError):  # deleted this moment
            times.append((root, Path(root).stat().st_mtime_ns))
    return tuple(times)


def _changed_at(path: object) -> float:
    """Return when a file changed: its content, or its entry, since copies keep the former."""
    assert isinstance(path, Path)
    try:
        found = path.stat()
    except OSError:  # renamed or deleted this moment
        return time.time()
    return max(found.st_mtime, found.st_ctime)


def order_of(name: str) -> tuple[bool, int, str]:
    """Return what sorts checkpoints by their steps, those without one last, then by their names."""
    step = step_in(name)
    return step is None, step or 0, name
