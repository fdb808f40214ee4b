"""Two models on the same captions: paired differences, each with an interval and a p-value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import stdtr

from evalkit.errors import ConfigError, NotEnoughImagesError
from evalkit.features.base import ProgressFactory, silent
from evalkit.features.sources import ImageItem
from evalkit.metrics.clip_score import clip_score, mean_record_interval
from evalkit.metrics.intervals import paired_frechet_difference
from evalkit.metrics.means import mean_interval
from evalkit.metrics.moments import Moments
from evalkit.metrics.score import ReferenceStatistics, prepare_tasks
from evalkit.metrics.task import INCEPTION, ScoreOptions, Task
from evalkit.results import Interval, ResultRecord

FRECHET = ("fid", "fd", "sfid", "fd-dinov2", "clip-fd")
COMPARABLE = (*FRECHET, "clip-score")
"""Metrics of which a paired difference is defined here."""


def compare_sets(
    first: Sequence[ImageItem],
    second: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: ScoreOptions | None = None,
    progress: ProgressFactory = silent,
) -> list[ResultRecord]:
    """How much two models differ, the first less the second.

    Args:
        first: Samples of one model, with the ids of their captions.
        second: Samples of the other.
        reference: Real images, or their statistics.
        metrics: Some of `COMPARABLE`.
        options: How to measure.
        progress: Such as `evalkit.progress.progress_bar`.

    Returns:
        One record `METRIC-difference` for each metric; its details hold the p-value.

    Raises:
        ConfigError: A metric of which no difference is defined.
        DataError: An image or a statistics file that can't be used.
        NotEnoughImagesError: Fewer images than a metric is defined for.
    """
    wrong = [name for name in metrics if name not in COMPARABLE]
    if wrong:
        raise ConfigError(
            f"no paired difference of {wrong[0]!r}; there is one of {', '.join(COMPARABLE)}"
        )
    options = options or ScoreOptions()
    tasks = [
        prepare_tasks(samples, reference, metrics, options, progress) for samples in (first, second)
    ]
    return [
        _clip(tasks[0][name], tasks[1][name])
        if name == "clip-score"
        else _frechet(tasks[0][name], tasks[1][name])
        for name in dict.fromkeys(metrics)
    ]


def _frechet(first: Task, second: Task) -> ResultRecord:
    need = first.needs[0]
    name = "fid" if need.extractor == INCEPTION and first.name == "fd" else first.name
    metric = f"{name}-difference"
    features = first.real(need)
    reference = first.real_moments(need) if features is None else features
    if reference is None:
        reason = f"the reference file holds no statistics of layer {first.layer(need)}"
        return first.not_applicable(need, "lower", reason, metric=metric)
    try:
        found = paired_frechet_difference(
            first.fake(need),
            second.fake(need),
            reference,
            first_ids=first.fake_ids,
            second_ids=second.fake_ids,
            real_ids=None if isinstance(reference, Moments) else first.real_ids,
            level=first.options.level,
            splits=first.options.splits,
            seed=first.options.seed,
        )
    except NotEnoughImagesError as error:
        return first.not_applicable(need, "lower", str(error), metric=metric)
    interval = Interval(low=found.low, high=found.high, level=found.level, method=found.method)
    return first.record(
        need,
        value=found.value,
        metric=metric,
        direction="lower",
        standard_error=found.standard_error,
        interval=interval,
        details={"p_value": found.p_value, "plug_in_difference": found.plug_in},
        marks=_both_marks(first, second),
    )


def _clip(first: Task, second: Task) -> ResultRecord:
    """Mean difference over the captions that both models have images of."""
    need, metric = first.needs[0], "clip-score-difference"
    scores = [_by_caption(task) for task in (first, second)]
    shared = sorted(scores[0].keys() & scores[1].keys())
    if not shared:
        reason = "the two sets share no caption ids"
        return first.not_applicable(need, "higher", reason, metric=metric)
    found = mean_interval(
        np.array([scores[0][name] - scores[1][name] for name in shared]),
        level=first.options.level,
    )
    p_value = None
    if found.standard_error:
        ratio = abs(found.value) / found.standard_error
        p_value = float(2 * stdtr(found.num_draws - 1, -ratio))
    record = first.record(
        need,
        value=found.value,
        metric=metric,
        direction="higher",
        standard_error=found.standard_error,
        interval=mean_record_interval(found),
        reason="" if found.low is not None else found.method,
        details={"p_value": p_value},
        marks=_both_marks(first, second),
    )
    return replace(record, n=len(shared))


def _by_caption(task: Task) -> Mapping[str, float]:
    """Mean score of each caption's images."""
    need = task.needs[0]
    captions = task.captions.get(need)
    if captions is None or any(item.caption_id is None for item in task.items):
        return {}
    pairs = clip_score(task.fake(need), captions, variant=task.options.clip_variant).pairs
    sums: dict[str, list[float]] = {}
    for item, value in zip(task.items, pairs, strict=True):
        sums.setdefault(str(item.caption_id), []).append(float(value))
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _both_marks(first: Task, second: Task) -> dict[str, object]:
    del first
    need = second.needs[0]
    return {"second_samples_sha256": second.fingerprint(need)["samples_sha256"]}
