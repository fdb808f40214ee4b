"""Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

Each set's manifold is the union of balls around its images, with the distance to the k-th nearest
neighbour as the radius. As in the papers' code, an image on the boundary of a ball is inside for
precision and recall, and outside for density and coverage; without duplicates this has no effect.

The intervals are a delete-a-group jackknife: whole groups of ids are removed from both sets, and
radii and counts are computed again, all in one pass over the distances. Because neighbourhoods
overlap, its standard errors are 1.2 to 1.9 times the spread of repeated draws. Where no deletion
moves a share from 0 or 1, the interval still has a width (`evalkit.metrics.shares`). Sets that meet
only at their edges, in few dimensions, are an exception: a single outlier with a wide ball decides
precision and recall, and intervals without it in the sample are too narrow
(`python -m benchmarks.metrics.coverage_shares`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evalkit.core.errors import ConfigError, NotEnoughImagesError, as_clause
from evalkit.core.intervals import check_level
from evalkit.core.progress import advance
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.deletions import DeletionDifference
from evalkit.metrics.frechet.jackknife import group_codes
from evalkit.metrics.pairing import ComparedImages, compared_images, deletion_record
from evalkit.metrics.shares import Sampled, density_interval, share_interval
from evalkit.metrics.task import Metric, Need, Task, features_need
from evalkit.options import MeasureOptions

NAMES = ("precision", "recall", "density", "coverage")
NO_INTERVAL = "no interval: too few images to leave a group out"
_GROUPS = 20
_BLOCK_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class ManifoldScore:
    """One of the four scores, with its jackknife interval."""

    value: float
    """Share of images, in [0, 1]; density may exceed 1. Higher is better."""
    standard_error: float | None
    low: float | None
    high: float | None
    name: str
    """One of `NAMES`."""
    level: float
    """Nominal coverage of the interval."""

    @property
    def interval(self) -> Interval | None:
        """The interval for a record; None: too few images to leave a group out."""
        if self.low is None or self.high is None:
            return None
        form = "score interval" if self.name == "density" else "Wilson interval"
        method = f"{form}, delete-a-group jackknife, at most {_GROUPS} groups of both sets"
        return Interval(low=self.low, high=self.high, level=self.level, method=method)


def prdc(
    fake: Any,
    real: Any,
    *,
    k: int = 5,
    fake_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Mapping[str, ManifoldScore]:
    """Compute precision, recall, density and coverage of two sets of features.

    Args:
        fake: Samples, images x dimensions.
        real: Reference images.
        k: The neighbour that sets the radius of a ball: 3 in the first paper, 5 in the second.
        fake_ids: One id per sample; images with the same id are deleted together.
        real_ids: One id per reference image.
        level: Nominal coverage of the intervals.
        seed: Seed of the jackknife's groups.

    Returns:
        The scores by `NAMES`.

    Raises:
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: No more than k images in a set.
        ConfigError: k is below 1, or the level outside (0, 1).

    >>> found = prdc([[0.0], [1.0]], [[0.0], [2.0]], k=1)
    >>> {name: score.value for name, score in found.items()}
    {'precision': 1.0, 'recall': 1.0, 'density': 1.5, 'coverage': 1.0}
    """
    check_level(level)
    if k < 1:
        raise ConfigError(f"k must be at least 1 neighbour, got {k}.")
    x = as_features(fake, name="samples", minimum=k + 1)
    y = as_features(real, name="reference", minimum=k + 1)
    refuse_mismatch(x.shape[1], y.shape[1])
    clusters = Clusters.of(len(x), len(y), fake_ids, real_ids)
    groups = _jackknife_groups(clusters, k, seed)
    counted = _count(x, y, k, groups)
    of_fake, of_real = (
        Sampled(units=len(codes), draws=len(np.unique(codes)), degrees=max(groups.num - 1, 1))
        for codes in (clusters.fake, clusters.real)
    )
    return {
        name: _with_interval(
            name,
            counted[name],
            of_fake if name in ("precision", "density") else of_real,
            level,
        )
        for name in NAMES
    }


@dataclass(frozen=True)
class _Groups:
    """The group of each image; deletion 0 removes none, deletion g + 1 removes group g."""

    fake: Int64[np.ndarray, " n"]
    real: Int64[np.ndarray, " m"]
    num: int

    @property
    def deletions(self) -> range:
        return range(self.num + 1)


def _jackknife_groups(clusters: Clusters, k: int, seed: int) -> _Groups:
    num = min(_GROUPS, clusters.num)
    codes = clusters.groups(num, np.random.default_rng(seed))
    fake, real = codes[clusters.fake], codes[clusters.real]
    left = min(_fewest_left(fake, num), _fewest_left(real, num))
    return _Groups(fake, real, num if num > 1 and left > k else 0)


def _fewest_left(codes: np.ndarray, num: int) -> int:
    return len(codes) - int(np.bincount(codes, minlength=num).max())


def _count(x: np.ndarray, y: np.ndarray, k: int, groups: _Groups) -> dict[str, np.ndarray]:
    """Compute each score for every deletion, in one pass over the distances."""
    radii_x = _radii(x, k, groups.fake, groups.num)  # (deletions, n)
    radii_y = _radii(y, k, groups.real, groups.num)
    n, m, num = len(x), len(y), groups.num + 1
    precision, density = np.zeros(num), np.zeros(num)
    recalled = np.zeros((num, m), bool)
    nearest = np.full((groups.num or 1, m), np.inf)
    for start in range(0, n, _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, n))
        squared = _squared_distances(x[rows], y)
        codes = groups.fake[rows]
        for deletion in groups.deletions:
            kept = codes != deletion - 1
            inside = squared <= radii_y[deletion]
            precision[deletion] += inside.any(axis=1)[kept].sum()
            density[deletion] += (squared < radii_y[deletion]).sum(axis=1)[kept].sum()
            recalled[deletion] |= (squared <= radii_x[deletion, rows, None]).any(axis=0)
        advance(rows.stop, n)
        for group in range(len(nearest)):
            members = squared[codes == group] if groups.num else squared
            if len(members):
                np.minimum(nearest[group], members.min(axis=0), out=nearest[group])
    return _shares(precision, density, recalled, nearest, radii_y, k, groups)


def _shares(
    precision: np.ndarray,
    density: np.ndarray,
    recalled: np.ndarray,
    nearest: np.ndarray,
    radii_y: np.ndarray,
    k: int,
    groups: _Groups,
) -> dict[str, np.ndarray]:
    found = {name: np.empty(groups.num + 1) for name in NAMES}
    for deletion in groups.deletions:
        fake_kept = float((groups.fake != deletion - 1).sum())
        real_kept = groups.real != deletion - 1
        others = np.arange(len(nearest)) != deletion - 1
        covered = nearest[others].min(axis=0) < radii_y[deletion]
        found["precision"][deletion] = precision[deletion] / fake_kept
        found["density"][deletion] = density[deletion] / fake_kept / k
        found["recall"][deletion] = recalled[deletion][real_kept].mean()
        found["coverage"][deletion] = covered[real_kept].mean()
    return found


def _radii(rows: np.ndarray, k: int, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """Compute squared k-th neighbour distances for every deletion; -1 for a deleted image."""
    # Enough neighbours that k remain whichever group is deleted, except in extreme draws.
    num_near = min(len(rows) - 1, 4 * k + 16 if num_groups else k)
    radii = np.empty((num_groups + 1, len(rows)))
    for start in range(0, len(rows), _BLOCK_ROWS):
        squared = _squared_distances(rows[start : start + _BLOCK_ROWS], rows)
        stop = start + len(squared)
        squared[np.arange(len(squared)), np.arange(start, stop)] = -1.0  # itself comes first
        near = np.argpartition(squared, num_near, axis=1)[:, : num_near + 1]
        distances = np.take_along_axis(squared, near, axis=1)
        order = np.argsort(distances, axis=1)[:, 1:]  # without itself
        distances = np.take_along_axis(distances, order, axis=1)
        owners = codes[np.take_along_axis(near, order, axis=1)]
        for deletion in range(num_groups + 1):
            radii[deletion, start:stop] = _kth_left(distances, owners != deletion - 1, k)
            radii[deletion, start:stop][codes[start:stop] == deletion - 1] = -1.0
        advance(stop, len(rows))
    return radii


def _kth_left(distances: np.ndarray, left: np.ndarray, k: int) -> np.ndarray:
    """Return the k-th remaining distance of each row, or the last if fewer remain."""
    position = (np.cumsum(left, axis=1) < k).sum(axis=1)
    last = distances.shape[1] - 1
    kth: np.ndarray = distances[np.arange(len(distances)), np.minimum(position, last)]
    return kth


def _squared_distances(
    x: Float64[np.ndarray, "a d"], y: Float64[np.ndarray, "b d"]
) -> Float64[np.ndarray, "a b"]:
    squared = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * (x @ y.T)
    clipped: np.ndarray = squared.clip(min=0)
    return clipped


def _with_interval(name: str, values: np.ndarray, sampled: Sampled, level: float) -> ManifoldScore:
    """Add the jackknife's standard error, and the interval that it gives."""
    value = float(values[0])
    if len(values) < 3:
        return ManifoldScore(
            value=value, standard_error=None, low=None, high=None, name=name, level=level
        )
    deleted, num = values[1:], len(values) - 1
    spread = np.square(deleted - deleted.mean()).sum()
    error = float(np.sqrt((num - 1) / num * spread))
    interval = density_interval if name == "density" else share_interval
    low, high = interval(value, error, sampled, level=level)
    return ManifoldScore(
        value=value, standard_error=error, low=low, high=high, name=name, level=level
    )


def _needs(options: MeasureOptions) -> Sequence[Need]:
    return [features_need(options)]


def _records(task: Task) -> list[ResultRecord]:
    need = task.needs[0]
    real = task.real(need)
    if real is None:
        reason = "needs the reference's features; the file holds only mean and covariance"
        return [task.not_applicable(need, f"{name} {reason}", name) for name in NAMES]
    records = []
    for k in task.options.neighbours:
        try:
            found = prdc(
                task.fake(need),
                real,
                k=k,
                fake_ids=task.fake_ids,
                real_ids=task.real_ids,
                level=task.options.level,
                seed=task.options.seed,
            )
        except NotEnoughImagesError as error:
            if k == min(task.options.neighbours):
                raise
            records += [
                task.not_applicable(need, as_clause(error), f"{name}-k{k}") for name in NAMES
            ]
            continue
        records += [_record(task, need, name, k, found[name]) for name in NAMES]
    return records


def _record(task: Task, need: Need, name: str, k: int, found: ManifoldScore) -> ResultRecord:
    return task.record(
        need,
        value=found.value,
        metric=f"{name}-k{k}",
        standard_error=found.standard_error,
        interval=found.interval,
        reason="" if found.interval else NO_INTERVAL,
        details={"label": f"{name.capitalize()} (k = {k})"},
        marks={"neighbours": k},
    )


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    need, options = first.needs[0], first.options
    real = first.real(need)
    if real is None:
        reason = "the reference's features are needed; the file holds only mean and covariance"
        return [first.not_applicable(need, reason, f"{name}-difference") for name in NAMES]
    chosen = compared_images(first, second, equally_many=True)
    sets = [
        np.asarray(first.fake(need))[chosen.first],
        np.asarray(second.fake(need))[chosen.second],
    ]
    y = as_features(real, name="reference")
    count = len(chosen.first)
    clusters = Clusters.of(
        2 * count, len(y), [*chosen.first_ids, *chosen.second_ids], chosen.real_ids
    )
    codes, real_codes, num = group_codes(clusters, num_groups=_GROUPS, seed=options.seed)
    groups = [_Groups(of_set, real_codes, num) for of_set in (codes[:count], codes[count:])]
    records = []
    for k in options.neighbours:
        left = [_fewest_left(of, num) for of in (codes[:count], codes[count:], real_codes)]
        if num < 2 or min(left) <= k:
            reason = f"{min(left)} images are left without a group of them, but k = {k} needs more"
            records += [
                first.not_applicable(need, reason, f"{name}-k{k}-difference") for name in NAMES
            ]
            continue
        counted = [
            _count(as_features(x, name="samples"), y, k, of_set)
            for x, of_set in zip(sets, groups, strict=True)
        ]
        records += [_difference_record(first, second, (name, k), counted, chosen) for name in NAMES]
    return records


def _difference_record(
    first: Task,
    second: Task,
    score: tuple[str, int],
    counted: Sequence[Mapping[str, np.ndarray]],
    chosen: ComparedImages,
) -> ResultRecord:
    (name, k), of_samples = score, score[0] in ("precision", "density")
    draws = min(len(set(ids)) for ids in (chosen.first_ids, chosen.second_ids))
    if not of_samples and chosen.real_ids is not None:
        draws = len(set(chosen.real_ids))
    found = DeletionDifference.of(
        counted[0][name], counted[1][name], level=first.options.level, draws=draws
    )
    record = deletion_record(
        first,
        second,
        metric=f"{name}-k{k}-difference",
        found=found,
        chosen=chosen,
        details={"label": f"{name.capitalize()} (k = {k})"},
    )
    return replace(record, fingerprint={**record.fingerprint, "neighbours": k})


PRDC = Metric(_needs, _records, _difference)
