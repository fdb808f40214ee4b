"""The queue of the writers of an SQLite database, across threads and processes.

SQLite itself makes writers poll at growing intervals, so an unlucky one starves. Here they queue at
a lock file, which they poll often and evenly. The kernel releases the lock of a dead writer.
"""

from __future__ import annotations

import fcntl
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from drawbench.errors import StoreError

POLL_S = 0.002
"""Mean time between two looks at the lock; a transaction takes about as long."""


@contextmanager
def turn(queue: Path, deadline: float) -> Iterator[None]:
    """Hold the lock file for one transaction.

    Args:
        queue: The lock file; it is made if it does not exist.
        deadline: When to give up, in seconds of `time.monotonic`.

    Raises:
        StoreError: The file can't be written, or the turn did not come in time.
    """
    try:
        handle = queue.open("ab")
    except OSError as error:
        raise StoreError(
            f"{queue} can't be written ({error.strerror}). This step stored nothing. Make the "
            "folder of the votes writable."
        ) from error
    with handle:
        while not _locked(handle):
            if time.monotonic() >= deadline:
                raise StoreError(
                    f"The vote store beside {queue} does not respond (another program has been "
                    "writing to it for too long). This step stored nothing. Try again."
                )
            time.sleep(POLL_S * random.uniform(0.5, 1.5))  # noqa: S311
        yield


def _locked(handle: IO[bytes]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
