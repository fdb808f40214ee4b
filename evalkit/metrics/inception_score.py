"""Inception Score (Salimans et al. 2016): how confident and diverse the predicted classes are.

It is exp of the mean divergence of p(class | image) from p(class). Splits are shuffled and cut as
in torch-fidelity, on logits without their bias, as in the original TensorFlow graph. It uses no
reference, and ImageNet's classes match few captions; it is here because older papers report it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import log_softmax

from evalkit.core.errors import ConfigError, NotEnoughImagesError, as_clause
from evalkit.core.intervals import NO_FINITE_END, check_level, log_scale_interval
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.arrays import as_features
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.deletions import DeletionDifference
from evalkit.metrics.frechet.jackknife import group_codes
from evalkit.metrics.means import mean_interval
from evalkit.metrics.pairing import compared_images, deletion_record
from evalkit.metrics.task import INCEPTION, Metric, Need, Task, require_inception
from evalkit.options import MeasureOptions

LAYER = "logits_unbiased"


@dataclass(frozen=True, kw_only=True)
class InceptionScore:
    """Inception Score over splits, from 1 to the number of classes; higher is better."""

    value: float
    """Mean over the splits."""
    deviation: float
    """Standard deviation over the splits, which the literature prints after ±."""
    full: float
    """All images as one split."""
    standard_error: float | None
    low: float | None
    """The interval; None for a single draw, or if the upper end is not finite."""
    high: float | None
    level: float
    """Nominal coverage of the interval."""

    @property
    def interval(self) -> Interval | None:
        """The interval for a record; None: `no_interval` says why."""
        if self.low is None or self.high is None:
            return None
        method = "t interval of the mean divergence, exponentiated around the value over splits"
        return Interval(low=self.low, high=self.high, level=self.level, method=method)

    @property
    def no_interval(self) -> str:
        """Why there is no interval; empty if there is one."""
        if self.standard_error is None:
            return "no interval: a single draw has no spread"
        return NO_FINITE_END if self.high is None else ""


def inception_score(
    logits: Any,
    *,
    splits: int = 10,
    seed: int = 2020,
    shuffled: bool = True,
    ids: Sequence[str] | None = None,
    level: float = 0.95,
) -> InceptionScore:
    """Compute the Inception Score from logits, with an interval for the mean over splits.

    The interval multiplies the value by exp(± t standard errors of the mean divergence), whose
    influence is each image's own divergence from the mean distribution.

    Args:
        logits: Images x classes.
        splits: Parts whose scores are averaged.
        seed: Seed of the shuffle before splitting; torch-fidelity's is 2020.
        shuffled: Whether images are shuffled; ADM's evaluator splits them in their order.
        ids: One id per image; images with the same id are one draw.
        level: Nominal coverage.

    Raises:
        DataError: The wrong shape, or values that are not finite.
        NotEnoughImagesError: Fewer images than splits.
        ConfigError: No split, or a level outside (0, 1).

    >>> far = 50.0
    >>> round(inception_score([[far, 0.0], [0.0, far]], splits=1).value, 6)  # two sure classes
    2.0
    """
    check_level(level)
    values = as_features(logits, name="logits")
    if splits < 1:
        raise ConfigError(f"The Inception Score needs at least 1 split, got {splits}.")
    if len(values) < splits:
        raise NotEnoughImagesError(
            f"The Inception Score over {splits} splits needs at least {splits} images, got "
            f"{len(values)}. Add images, or use fewer splits."
        )
    log_p = log_softmax(values, axis=1)
    # torch-fidelity's generator, so that the same seed gives the same splits.
    order = np.arange(len(values))
    if shuffled:
        order = np.random.RandomState(seed).permutation(len(values))
    bounds = [i * len(values) // splits for i in range(splits + 1)]
    scores = [
        float(np.exp(_divergences(log_p[order[a:b]]).mean())) for a, b in itertools.pairwise(bounds)
    ]
    found = mean_interval(_divergences(log_p), ids=ids, level=level)
    value = float(np.mean(scores))
    ends = None
    if found.low is not None and found.high is not None:
        ends = log_scale_interval(value, found.low - found.value, found.high - found.value)
    return InceptionScore(
        value=value,
        deviation=float(np.std(scores)),
        full=float(np.exp(found.value)),
        standard_error=None if found.standard_error is None else value * found.standard_error,
        low=ends and ends[0],
        high=ends and ends[1],
        level=level,
    )


def _divergences(log_p: np.ndarray) -> np.ndarray:
    """Compute the Kullback-Leibler divergence of each row from the mean row, in nats."""
    p = np.exp(log_p)
    mean = p.mean(axis=0)
    # A class with probability 0 adds 0, the limit of p log p.
    log_mean = np.log(np.where(mean > 0, mean, 1.0))
    divergences: np.ndarray = np.where(p > 0, p * (log_p - log_mean), 0.0).sum(axis=1)
    return divergences


def scores_without_groups(
    logits: Any,
    codes: Int64[np.ndarray, " n"],
    num_groups: int,
    *,
    splits: int = 10,
    seed: int = 2020,
) -> Float64[np.ndarray, " deletions"]:
    """Compute the score of all images, and without each group; images stay in their split.

    Args:
        logits: Images x classes.
        codes: The group of each image.
        num_groups: Number of groups.
        splits: Parts whose scores are averaged.
        seed: Seed of the shuffle before splitting.

    Raises:
        DataError: The wrong shape, or values that are not finite.
        NotEnoughImagesError: A split without images, once a group is left out.
    """
    log_p = log_softmax(as_features(logits, name="logits"), axis=1)
    p = np.exp(log_p)
    own = np.where(p > 0, p * log_p, 0.0).sum(axis=1)
    order = np.random.RandomState(seed).permutation(len(p))
    parts = np.empty(len(p), np.int64)
    parts[order] = np.searchsorted(
        [i * len(p) // splits for i in range(1, splits + 1)], np.arange(len(p)), side="right"
    )
    deletions = np.zeros((splits, num_groups + 1))
    for part in range(splits):
        of_part = parts == part
        counts, owns = np.zeros(num_groups), np.zeros(num_groups)
        sums = np.zeros((num_groups, p.shape[1]))
        np.add.at(counts, codes[of_part], 1.0)
        np.add.at(owns, codes[of_part], own[of_part])
        np.add.at(sums, codes[of_part], p[of_part])
        left = np.concatenate([[counts.sum()], counts.sum() - counts])
        if not left.all():
            raise NotEnoughImagesError(
                f"The Inception Score over {splits} splits has a split of only one group of "
                "images, which a jackknife leaves out. Add images, or use fewer --is-splits."
            )
        mean_own = np.concatenate([[owns.sum()], owns.sum() - owns]) / left
        means = np.concatenate([sums.sum(axis=0)[None], sums.sum(axis=0) - sums]) / left[:, None]
        # Rounding leaves up to -1e-17 of a class that only the deleted group has.
        means = means.clip(min=0.0)
        entropies = np.where(means > 0, means * np.log(np.where(means > 0, means, 1.0)), 0.0)
        deletions[part] = np.exp(mean_own - entropies.sum(axis=1))
    found: np.ndarray = deletions.mean(axis=0)
    return found


def _needs(options: MeasureOptions) -> Sequence[Need]:
    require_inception(options, "the Inception Score")
    return [Need(INCEPTION, LAYER, reference=False)]


def _records(task: Task) -> list[ResultRecord]:
    need, options = task.needs[0], task.options
    size = options.is_split_size
    splits = options.is_splits if size is None else max(1, len(task.items) // size)
    found = inception_score(
        task.fake(need),
        splits=splits,
        shuffled=size is None,
        ids=task.fake_ids,
        level=options.level,
    )
    return [
        task.record(
            need,
            value=found.value,
            standard_error=found.standard_error,
            interval=found.interval,
            reason=found.no_interval,
            details={
                "label": "Inception Score",
                "deviation_of_splits": found.deviation,
                "one_split": found.full,
            },
            marks={"splits": splits, **({} if size is None else {"splits_shuffled": False})},
        )
    ]


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    need, options = first.needs[0], first.options
    chosen = compared_images(first, second, equally_many=True)
    count = len(chosen.first)
    clusters = Clusters.of(2 * count, 0, [*chosen.first_ids, *chosen.second_ids])
    codes, _, num_groups = group_codes(clusters, seed=options.seed)
    try:
        if num_groups < 2:
            raise NotEnoughImagesError("All images are one draw. Add images.")
        deletions = [
            scores_without_groups(
                task.fake(need)[rows], of_set, num_groups, splits=options.is_splits
            )
            for task, rows, of_set in (
                (first, chosen.first, codes[:count]),
                (second, chosen.second, codes[count:]),
            )
        ]
    except NotEnoughImagesError as error:
        return [first.not_applicable(need, as_clause(error), metric="is-difference")]
    found = DeletionDifference.of(*deletions, level=options.level)
    return [deletion_record(first, second, metric="is-difference", found=found, chosen=chosen)]


INCEPTION_SCORE = Metric(_needs, _records, _difference)
