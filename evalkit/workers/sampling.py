"""Sampling as work: a worker holds the model, and writes images and parts into the run itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.core.errors import WeightsError
from evalkit.core.places import AnyPath
from evalkit.core.progress import ProgressFactory, silent
from evalkit.core.run import WHOLE, RunFolder, Shard, WorkItem
from evalkit.engine import Within, finish, num_in_shard, sample_batch
from evalkit.workers.dispatch import Pool, run_tasks
from evalkit.workers.work import Advance, Doing, Task, check_versions
from generators.base import Generator, Settings

Loading = Callable[[str], tuple[Generator, Settings]]
"""Loads the model onto a device."""


@dataclass(frozen=True, kw_only=True)
class SamplingWork:
    """The batches of one run."""

    run: AnyPath
    load: Loading
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of libraries that every worker must have."""

    def start(self, device: str) -> Doing:
        """Load the model, and check that it is the run's.

        Raises:
            WeightsError: It has other weights.
            ConfigError: A library has another version here.
        """
        check_versions(self.versions)
        run = RunFolder.read(self.run)
        generator, settings = self.load(device)
        expected, found = run.config.get("weights_sha256"), generator.spec.weights_sha256
        if expected not in (None, found):
            raise WeightsError(
                f"A worker's weights of {generator.spec.name} have sha256 {found[:12]}..., but "
                f"{run.path} was begun with {expected[:12]}... Give all nodes the same files."
            )

        def do(batch: Sequence[WorkItem], advance: Advance) -> int:
            within = Within(generator, 1, advance, 0)
            outcomes, elapsed_s = sample_batch(generator, settings, batch, within.advance)
            run.add_part(batch, outcomes, elapsed_s)
            return len(batch)

        return do


def generate_in_workers(
    run: RunFolder,
    items: Sequence[WorkItem],
    open_pool: Callable[[int], Pool],
    *,
    batch_size: int,
    worker_timeout_s: float,
    batch_timeout_s: float = 0.0,
    shard: Shard = WHOLE,
    progress: ProgressFactory = silent,
) -> None:
    """Generate the missing images of a run by workers, then merge its parts.

    Args:
        run: The folder that receives them.
        items: All items of the run.
        open_pool: Starts workers that do the run's `SamplingWork`, at most a number of them.
        batch_size: Items per batch.
        worker_timeout_s: See `run_tasks`.
        batch_timeout_s: See `run_tasks`.
        shard: Generate only this share of the batches.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        WorkerError: A worker reported an error, or a batch cost several workers.
        RunFolderError: Another process writes to the folder, or it is damaged.
    """
    with run.locked(shard):
        with progress("Checking finished images") as checked:
            batches = run.pending(items, batch_size, checked, shard=shard)
        num = num_in_shard(len(items), batch_size, shard)
        done = num - batches.num_items
        if len(batches):
            with progress(f"Sampling {run.config.get('model', '')}".strip()) as report:
                report(done, num)

                def count(task: Task, result: Any) -> None:
                    nonlocal done
                    del result
                    done += task.size
                    report(done, num)

                tasks = (
                    Task(batches.numbers[at], list(batch), len(batch))
                    for at, batch in enumerate(batches)
                )
                run_tasks(
                    open_pool(len(batches)),
                    tasks,
                    on_done=count,
                    on_share=lambda images: report(done + images, num),
                    worker_timeout_s=worker_timeout_s,
                    batch_timeout_s=batch_timeout_s,
                )
        if shard == WHOLE:
            finish(run, len(items), progress)
