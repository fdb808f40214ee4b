"""The queue of the writers of an SQLite database, across threads and processes.

SQLite itself makes writers poll at growing intervals, so an unlucky one starves. Here they queue at
a lock file, which they poll often and evenly. The kernel releases the lock of a dead writer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from drawbench.errors import StoreError
from evalkit.core.locks import locked

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
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(queue, wait=False))
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StoreError(
                        f"The vote store beside {queue} does not respond (another program has "
                        "been writing to it for too long). This step stored nothing. Try again."
                    ) from None
                time.sleep(POLL_S * random.uniform(0.5, 1.5))  # noqa: S311
            except OSError as error:
                raise StoreError(
                    f"{queue} can't be written ({error.strerror}). This step stored nothing. Make "
                    "the folder of the votes writable."
                ) from error
        yield
