"""Two models on the same captions: paired differences, each with an interval and a p-value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtr

from evalkit.core.errors import ConfigError, NotEnoughImagesError
from evalkit.core.intervals import normal_interval
from evalkit.core.results import Direction, Interval, ResultRecord
from evalkit.features.base import ProgressFactory, silent
from evalkit.features.sources import ImageItem
from evalkit.metrics.arrays import as_features
from evalkit.metrics.clip_score import mean_record_interval, pair_scores
from evalkit.metrics.clusters import Clusters, clustered_variance
from evalkit.metrics.cmmd import SCALE, cmmd_means
from evalkit.metrics.intervals import paired_frechet_difference
from evalkit.metrics.kid import kid_means
from evalkit.metrics.means import mean_interval
from evalkit.metrics.mmd import KernelMeans
from evalkit.metrics.moments import Moments
from evalkit.metrics.r_precision import r_precision_of
from evalkit.metrics.score import Measured, Measurer, ReferenceStatistics
from evalkit.metrics.task import INCEPTION, Task
from evalkit.options import MeasureOptions

FRECHET = ("fid", "fd", "sfid", "fd-dinov2", "clip-fd")
KERNEL = ("kid", "cmmd")
COMPARABLE = (*FRECHET, *KERNEL, "clip-score", "r-precision")
"""Metrics of which a paired difference is defined here."""


def compare_sets(
    first: Sequence[ImageItem],
    second: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: MeasureOptions | None = None,
    progress: ProgressFactory = silent,
) -> list[ResultRecord]:
    """How much two models differ, the first less the second.

    Args:
        first: Samples of one model, with the ids of their captions.
        second: Samples of the other.
        reference: Real images, or their statistics.
        metrics: Some of `COMPARABLE`.
        options: How to measure.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Returns:
        One record `METRIC-difference` for each metric; its details hold the p-value.

    Raises:
        ConfigError: A metric of which no difference is defined.
        DataError: An image or a statistics file that can't be used.
        NotEnoughImagesError: Fewer images than a metric is defined for.
        MissingWeightsError: A metric's weights are neither cached nor reachable.
    """
    wrong = [name for name in metrics if name not in COMPARABLE]
    if wrong:
        raise ConfigError(
            f"no paired difference of {wrong[0]!r}; there is one of {', '.join(COMPARABLE)}"
        )
    measurer = Measurer.of(reference, metrics, options, progress)
    for name in metrics:
        missing = measurer.why_missing(name)
        if missing is not None:
            raise missing
    return paired_differences(measurer.measure(first), measurer.measure(second))


def paired_differences(first: Measured, second: Measured) -> list[ResultRecord]:
    """One record for each metric of which both sets have features and a difference is defined."""
    return [
        _ways()[name](task, second.tasks[name])
        for name, task in first.tasks.items()
        if name in COMPARABLE and name in second.tasks
    ]


def _ways() -> Mapping[str, Callable[[Task, Task], ResultRecord]]:
    return {
        **dict.fromkeys(FRECHET, _frechet),
        "kid": _kid,
        "cmmd": _cmmd,
        "clip-score": _clip,
        "r-precision": _r_precision,
    }


def _frechet(first: Task, second: Task) -> ResultRecord:
    need = first.needs[0]
    name = "fid" if need.extractor == INCEPTION and first.name == "fd" else first.name
    metric = f"{name}-difference"
    features = first.real(need)
    reference = first.real_moments(need) if features is None else features
    if reference is None:
        reason = f"the reference file holds no statistics of layer {first.layer(need)}"
        return first.not_applicable(need, "lower", reason, metric=metric)
    first_ids, second_ids = _ids(first, second)
    try:
        found = paired_frechet_difference(
            first.fake(need),
            second.fake(need),
            reference,
            first_ids=first_ids,
            second_ids=second_ids,
            real_ids=None if isinstance(reference, Moments) else first.real_ids,
            level=first.options.level,
            splits=first.options.halvings,
            seed=first.options.seed,
        )
    except NotEnoughImagesError as error:
        return first.not_applicable(need, "lower", str(error), metric=metric)
    interval = Interval(low=found.low, high=found.high, level=found.level, method=found.method)
    return _record(
        first,
        second,
        metric=metric,
        direction="lower",
        value=found.value,
        standard_error=found.standard_error,
        interval=interval,
        details={"p_value": found.p_value, "plug_in_difference": found.plug_in},
    )


def _kid(first: Task, second: Task) -> ResultRecord:
    return _kernel(first, second, "kid-full-difference", kid_means, 1.0)


def _cmmd(first: Task, second: Task) -> ResultRecord:
    return _kernel(first, second, "cmmd-unbiased-difference", cmmd_means, SCALE)


def _kernel(
    first: Task,
    second: Task,
    metric: str,
    means: Callable[[np.ndarray, np.ndarray], KernelMeans],
    scale: float,
) -> ResultRecord:
    """Difference of the U-statistics; their influences are summed within captions."""
    need = first.needs[0]
    real = first.real(need)
    if real is None:
        reason = "the reference's features are needed; the file holds only mean and covariance"
        return first.not_applicable(need, "lower", reason, metric=metric)
    reference = as_features(real, name="reference", minimum=2)
    found = [
        means(as_features(task.fake(need), name="samples", minimum=2), reference)
        for task in (first, second)
    ]
    (fake_1, real_1), (fake_2, real_2) = (kernel.influences() for kernel in found)
    first_ids, second_ids = _ids(first, second)
    clusters = Clusters.of(
        len(fake_1) + len(fake_2), len(real_1), [*first_ids, *second_ids], first.real_ids
    )
    variance = clustered_variance(clusters, np.concatenate([fake_1, -fake_2]), real_1 - real_2)
    value = scale * (found[0].unbiased() - found[1].unbiased())
    error = scale * float(np.sqrt(variance))
    level = first.options.level
    low, high = normal_interval(value, error, level=level)
    method = "normal interval, difference of each image's influence by caption"
    return _record(
        first,
        second,
        metric=metric,
        direction="lower",
        value=value,
        standard_error=error,
        interval=Interval(low=low, high=high, level=level, method=method),
        details={"p_value": float(2 * ndtr(-abs(value) / error)) if error else None},
    )


def _clip(first: Task, second: Task) -> ResultRecord:
    return _mean(first, second, pair_scores)


def _r_precision(first: Task, second: Task) -> ResultRecord:
    return _mean(first, second, lambda task: r_precision_of(task).hits.astype(np.float64))


def _mean(first: Task, second: Task, scores: Callable[[Task], np.ndarray]) -> ResultRecord:
    """Mean difference over the captions that both models have images of."""
    need, metric = first.needs[0], f"{first.name}-difference"
    try:
        by_caption = [_by_caption(task, scores) for task in (first, second)]
    except NotEnoughImagesError as error:
        return first.not_applicable(need, "higher", str(error), metric=metric)
    shared = sorted(by_caption[0].keys() & by_caption[1].keys())
    if not shared:
        reason = "the two sets share no caption ids"
        return first.not_applicable(need, "higher", reason, metric=metric)
    found = mean_interval(
        np.array([by_caption[0][name] - by_caption[1][name] for name in shared]),
        level=first.options.level,
    )
    p_value = None
    if found.standard_error:
        ratio = abs(found.value) / found.standard_error
        p_value = float(2 * stdtr(found.num_draws - 1, -ratio))
    record = _record(
        first,
        second,
        metric=metric,
        direction="higher",
        value=found.value,
        standard_error=found.standard_error,
        interval=mean_record_interval(found),
        reason="" if found.low is not None else found.method,
        details={"p_value": p_value},
    )
    return replace(record, n=len(shared))


def _by_caption(task: Task, scores: Callable[[Task], np.ndarray]) -> Mapping[str, float]:
    """Mean score of each caption's images; empty where a caption or its id is not known."""
    if task.captions.get(task.needs[0]) is None or _has_no_ids(task):
        return {}
    sums: dict[str, list[float]] = {}
    for item, value in zip(task.items, scores(task), strict=True):
        sums.setdefault(str(item.caption_id), []).append(float(value))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _has_no_ids(task: Task) -> bool:
    return any(item.caption_id is None for item in task.items)


def _ids(first: Task, second: Task) -> tuple[list[str], list[str]]:
    """What each sample shares a draw with; samples of which nothing is known share with none."""
    return (
        first.fake_ids or [f"first {i}" for i in range(len(first.items))],
        second.fake_ids or [f"second {i}" for i in range(len(second.items))],
    )


def _record(
    first: Task, second: Task, *, details: Mapping[str, Any], **fields: Any
) -> ResultRecord:
    ids = _ids(first, second)
    shared = len(set(ids[0]) & set(ids[1]))
    direction: Direction = fields.pop("direction")
    marks = {"second_samples_sha256": second.fingerprint(second.needs[0])["samples_sha256"]}
    return first.record(
        first.needs[0],
        direction=direction,
        details={**details, "shared_ids": shared},
        marks=marks,
        **fields,
    )
