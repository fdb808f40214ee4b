"""FID and other Fréchet distances as records.

Every distance yields two records: the plug-in value, as in the literature, with its standard error;
and `...-infinity` (FD∞), corrected for the bias of finitely many images, with an interval. The
second has both values at parts of the samples in its details, where a report draws their curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.core.errors import NotEnoughImagesError, as_clause
from evalkit.core.results import Interval, ResultRecord
from evalkit.features.store import StoredSet
from evalkit.metrics.arrays import take_rows
from evalkit.metrics.frechet.difference import paired_frechet_difference
from evalkit.metrics.frechet.interval import FrechetInterval, frechet_interval
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.pairing import compared_images, paired_record
from evalkit.metrics.task import (
    INCEPTION,
    Metric,
    Need,
    Task,
    features_need,
    require_inception,
)
from evalkit.options import MeasureOptions

_NO_INTERVAL = "no interval: the plug-in value is biased upward at this n; see {infinity}"


def fid_needs(options: MeasureOptions) -> Sequence[Need]:
    """Return the need for Inception's features, whatever `--features` says."""
    require_inception(options, "fid")
    return [features_need(options)]


def fd_needs(options: MeasureOptions) -> Sequence[Need]:
    """Return the need for the features that the options name."""
    return [features_need(options)]


def frechet_records(task: Task) -> list[ResultRecord]:
    """Return the records of the plug-in distance and of FD∞.

    Raises:
        NotEnoughImagesError: Fewer than two images in a set.
    """
    need, name = task.needs[0], _distance_name(task)
    if _features_or_moments(task) is None:
        return [task.not_applicable(need, _no_statistics(task), metric=name)]
    found = _interval_of(task)
    return [_plug_in(task, need, name, found), _infinity(task, need, name, found)]


def _interval_of(task: Task) -> FrechetInterval:
    """Compute both distances of a task whose reference is known."""
    need, reference = task.needs[0], _features_or_moments(task)
    found = frechet_interval(
        task.fake(need),
        reference,
        fake_ids=task.fake_ids,
        real_ids=None if isinstance(reference, Moments) else task.real_ids,
        level=task.options.level,
        seed=task.options.seed,
        curve=task.curves,
    )
    if not task.is_of_itself:
        return found
    return replace(
        found,
        value=0.0,
        plug_in_error=0.0,
        standard_error=0.0,
        corrected=0.0,
        low=0.0,
        high=0.0,
        reason="the samples are the reference images themselves",
        method="certain: both sets are the same files",
        against_n=(),
    )


def frechet_difference(first: Task, second: Task) -> list[ResultRecord]:
    """Return the difference of FD∞, jackknifed over the captions of both sets."""
    need, metric = first.needs[0], f"{_distance_name(first)}-difference"
    reference = _features_or_moments(first)
    if reference is None:
        return [first.not_applicable(need, _no_statistics(first), metric=metric)]
    chosen, options = compared_images(first, second), first.options
    try:
        found = paired_frechet_difference(
            take_rows(first.fake(need), chosen.first),
            take_rows(second.fake(need), chosen.second),
            reference,
            first_ids=chosen.first_ids,
            second_ids=chosen.second_ids,
            real_ids=None if isinstance(reference, Moments) else chosen.real_ids,
            level=options.level,
            seed=options.seed,
        )
    except NotEnoughImagesError as error:
        return [first.not_applicable(need, as_clause(error), metric=metric)]
    interval = Interval(low=found.low, high=found.high, level=found.level, method=found.method)
    details: dict[str, Any] = {
        "p_value": found.p_value,
        "plug_in_difference": found.plug_in,
        "num_groups": found.num_groups,
        **chosen.details,
    }
    if found.num_left_out:
        details["left_out_reference"] = found.num_left_out
    return [
        paired_record(
            first, second, metric=metric, details=details, interval=interval,
            value=found.value, standard_error=found.standard_error,
        )
    ]  # fmt: skip


def _distance_name(task: Task) -> str:
    """Return the record's name: an fd on Inception features is an FID."""
    of_inception = task.needs[0].extractor == INCEPTION
    return "fid" if of_inception and task.name == "fd" else task.name


def _features_or_moments(task: Task) -> StoredSet | np.ndarray | Moments | None:
    """Return the reference's features, else this layer's moments from a file, else None."""
    need = task.needs[0]
    features = task.real(need)
    return task.real_moments(need) if features is None else features


def _no_statistics(task: Task) -> str:
    return f"the reference file holds no statistics of layer {task.layer(task.needs[0])}"


def _plug_in(task: Task, need: Need, name: str, found: FrechetInterval) -> ResultRecord:
    details: dict[str, Any] = {"n_reference": found.n_reference, "dimensions": found.dim}
    if found.standard_error is None:
        fewest = min(found.n, found.n_reference or found.n)
        details["mark"] = "n <= d" if fewest <= found.dim else "singular covariance"
    if found.influences is not None:
        details["most_influential"] = most_influential(task, found.influences)
        by_category = influence_by_category(task, found.influences)
        if by_category:
            details["influence_by_category"] = by_category
    return task.record(
        need,
        value=found.value,
        metric=name,
        standard_error=found.plug_in_error,
        reason=no_plug_in_interval(name, found),
        details=details,
    )


def no_plug_in_interval(name: str, found: FrechetInterval) -> str:
    """Say why the plug-in distance of this name has no interval."""
    if found.standard_error is None:
        return f"no interval: {found.reason}"
    return _NO_INTERVAL.format(infinity=f"{name}-infinity")


def _infinity(task: Task, need: Need, name: str, found: FrechetInterval) -> ResultRecord:
    metric = f"{name}-infinity"
    if found.corrected is None or found.low is None or found.high is None:
        return task.not_applicable(need, found.reason, metric=metric)
    interval = Interval(low=found.low, high=found.high, level=found.level, method=found.method)
    return task.record(
        need,
        value=found.corrected,
        metric=metric,
        standard_error=found.standard_error,
        interval=interval,
        reason=found.reason,
        details={
            "label": f"{task.label(need)}∞",
            "n_reference": found.n_reference,
            "dimensions": found.dim,
            **({"against_n": [asdict(point) for point in found.against_n]} if task.curves else {}),
            **_left_out(found),
        },
        marks={
            "matched_ids": found.num_matched,
            "jackknife_groups": found.num_groups,
            "group_seed": task.options.seed,
        },
    )


def _left_out(found: FrechetInterval) -> dict[str, int]:
    """Return details on directions and reference images without a part in the value."""
    counts = {
        "without_variance": found.num_projected_out,
        "left_out_reference": found.num_left_out,
    }
    return {name: count for name, count in counts.items() if count}


def most_influential(task: Task, influences: np.ndarray) -> list[dict[str, Any]]:
    """List the samples that raise the distance most, by their index."""
    order = np.argsort(-influences, kind="stable")[: task.options.num_influential]
    return [
        {
            "index": task.samples.kept[i],
            "file": Path(task.items[i].name).name,
            "caption": task.items[i].caption,
            "caption_id": task.items[i].caption_id,
            "category": task.items[i].category,
            "influence": float(influences[i]),
        }
        for i in order
    ]


def influence_by_category(task: Task, influences: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the image count and mean influence of each category, most harmful first.

    The mean over all images is 0. Empty where no image has a category.
    """
    values: dict[str, list[float]] = {}
    for item, influence in zip(task.items, influences, strict=True):
        if item.category is not None:
            values.setdefault(item.category, []).append(float(influence))
    found = {
        category: {"n": len(of_it), "mean_influence": float(np.mean(of_it))}
        for category, of_it in values.items()
    }
    return dict(sorted(found.items(), key=lambda entry: -entry[1]["mean_influence"]))


FID = Metric(fid_needs, frechet_records, frechet_difference, takes_moments=True)
FD = Metric(fd_needs, frechet_records, frechet_difference, takes_moments=True)
