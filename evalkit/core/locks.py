"""Locks between processes, as far as the system and the file system have them.

`flock` is missing on Windows, and some network file systems refuse it (ENOSYS, ENOLCK). Locks here
only keep two commands from doing the same work at once, so without them the work goes on, and a
note says so.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import IO

from evalkit.core.progress import errors

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_BUSY = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}
_REFUSED = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_noted: set[str] = set()


@contextmanager
def locked(path: Path, *, wait: bool, shared: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is created if missing.

    Args:
        path: The file.
        wait: Wait for other processes; otherwise raise.
        shared: Let others in that share it too.

    Raises:
        BlockingIOError: Another process holds the lock, and `wait` is False.
        OSError: The file can't be opened.
    """
    with path.open("ab") as handle:
        _lock(handle, path, wait=wait, shared=shared)
        yield


def _lock(handle: IO[bytes], path: Path, *, wait: bool, shared: bool) -> None:
    if fcntl is None:
        _note(path, "this system has no file locks")
        return
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, kind | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _BUSY:
            raise BlockingIOError(error.errno, error.strerror) from error
        if error.errno not in _REFUSED:
            raise
        _note(path, f"its file system has no locks ({error.strerror})")


def _note(path: Path, why: str) -> None:
    """Print once per folder that nothing keeps other processes out."""
    folder = str(path.parent)
    if folder not in _noted:
        _noted.add(folder)
        errors.print(
            f"note: {folder} can't be locked: {why}. Let only one command write to it at a time.",
            highlight=False,
            markup=False,
        )
