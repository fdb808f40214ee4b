"""Generation on this machine: batch by batch, resumable at any point."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

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
            requests = [Request(prompt=i.prompt, label=i.label, seed=i.seed) for i in batch]
            with _numerics():
                samples = generator.generate(requests, settings)
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


def _numerics() -> AbstractContextManager[None]:
    """Return the context of sampling: without TF32, if the generator is one of torch."""
    if "torch" not in sys.modules:
        return nullcontext()
    from generators.numerics import full_float32

    return full_float32()
