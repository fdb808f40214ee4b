"""Scores by category: each metric that is a mean over images, for the images of one category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evalkit.core.errors import NotEnoughImagesError
from evalkit.core.results import ResultRecord
from evalkit.features.sources import ImageItem
from evalkit.metrics.score import PreparedSet
from evalkit.metrics.task import Metric, Task


def categories_of(items: Sequence[ImageItem]) -> dict[str, list[int]]:
    """Return the indices of the images of each category; none unless there are two or more.

    >>> from pathlib import Path
    >>> names = ("colours", "counts", "colours")
    >>> categories_of([ImageItem(Path("a.png"), category=name) for name in names])
    {'colours': [0, 2], 'counts': [1]}
    """
    found: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        if item.category:
            found.setdefault(item.category, []).append(index)
    return found if len(found) > 1 else {}


def category_records(prepared: PreparedSet) -> list[ResultRecord]:
    """Compute the records of each category, for the metrics that have parts.

    The same images and distractors count as for the whole set, so the value of a metric is the mean
    of its categories' values weighted by their images.

    Args:
        prepared: A set whose images have categories.

    Returns:
        Records like the whole set's, with the category in details and fingerprint; none for a
        metric that does not apply to the set.
    """
    found = []
    for name, metric in prepared.metrics.items():
        task = prepared.tasks.get(name)
        if task is not None and metric.part is not None:
            found += _of_task(metric, task)
    return found


def _of_task(metric: Metric, task: Task) -> list[ResultRecord]:
    assert metric.part is not None
    if not all(need in task.captions for need in task.needs if need.prefix is not None):
        return []
    found = []
    for category, places in categories_of(task.items).items():
        if not any(task.items[place].captions for place in places):
            continue
        try:
            record = metric.part(task, places)
        except NotEnoughImagesError:  # the record of the whole set says so
            return []
        found.append(
            replace(
                record,
                details={**record.details, "category": category},
                fingerprint={**record.fingerprint, "category": category},
            )
        )
    return found
