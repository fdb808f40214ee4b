"""How much is asked of a server: a cap on requests that holds across threads, and a pace."""

from __future__ import annotations

import threading
import time

from generators.errors import CapReachedError


class Budget:
    """Hands out requests up to a cap; a batch reserves its first tries before it begins.

    So a batch that begins can ask for every prompt once, whatever its retries use.

    Args:
        limit: Most requests in total; None: any number.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.used = 0
        self._reserved = 0
        self._lock = threading.Lock()

    def reserve(self, count: int) -> None:
        """Set requests apart for the first tries of a batch.

        Raises:
            CapReachedError: The cap does not cover them.
        """
        with self._lock:
            left = None if self.limit is None else self.limit - self.used - self._reserved
            if left is not None and count > left:
                raise CapReachedError(
                    f"The cap of {self.limit:,} requests leaves {left:,} for a batch of "
                    f"{count:,} prompts. Finished images are kept: raise the cap (--max-requests "
                    "or --max-cost) and run the same command again, or use a smaller --batch-size."
                )
            self._reserved += count

    def take(self, *, first: bool) -> bool:
        """Take one request, the reserved one of a first try; return whether there is one left."""
        with self._lock:
            if first:
                assert self._reserved > 0, "a first try was reserved"
                self._reserved -= 1
            elif self.limit is not None and self.used + self._reserved >= self.limit:
                return False
            self.used += 1
            return True

    def release(self, count: int) -> None:
        """Give back what a batch reserved and did not take."""
        with self._lock:
            self._reserved -= count


class Pace:
    """Spaces requests evenly over time, and holds all of them back when the server says so.

    Args:
        per_minute: Most requests a minute; None: any number.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._interval_s = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> None:
        """Wait for the next free moment, or until the run stops."""
        with self._lock:
            moment = max(time.monotonic(), self._next)
            self._next = moment + self._interval_s
        stop.wait(max(0.0, moment - time.monotonic()))

    def hold(self, seconds: float) -> None:
        """Let no request begin for some seconds."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
