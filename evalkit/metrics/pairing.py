"""Paired differences: two sets of samples of the same captions, the first minus the second.

The shared part of the metrics' `difference` functions. A score of single images is compared caption
by caption (`mean_difference`, `share_difference`), a kernel distance by the influence of each image
(`kernel_difference`); any other metric builds its record with `paired_record`. Which images are
compared, and which of them are one draw, `compared_images` says for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import ndtr, stdtr

from evalkit.catalog import DIFFERENCE_SUFFIX
from evalkit.core.errors import NotEnoughImagesError, as_clause
from evalkit.core.intervals import normal_interval
from evalkit.core.results import Interval, ResultRecord
from evalkit.features.sources import ImageItem
from evalkit.metrics.arrays import as_features
from evalkit.metrics.clusters import Clusters, clustered_variance
from evalkit.metrics.deletions import NO_SPREAD, DeletionDifference
from evalkit.metrics.draws import joined_draws, ties_of_items
from evalkit.metrics.means import mean_interval
from evalkit.metrics.mmd import KernelMeans, SameFiles
from evalkit.metrics.paired_rates import paired_share_difference
from evalkit.metrics.task import Need, Task

NOTHING_SHARED = "the two sets share no caption ids"
Scores = Callable[[Task], Float64[np.ndarray, " n"]]
"""The score of each of a task's samples; of each of its captions, if the metric needs captions."""
Means = Callable[
    [Float64[np.ndarray, "n d"], Float64[np.ndarray, "m d"], SameFiles | None], KernelMeans
]
"""Mean kernel values of samples and reference, without pairs of copies."""


@dataclass(frozen=True, kw_only=True)
class ComparedImages:
    """The images of two sets that a difference compares, with the draw of each."""

    first: Int64[np.ndarray, " n"]
    """Places of the first set's images."""
    second: Int64[np.ndarray, " m"]
    first_ids: list[str]
    """The draw of each of these."""
    second_ids: list[str]
    real_ids: list[str] | None
    """The draw of each reference image; None if the reference's images are unknown."""
    num_captions: int
    """Number of captions that both sets have."""
    why: str
    """Why not all images are compared; empty if all are."""

    @property
    def details(self) -> dict[str, Any]:
        """What a record says about it."""
        shared = len(set(self.first_ids) & set(self.second_ids))
        found: dict[str, Any] = {"shared_ids": shared, "shared_captions": self.num_captions}
        if self.why:
            found["compared_on"] = self.why
        return found


def compared_images(first: Task, second: Task, *, equally_many: bool = False) -> ComparedImages:
    """Choose the images that a difference compares: those of shared captions.

    Sets that share fewer than half of the smaller one's captions are compared on all images, since
    the few captions would say less; their common draws are paired nevertheless.

    Args:
        first: A task of one set.
        second: The same metric's task of the other set.
        equally_many: Whether the score depends on the number of images, so that it takes as many
            of both: of each caption, else at random.
    """
    draws = pair_draws(first, second)
    rows = [_rows_by_caption(task.items) for task in (first, second)]
    shared = sorted(rows[0].keys() & rows[1].keys())
    paired = len(shared) > 0 and 2 * len(shared) >= min(len(one) for one in rows)
    if paired:
        kept = [[one[name] for name in shared] for one in rows]
        if equally_many:
            fewest = [min(len(a), len(b)) for a, b in zip(*kept, strict=True)]
            kept = [[of[:k] for of, k in zip(one, fewest, strict=True)] for one in kept]
        # In the order of the set, on which the splits of a score may depend.
        chosen = [np.array(sorted(i for of in one for i in of), np.int64) for one in kept]
    else:
        chosen = [np.arange(len(task.items)) for task in (first, second)]
        if equally_many:
            count = min(len(one) for one in chosen)
            rng = np.random.default_rng(first.options.seed)
            chosen = [
                one if len(one) == count else np.sort(rng.permutation(one)[:count])
                for one in chosen
            ]
    return ComparedImages(
        first=chosen[0],
        second=chosen[1],
        first_ids=[draws.first[i] for i in chosen[0]],
        second_ids=[draws.second[i] for i in chosen[1]],
        real_ids=draws.real,
        num_captions=len(shared),
        why=_why(first, second, [len(one) for one in chosen], len(shared) if paired else 0),
    )


def _why(first: Task, second: Task, counts: Sequence[int], num_captions: int) -> str:
    if list(counts) == [len(first.items), len(second.items)]:
        return ""
    images = f"{counts[0]:,} of {len(first.items):,} and {counts[1]:,} of {len(second.items):,}"
    if num_captions:
        return f"compared on the {num_captions:,} captions that both models have ({images} images)"
    return f"compared on as many images of both ({images}), since it depends on their number"


def _scored_items(task: Task) -> list[ImageItem]:
    """Return the sample behind each score; of a metric of captions, once for each caption."""
    if any(need.prefix is not None for need in task.needs):
        return [task.items[i] for i in task.captioned]
    return list(task.items)


def _rows_by_caption(items: Sequence[ImageItem]) -> dict[str, list[int]]:
    """Return the places of each caption's images; empty unless all images have caption ids."""
    found: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        if item.caption_id is None:
            return {}
        found.setdefault(item.caption_id, []).append(place)
    return found


@dataclass(frozen=True, kw_only=True)
class _ByCaption:
    """The mean scores of two sets on the captions that both have."""

    first: Float64[np.ndarray, " captions"]
    second: Float64[np.ndarray, " captions"]
    ids: list[str]
    """The draw of each caption."""
    why: str
    """How they differ from the means over all images; empty if they don't."""

    @classmethod
    def of(cls, first: Task, second: Task, scores: Scores) -> _ByCaption | None:
        """Compute them; None if the sets share no caption, or lack captions."""
        lacking = any(
            need.prefix is not None and need not in task.captions
            for task in (first, second)
            for need in task.needs
        )
        items = [_scored_items(task) for task in (first, second)]
        rows = [_rows_by_caption(one) for one in items]
        shared = sorted(rows[0].keys() & rows[1].keys())
        if lacking or not shared:
            return None
        draws, _ = joined_draws(*map(ties_of_items, items))
        values = [scores(task) for task in (first, second)]
        means = [
            np.array([of[one[name]].mean() for name in shared])
            for of, one in zip(values, rows, strict=True)
        ]
        return cls(
            first=means[0],
            second=means[1],
            ids=[draws[rows[0][name][0]] for name in shared],
            why=why_by_caption(rows, len(shared)),
        )


def why_by_caption(rows: Sequence[Mapping[str, Sequence[int]]], num_shared: int) -> str:
    """Say how a comparison by caption differs from the means over all images, if it does.

    Args:
        rows: The places of each caption's images, of both sets.
        num_shared: Number of captions that both have.
    """
    sizes = [len(one) for one in rows]
    if sizes != [num_shared, num_shared]:
        return (
            f"compared on the {num_shared:,} captions that both models have, "
            f"of {sizes[0]:,} and {sizes[1]:,}"
        )
    uneven = any(len({len(places) for places in one.values()}) > 1 for one in rows)
    return "each caption counts once, whatever its number of images" if uneven else ""


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
    pairs = _ByCaption.of(first, second, scores)
    if pairs is None:
        return first.not_applicable(need, NOTHING_SHARED, metric=metric)
    found = mean_interval(pairs.first - pairs.second, ids=pairs.ids, level=first.options.level)
    p_value = None
    if found.standard_error is not None:
        p_value = _t_test(found.value, found.standard_error, found.num_draws - 1)
    record = paired_record(
        first,
        second,
        metric=metric,
        value=found.value,
        standard_error=found.standard_error,
        interval=found.interval,
        reason="" if found.low is not None else found.method,
        details={
            "p_value": p_value, "num_draws": found.num_draws, **_compared_on(pairs.why),
        },
    )  # fmt: skip
    return replace(record, n=len(pairs.ids))


def share_difference(first: Task, second: Task, hits: Scores) -> ResultRecord:
    """Compute the difference of two shares of images over the captions that both sets share.

    Args:
        first: A task of one set; the record is named after its metric.
        second: The same metric's task of the other set.
        hits: Computes of each image whether it counts, 0 or 1.
    """
    need, metric = _need(first), f"{first.name}{DIFFERENCE_SUFFIX}"
    try:
        pairs = _ByCaption.of(first, second, hits)
    except NotEnoughImagesError as error:
        return first.not_applicable(need, as_clause(error), metric=metric)
    if pairs is None:
        return first.not_applicable(need, NOTHING_SHARED, metric=metric)
    found = paired_share_difference(
        pairs.first, pairs.second, ids=pairs.ids, level=first.options.level
    )
    record = paired_record(
        first,
        second,
        metric=metric,
        value=found.value,
        interval=Interval(low=found.low, high=found.high, level=found.level, method=found.method),
        details={"p_value": found.p_value, **_compared_on(pairs.why)},
    )
    return replace(record, n=len(pairs.ids))


def _compared_on(why: str) -> dict[str, str]:
    return {"compared_on": why} if why else {}


def _t_test(value: float, error: float, degrees: float | None) -> float:
    """Return the two-sided p-value; degrees None: of a normal test."""
    if error == 0:
        return 1.0 if value == 0 else 0.0
    ratio = abs(value) / error
    return float(2 * (ndtr(-ratio) if degrees is None else stdtr(degrees, -ratio)))


def kernel_difference(
    first: Task, second: Task, metric: str, means: Means, scale: float
) -> ResultRecord:
    """Compute the difference of two U-statistics; influences are summed within draws.

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
    copied = first.nothing_but_copies or second.nothing_but_copies
    if copied:
        return first.not_applicable(need, copied, metric=metric)
    chosen = compared_images(first, second)
    found = [
        means(
            as_features(task.fake(need)[rows], name="samples", minimum=2),
            reference,
            SameFiles.of([task.samples.sha256s[i] for i in rows], task.reference_sha256s),
        )
        for task, rows in ((first, chosen.first), (second, chosen.second))
    ]
    (fake_1, real_1), (fake_2, real_2) = (kernel.influences() for kernel in found)
    clusters = Clusters.of(
        len(fake_1) + len(fake_2),
        len(real_1),
        [*chosen.first_ids, *chosen.second_ids],
        chosen.real_ids,
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
        details={"p_value": _t_test(value, error, None), **chosen.details},
    )


def deletion_record(
    first: Task,
    second: Task,
    *,
    metric: str,
    found: DeletionDifference,
    chosen: ComparedImages,
    details: Mapping[str, Any] | None = None,
) -> ResultRecord:
    """Build the record of a difference by jackknife.

    Args:
        first: A task of one set.
        second: The same metric's task of the other set.
        metric: Name of the record.
        found: The difference.
        chosen: The images that it compares.
        details: Further figures.
    """
    interval = None
    if found.low is not None and found.high is not None:
        interval = Interval(
            low=found.low,
            high=found.high,
            level=first.options.level,
            method=f"t interval, delete-a-group jackknife over {found.num_groups} groups that "
            "leave both models and the reference",
        )
    record = paired_record(
        first,
        second,
        metric=metric,
        value=found.value,
        standard_error=found.standard_error,
        interval=interval,
        reason="" if interval else NO_SPREAD,
        details={
            "p_value": found.p_value, "num_groups": found.num_groups,
            **chosen.details, **(details or {}),
        },
    )  # fmt: skip
    return replace(record, n=len(chosen.first))


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
    return first.record(
        _need(first),
        value=value,
        metric=metric,
        interval=interval,
        standard_error=standard_error,
        reason=reason,
        details={"shared_ids": pair_draws(first, second).num_shared, **details},
        marks={"second_samples_sha256": second.fingerprint(_need(second))["samples_sha256"]},
    )


@dataclass(frozen=True, kw_only=True)
class PairDraws:
    """The draw of each image of two sets of samples and of their reference."""

    first: list[str]
    second: list[str]
    real: list[str] | None
    """None if the reference's images are unknown."""

    @property
    def num_shared(self) -> int:
        """Number of draws that both sets of samples have."""
        return len(set(self.first) & set(self.second))


def pair_draws(first: Task, second: Task) -> PairDraws:
    """Name the draws of all images behind a difference, joined by ids and hashes of all sets."""
    found = joined_draws(first.sample_ties, second.sample_ties, first.reference_ties)
    return PairDraws(
        first=found[0], second=found[1], real=found[2] if first.reference.items else None
    )


def _need(task: Task) -> Need | None:
    return task.needs[0] if task.needs else None
