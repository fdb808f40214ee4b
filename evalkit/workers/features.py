"""Features as work: a worker holds the networks, and writes what they see into the store itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evalkit.core.errors import DataError, OutputError
from evalkit.core.places import AnyPath
from evalkit.core.progress import ProgressFactory, silent
from evalkit.features.base import Extractor
from evalkit.features.pipeline import Pass, PassOptions, open_tables
from evalkit.features.sources import ImageItem, Preparation
from evalkit.features.store import FeatureStore
from evalkit.workers.dispatch import Pool, run_tasks
from evalkit.workers.work import Advance, Doing, Task, Work, check_versions

TASK_IMAGES = 512
"""Most images of a task, as in a shard of the store."""
_TASKS_PER_WORKER = 4

Loading = Callable[[str], Sequence[Extractor]]
"""Loads the networks onto a device."""


@dataclass(frozen=True, kw_only=True)
class FeatureWork:
    """The images of one pass, under all of its networks."""

    load: Loading
    preparation: Preparation
    store: AnyPath
    how: PassOptions
    versions: Mapping[str, str] = field(default_factory=dict)

    def start(self, device: str) -> Doing:
        """Load the networks, and open the store.

        Raises:
            ConfigError: A library has another version here.
        """
        check_versions(self.versions)
        extractors = self.load(device)
        store = FeatureStore(self.store)
        tables = open_tables(extractors, self.preparation, store)

        def do(images: Sequence[tuple[ImageItem, str]], advance: Advance) -> dict[int, str]:
            """Encode images with their hashes; return the places of bad ones with the reasons."""
            items = [item for item, _ in images]
            one = Pass(store.root, items, extractors, self.preparation, tables, self.how)
            one.sha256s = [sha256 for _, sha256 in images]
            one.encode_missing(silent, "images")
            advance(1.0)
            return one.bad

        return do


def encode_in_workers(
    found: Pass,
    progress: ProgressFactory,
    what: str,
    *,
    load: Loading,
    open_pool: Callable[[Work, int], Pool],
    num_workers: int,
    versions: Mapping[str, str],
    worker_timeout_s: float,
    batch_timeout_s: float,
) -> None:
    """Encode what the store lacks, in tasks of whole batches, so that no batch differs.

    Args:
        found: The pass; its images are hashed.
        progress: Such as `evalkit.core.progress.progress_bar`.
        what: Name of the set.
        load: Loads the pass's networks onto a worker's device.
        open_pool: Starts workers for a work, at most a number of them.
        num_workers: How many there will be, as far as it is known.
        versions: Versions of libraries that every worker must have.
        worker_timeout_s: See `run_tasks`.
        batch_timeout_s: See `run_tasks`.

    Raises:
        WorkerError: An image is unusable, or a worker reported another error.
        OutputError: The workers' store is not this one.
    """
    todo = found.missing()
    if not todo:
        return
    size = task_size(len(todo), found.how.batch_size, num_workers)
    starts = range(0, len(todo), size)
    places = [index for index, _ in todo]
    work = FeatureWork(
        load=load,
        preparation=found.preparation,
        store=found.root,
        how=replace(found.how, elsewhere=None),
        versions=versions,
    )
    done = 0
    with progress(f"features of {what}") as report:
        report(0, len(todo))

        def note(task: Task, result: Any) -> None:
            nonlocal done
            for place, reason in result.items():
                found.note_bad(places[starts[task.number] + place], DataError(reason))
            done += task.size
            report(done, len(todo))

        tasks = (
            Task(number, [(found.items[i], found.sha256s[i]) for i in some], len(some))
            for number, start in enumerate(starts)
            for some in [places[start : start + size]]
        )
        run_tasks(
            open_pool(work, len(starts)),
            tasks,
            on_done=note,
            on_share=lambda images: report(min(done + images, len(todo)), len(todo)),
            worker_timeout_s=worker_timeout_s,
            batch_timeout_s=batch_timeout_s,
        )
    for table in found.tables.values():
        table.refresh()
    if found.missing():
        raise OutputError(
            f"{found.root}: the workers' features are not there. With workers on other machines, "
            "name a folder or URL that all of them share with --store."
        )


def task_size(num: int, batch_size: int, num_workers: int) -> int:
    """Return how many images a task has: whole batches, several tasks for each worker.

    >>> task_size(30_000, 32, 2), task_size(100, 32, 2)
    (512, 32)
    """
    most = max(1, TASK_IMAGES // batch_size)
    share = num // (batch_size * max(1, num_workers) * _TASKS_PER_WORKER)
    return batch_size * min(most, max(1, share))
