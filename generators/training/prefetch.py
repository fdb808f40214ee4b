"""Batches drawn ahead by threads, in order, so that decoding and training overlap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


@contextmanager
def drawn_ahead(
    make: Callable[[Item], Made], items: Iterable[Item], *, ahead: int, threads: int
) -> Iterator[Iterator[Made]]:
    """Yield an iterator of what `make` returns for each item, in the order of the items.

    An error of `make` is raised where its item would have come.

    Args:
        make: Called in a thread; must depend on its item alone.
        items: Taken as they are needed.
        ahead: Items that are made, or being made, before they are asked for.
        threads: Threads that make them.
    """
    pool = ThreadPoolExecutor(threads, thread_name_prefix="evalkit-batches")
    try:
        yield _in_order(pool, make, iter(items), ahead)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _in_order(
    pool: ThreadPoolExecutor, make: Callable[[Item], Made], items: Iterator[Item], ahead: int
) -> Iterator[Made]:
    started: deque[Future[Made]] = deque()
    for item in items:
        started.append(pool.submit(make, item))
        if len(started) > ahead:
            yield started.popleft().result()
    while started:
        yield started.popleft().result()
