"""Generation on this machine: batch by batch, resumable at any point."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np

from evalkit.core.compaction import compact
from evalkit.core.errors import DataError
from evalkit.core.progress import ProgressCallback, ProgressFactory, heard_by, silent
from evalkit.core.run import WHOLE, Batches, Outcome, RunFolder, Shard, WorkItem
from generators.base import Generator, GeneratorSpec, Request, Sample, Settings


def generate(
    run: RunFolder,
    generator: Generator,
    settings: Settings,
    items: Sequence[WorkItem],
    *,
    batch_size: int,
    progress: ProgressFactory = silent,
    shard: Shard = WHOLE,
) -> None:
    """Generate the missing images of a run.

    Args:
        run: The folder that receives them.
        generator: The generator.
        settings: Its settings, stage by stage.
        items: All items of the run, in the order of their indices.
        batch_size: Items per batch; part of the run's identity, since it affects rounding.
        progress: Such as `evalkit.core.progress.progress_bar`.
        shard: Generate only this share of the batches, beside processes that generate the others.

    Raises:
        DataError: The generator returned something else than its interface says.
        OutputError: The folder can't be written.
        RunFolderError: Another process writes to it, or it is damaged.
    """
    with run.locked(shard):
        with progress("Checking finished images") as checked:
            batches = run.pending(items, batch_size, checked, shard=shard)
        num = num_in_shard(len(items), batch_size, shard)
        done = num - batches.num_items
        as_parts = shard != WHOLE or run.writes_parts

        def store(batch: Sequence[WorkItem], outcomes: list[Outcome], elapsed_s: float) -> None:
            if as_parts:
                run.add_part(batch, outcomes, elapsed_s)
                return
            run.add_batch(batch, outcomes)
            run.add_timing(first_index=batch[0].index, num_images=len(batch), elapsed_s=elapsed_s)

        with progress(f"Sampling {generator.spec.name}") as report, OneBehind(store) as writer:
            report(done, num)
            for batch in batches:
                within = Within(generator, len(batch), lambda part: report(part, num), done)
                writer.put(batch, *sample_batch(generator, settings, batch, within.advance))
                done += len(batch)
                report(done, num)
        if shard == WHOLE and (as_parts or not is_at_end(batches, len(items), batch_size)):
            finish(run, len(items), progress)


def finish(run: RunFolder, num: int, progress: ProgressFactory = silent) -> None:
    """Put the rows of a finished run into one sorted manifest; leave a part of a run as it is."""
    if run.config.get("dataset", {}).get("n", num) == num:
        with progress("Sorting the manifest") as report:
            compact(run, num, report)


def num_in_shard(num_items: int, batch_size: int, shard: Shard) -> int:
    """Return how many items a share of the batches has."""
    numbers = range(shard.number - 1, -(-num_items // batch_size), shard.num)
    return sum(min(batch_size, num_items - number * batch_size) for number in numbers)


def is_at_end(batches: Batches, num_items: int, batch_size: int) -> bool:
    """Return whether batches are the last ones of the grid, so that appending keeps the order."""
    num = -(-num_items // batch_size)
    return list(batches.numbers) == list(range(num - len(batches), num))


def sample_batch(
    generator: Generator,
    settings: Settings,
    batch: Sequence[WorkItem],
    advance: ProgressCallback,
) -> tuple[list[Outcome], float]:
    """Generate one batch; return its outcomes and the seconds that the generator took.

    Raises:
        DataError: The generator returned something else than its interface says.
    """
    started = time.perf_counter()
    with heard_by(advance), _numerics():
        samples = generator.generate([request_of(item) for item in batch], settings)
    elapsed_s = time.perf_counter() - started
    check_samples(samples, generator.spec, len(batch))
    outcomes = [
        Outcome(pixels=s.image, status=s.status, reason=s.reason, notes=s.notes) for s in samples
    ]
    return outcomes, elapsed_s


def request_of(item: WorkItem) -> Request:
    """Return the request to a model for one item of a run."""
    return Request(
        prompt=item.prompt,
        label=item.label,
        seed=item.seed,
        index=item.index,
        sample_index=item.sample_index,
    )


class OneBehind:
    """Stores one batch in a thread while the next one is generated.

    Leaving the context waits for the last one, also after an interrupt; what it raises is raised by
    the next call or at the end.

    Args:
        store: Stores a batch.
    """

    def __init__(self, store: Callable[[Sequence[WorkItem], list[Outcome], float], None]) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._last: Future[None] | None = None

    def __enter__(self) -> OneBehind:
        return self

    def put(self, batch: Sequence[WorkItem], outcomes: list[Outcome], elapsed_s: float) -> None:
        """Wait for the batch before, then begin to store this one."""
        self._wait()
        self._last = self._pool.submit(self._store, batch, outcomes, elapsed_s)

    def _wait(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __exit__(self, kind: type[BaseException] | None, *others: object) -> None:
        try:
            if kind is None:
                self._wait()
        finally:
            self._pool.shutdown(wait=True)


class Within:
    """Turns the steps of a batch's stages into a share of the batch.

    Args:
        generator: Its stages count alike, and so do the candidates of re-ranking.
        num_images: In the batch.
        show: Called with the number of images done, the batch's share included.
        done: Images done before the batch.
    """

    def __init__(
        self, generator: Generator, num_images: int, show: Callable[[float], None], done: int
    ) -> None:
        self._num_stages = len(generator.spec.stages) * getattr(generator, "candidates", 1)
        self._num_images = num_images
        self._show = show
        self._done = done
        self._finished = 0

    def advance(self, step: float, steps: int) -> None:
        """Take in a step of the current stage."""
        if self._finished < self._num_stages:
            share = (self._finished + step / steps) / self._num_stages
            self._show(self._done + share * self._num_images)
        if step >= steps:
            self._finished += 1


def check_samples(samples: object, spec: GeneratorSpec, num_requests: int) -> None:
    """Check what a generator returned, which another package may have written.

    Raises:
        DataError: Another number of samples than requests, an image of another size or type, or a
            sample that is neither an image nor a reason.
    """
    if not isinstance(samples, Sequence) or len(samples) != num_requests:
        got = len(samples) if isinstance(samples, Sequence) else type(samples).__name__
        raise DataError(
            f"{spec.name} returned {got} samples for {num_requests} requests, expected a list with "
            "one per request. Repair the package of this generator."
        )
    for sample in samples:
        fault = _fault(sample, spec.size_px if spec.fixed_size else None)
        if fault:
            raise DataError(
                f"{spec.name} returned {fault}. Repair the package of this generator "
                "(docs/extending.md, 'A generator')."
            )


def _fault(sample: object, size_px: int | None) -> str:
    """Say what is wrong with a sample; empty if nothing is. None as size: any."""
    if not isinstance(sample, Sample):
        return f"a {type(sample).__name__}, expected a Sample"
    if sample.status == "ok" and sample.image is None:
        return "a sample of status 'ok' without an image, expected a status that says why"
    if sample.status != "ok" and (sample.image is not None or not sample.reason):
        return f"a sample of status {sample.status!r}, expected a reason and no image"
    if sample.image is None:
        return ""
    if not isinstance(sample.image, np.ndarray) or sample.image.dtype != np.uint8:
        kind = getattr(sample.image, "dtype", type(sample.image).__name__)
        return f"an image of {kind}, expected uint8 from 0 to 255"
    shape = sample.image.shape
    if size_px is not None and shape != (size_px, size_px, 3):
        return f"an image of shape {shape}, expected {(size_px, size_px, 3)}"
    if len(shape) != 3 or shape[2] != 3 or not sample.image.size:
        return f"an image of shape {shape}, expected (height, width, 3)"
    return ""


def _numerics() -> AbstractContextManager[None]:
    """Return the context of sampling: without TF32, if the generator is one of torch."""
    if "torch" not in sys.modules:
        return nullcontext()
    from generators.numerics import full_float32

    return full_float32()
