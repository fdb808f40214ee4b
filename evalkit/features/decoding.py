"""Decode and prepare images ahead of the networks, in threads or in worker processes.

Threads start fast, and Pillow and numpy release the interpreter lock for most of the work: enough
for a network on the CPU. A GPU is faster than one interpreter; worker processes then decode, each
into its slot of a shared memory-mapped file, so that no pixels pass through a pipe. The results are
the same and come in the order of the jobs.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from evalkit.core.errors import DataError
from evalkit.core.files import writing
from evalkit.features.sources import ImageItem, Preparation, load_image

Preparer = Callable[[np.ndarray], np.ndarray]
"""Maps one decoded image to one network's input; all inputs have the same shape."""
Decoded = Mapping[str, np.ndarray] | DataError
"""Each network's input by name, or the error of the image."""
Place = TypeVar("Place")


def usable_cores() -> int:
    """Return the number of cores that this process may use, at most 16."""
    affinity = getattr(os, "sched_getaffinity", None)
    return min(16, len(affinity(0)) if affinity else os.cpu_count() or 1)


@dataclass(frozen=True)
class Job:
    """One image, and the networks that need it."""

    item: ImageItem
    names: tuple[str, ...]


def decode_in_threads(
    jobs: Iterable[Job],
    preparation: Preparation,
    preparers: Mapping[str, Preparer],
    *,
    threads: int,
    ahead: int,
) -> Generator[Decoded, None, None]:
    """Yield prepared images in order, at most `ahead` of them in advance.

    Close the generator if it is not exhausted: the garbage collector could wait for its threads
    while another thread is being started, which needs the same lock.
    """

    def start(pool: Executor, job: Job) -> Future[Decoded]:
        return pool.submit(prepare, job, preparation, preparers)

    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, jobs, start, ahead)


def decode_in_processes(
    jobs: Iterable[Job],
    preparation: Preparation,
    preparers: Mapping[str, Preparer],
    *,
    processes: int,
    ahead: int,
) -> Generator[Decoded, None, None]:
    """Yield prepared images from worker processes; items and preparers must be picklable."""
    layout = _Layout.of(preparers)
    with tempfile.NamedTemporaryFile(prefix="evalkit-") as file:
        _reserve(file.fileno(), ahead * layout.size, file.name)
        arrays = layout.map(file.name, ahead)
        free = deque(range(ahead))
        with ProcessPoolExecutor(
            processes,
            mp_context=get_context("spawn"),
            initializer=_begin_worker,
            initargs=(file.name, ahead, layout, preparation, dict(preparers)),
        ) as pool:

            def start(_: Executor, job: Job) -> tuple[int, Job, Future[DataError | None]]:
                slot = free.popleft()
                return slot, job, pool.submit(_fill, slot, job)

            for slot, job, future in _ahead(pool, jobs, start, ahead):
                error = future.result()
                found = {name: arrays[name][slot].copy() for name in job.names}
                free.append(slot)
                yield error or found


def _reserve(handle: int, size: int, name: str) -> None:
    """Give a file its size, on the disk where the system can (macOS and Windows can't).

    Raises:
        OutputError: The disk is full.
    """
    with writing(Path(name), "Set TMPDIR to a folder with more space"):
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(handle, 0, size)
        else:
            os.truncate(handle, size)


def prepare(job: Job, preparation: Preparation, preparers: Mapping[str, Preparer]) -> Decoded:
    """Decode one image for the networks that need it."""
    try:
        image = load_image(job.item, preparation)
    except DataError as error:
        return error if job.item.name in str(error) else DataError(f"{job.item.name}: {error}")
    return {name: preparers[name](image) for name in job.names}


def _in_order(
    pool: Executor,
    jobs: Iterable[Job],
    start: Callable[[Executor, Job], Future[Decoded]],
    ahead: int,
) -> Iterator[Decoded]:
    for future in _ahead(pool, jobs, start, ahead):
        yield future.result()


def _ahead(
    pool: Executor,
    jobs: Iterable[Job],
    start: Callable[[Executor, Job], Place],
    ahead: int,
) -> Iterator[Place]:
    """Yield started jobs in order; start the next one when the consumer asks for more."""
    started: deque[Place] = deque()
    waiting = iter(jobs)
    try:
        for job in waiting:
            started.append(start(pool, job))
            if len(started) == ahead:
                yield started.popleft()
        while started:
            yield started.popleft()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class _Layout:
    """The layout of a slot in the shared file: the position of each network's input."""

    places: tuple[tuple[str, tuple[int, ...], str, int], ...]
    """Name, shape, type and offset in bytes."""
    size: int
    """Size of one slot in bytes."""

    @classmethod
    def of(cls, preparers: Mapping[str, Preparer]) -> _Layout:
        """Build the layout from the shape that each preparer returns for a black image."""
        places, offset = [], 0
        for name, preparer in preparers.items():
            probe = preparer(np.zeros((64, 64, 3), np.uint8))
            places.append((name, probe.shape, probe.dtype.str, offset))
            offset += -(-probe.nbytes // 64) * 64
        return cls(tuple(places), offset)

    def map(self, path: str, slots: int) -> dict[str, np.ndarray]:
        """Map the file as arrays of (slots, *shape)."""
        with open(path, "r+b") as file:  # noqa: PTH123 (a name, not a path of the user's)
            mapped = mmap.mmap(file.fileno(), slots * self.size)
        return {
            name: np.ndarray(
                (slots, *shape),
                dtype,
                buffer=mapped,
                offset=offset,
                strides=(self.size, *np.empty(shape, dtype).strides),
            )
            for name, shape, dtype, offset in self.places
        }


_worker: dict[str, Any] = {}
"""State of a worker process between images."""


def _begin_worker(
    path: str,
    slots: int,
    layout: _Layout,
    preparation: Preparation,
    preparers: Mapping[str, Preparer],
) -> None:
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops its workers
    _worker.update(arrays=layout.map(path, slots), preparation=preparation, preparers=preparers)


def _fill(slot: int, job: Job) -> DataError | None:
    found = prepare(job, _worker["preparation"], _worker["preparers"])
    if isinstance(found, DataError):
        return found
    for name, values in found.items():
        _worker["arrays"][name][slot] = values
    return None
