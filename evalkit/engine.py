"""Generation on this machine: batch by batch, resumable at any point."""

from __future__ import annotations

import time
from collections.abc import Sequence

from evalkit.core.progress import ProgressCallback
from evalkit.core.run import Outcome, RunFolder, WorkItem
from generators.base import Generator, Request, Settings


def generate(
    run: RunFolder,
    generator: Generator,
    settings: Settings,
    items: Sequence[WorkItem],
    *,
    batch_size: int,
    report: ProgressCallback = lambda done, total: None,
) -> None:
    """Generate the missing images of a run.

    Args:
        run: The folder that receives them.
        generator: The generator.
        settings: Its settings, stage by stage.
        items: All items of the run, in the order of their indices.
        batch_size: Items per batch; part of the run's identity, since it affects rounding.
        report: Called with (images done, images in total) at the start and after each batch.
    """
    with run.locked():
        batches = run.pending(items, batch_size)
        done = len(items) - sum(len(batch) for batch in batches)
        report(done, len(items))
        for batch in batches:
            started = time.perf_counter()
            samples = generator.generate([request_of(item) for item in batch], settings)
            elapsed_s = time.perf_counter() - started
            run.add_batch(
                batch,
                [
                    Outcome(pixels=s.image, status=s.status, reason=s.reason, notes=s.notes)
                    for s in samples
                ],
            )
            run.add_timing(first_index=batch[0].index, num_images=len(batch), elapsed_s=elapsed_s)
            done += len(batch)
            report(done, len(items))


def request_of(item: WorkItem) -> Request:
    """Return the request to a model for one item of a run."""
    return Request(
        prompt=item.prompt,
        label=item.label,
        seed=item.seed,
        index=item.index,
        sample_index=item.sample_index,
    )
