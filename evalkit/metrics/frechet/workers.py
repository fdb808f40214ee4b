"""Moments by jackknife group as work: a worker reads a group's features, and returns its moments.

A group is one task, so its moments are those that one process computes, bit for bit, and the driver
never reads the features of the set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64

from evalkit.core.places import AnyPath
from evalkit.features.store import FeatureTable, StoredSet
from evalkit.metrics.frechet.jackknife import moments_of
from evalkit.metrics.frechet.moments import Moments
from evalkit.workers.dispatch import Pool, run_tasks
from evalkit.workers.work import Advance, Doing, Task, Work

FEWEST_IMAGES = 10_000
"""In smaller sets, starting workers takes longer than the moments."""


@dataclass(frozen=True, kw_only=True)
class MomentsWork:
    """The groups of one set."""

    table: AnyPath
    identity: Mapping[str, Any]
    dim: int

    def start(self, device: str) -> Doing:
        """Open the table."""
        del device
        table = FeatureTable(self.table, self.identity, self.dim)

        def do(sha256s: Sequence[str], advance: Advance) -> Moments:
            del advance
            return moments_of(StoredSet(table, sha256s), np.arange(len(sha256s)))

        return do


def grouped_moments(
    features: StoredSet,
    codes: Int64[np.ndarray, " n"],
    num_groups: int,
    *,
    open_pool: Callable[[Work, int], Pool],
    worker_timeout_s: float,
) -> list[Moments]:
    """Compute the moments of each group by workers.

    Args:
        features: A stored set.
        codes: The group of each image.
        num_groups: Number of groups.
        open_pool: Starts workers for a work, at most a number of them.
        worker_timeout_s: See `run_tasks`.
    """
    table, keys = features.table, features.keys
    work = MomentsWork(table=table.folder, identity=table.identity, dim=table.dim)
    groups = [Moments(table.dim) for _ in range(num_groups)]

    def note(task: Task, result: Any) -> None:
        groups[task.number] = result

    rows = ((group, np.flatnonzero(codes == group)) for group in range(num_groups))
    tasks = (Task(group, list(keys[own]), len(own)) for group, own in rows if len(own))
    run_tasks(
        open_pool(work, num_groups),
        tasks,
        on_done=note,
        worker_timeout_s=worker_timeout_s,
    )
    return groups
