"""Paired differences: two sets of samples of the same captions, the first minus the second.

The shared part of the metrics' `difference` functions. A score of single images is compared caption
by caption (`mean_difference`), a kernel distance by the influence of each image
(`kernel_difference`); any other metric builds its record with `paired_record`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr, stdtr

from evalkit.catalog import DIFFERENCE_SUFFIX
from evalkit.core.errors import NotEnoughImagesError, as_clause
from evalkit.core.intervals import normal_interval
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.arrays import as_features
from evalkit.metrics.clusters import Clusters, clustered_variance
from evalkit.metrics.means import mean_interval
from evalkit.metrics.mmd import KernelMeans
from evalkit.metrics.task import Need, Task

Scores = Callable[[Task], Float64[np.ndarray, " n"]]
"""The score of each of a task's samples; of each of its captions, if the metric needs captions."""
Means = Callable[[Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"]], KernelMeans]
"""Mean kernel values of samples and reference."""


def mean_difference(first: Task, second: Task, scores: Scores) -> ResultRecord:
    """Compute the mean difference of a score over the captions that both sets share.

    Args:
        first: A task of one set; the record is named after its metric.
        second: The same metric's task of the other set.
        scores: Computes the scores of a set's images, or of its captions if the metric needs them;
            those of one id are averaged.

    Returns:
        The record, with a t interval over captions and the p-value of a t test.
    """
    need, metric = _need(first), f"{first.name}{DIFFERENCE_SUFFIX}"
    try:
        by_caption = [_by_caption(task, scores) for task in (first, second)]
    except NotEnoughImagesError as error:
        return first.not_applicable(need, as_clause(error), metric=metric)
    shared = sorted(by_caption[0].keys() & by_caption[1].keys())
    if not shared:
        reason = "the two sets share no caption ids"
        return first.not_applicable(need, reason, metric=metric)
    found = mean_interval(
        np.array([by_caption[0][name] - by_caption[1][name] for name in shared]),
        level=first.options.level,
    )
    p_value = None
    if found.standard_error:
        ratio = abs(found.value) / found.standard_error
        p_value = float(2 * stdtr(found.num_draws - 1, -ratio))
    record = paired_record(
        first,
        second,
        metric=metric,
        value=found.value,
        standard_error=found.standard_error,
        interval=found.interval,
        reason="" if found.low is not None else found.method,
        details={"p_value": p_value},
    )
    return replace(record, n=len(shared))


def kernel_difference(
    first: Task, second: Task, metric: str, means: Means, scale: float
) -> ResultRecord:
    """Compute the difference of two U-statistics; influences are summed within captions.

    Args:
        first: A task of one set.
        second: The same metric's task of the other set.
        metric: Name of the record.
        means: Mean kernel values of samples and reference.
        scale: The metric's factor of the squared distance.
    """
    need = first.needs[0]
    real = first.real(need)
    if real is None:
        reason = "the reference's features are needed; the file holds only mean and covariance"
        return first.not_applicable(need, reason, metric=metric)
    reference = as_features(real, name="reference", minimum=2)
    found = [
        means(as_features(task.fake(need), name="samples", minimum=2), reference)
        for task in (first, second)
    ]
    (fake_1, real_1), (fake_2, real_2) = (kernel.influences() for kernel in found)
    first_ids, second_ids = sample_ids(first, second)
    clusters = Clusters.of(
        len(fake_1) + len(fake_2), len(real_1), [*first_ids, *second_ids], first.real_ids
    )
    variance = clustered_variance(clusters, np.concatenate([fake_1, -fake_2]), real_1 - real_2)
    value = scale * (found[0].unbiased() - found[1].unbiased())
    error = scale * float(np.sqrt(variance))
    level = first.options.level
    low, high = normal_interval(value, error, level=level)
    method = "normal interval, difference of each image's influence by caption"
    return paired_record(
        first,
        second,
        metric=metric,
        value=value,
        standard_error=error,
        interval=Interval(low=low, high=high, level=level, method=method),
        details={"p_value": float(2 * ndtr(-abs(value) / error)) if error else None},
    )


def paired_record(
    first: Task,
    second: Task,
    *,
    metric: str,
    value: float,
    interval: Interval | None,
    details: Mapping[str, Any],
    standard_error: float | None = None,
    reason: str = "",
) -> ResultRecord:
    """Build a record of the first set's task that names both sets and counts what they share.

    Args:
        first: A task of one set.
        second: The same metric's task of the other set.
        metric: Name of the record, which ends in `-difference`.
        value: The first minus the second, in the metric's unit.
        interval: Interval of the value; without one, `reason` says why.
        details: Further figures, `p_value` among them.
        standard_error: Standard error of the value.
        reason: Why there is no interval.
    """
    ids = sample_ids(first, second)
    shared = len(set(ids[0]) & set(ids[1]))
    return first.record(
        _need(first),
        value=value,
        metric=metric,
        interval=interval,
        standard_error=standard_error,
        reason=reason,
        details={**details, "shared_ids": shared},
        marks={"second_samples_sha256": second.fingerprint(_need(second))["samples_sha256"]},
    )


def sample_ids(first: Task, second: Task) -> tuple[list[str], list[str]]:
    """Return the ids that group samples into draws; a sample without an id is its own draw."""
    return (
        first.fake_ids or [f"first {i}" for i in range(len(first.items))],
        second.fake_ids or [f"second {i}" for i in range(len(second.items))],
    )


def _by_caption(task: Task, scores: Scores) -> Mapping[str, float]:
    """Compute the mean score of each caption's images; empty without captions or their ids."""
    of_captions = [need for need in task.needs if need.prefix is not None]
    lacking = any(need not in task.captions for need in of_captions)
    items = [task.items[i] for i in task.captioned] if of_captions else task.items
    if lacking or any(item.caption_id is None for item in items):
        return {}
    sums: dict[str, list[float]] = {}
    for item, value in zip(items, scores(task), strict=True):
        sums.setdefault(str(item.caption_id), []).append(float(value))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _need(task: Task) -> Need | None:
    return task.needs[0] if task.needs else None
