"""The difference of two models' Fréchet distances from one reference.

Both corrected distances are jackknifed over the same groups of captions, and the reference's groups
are shared, so whatever both have in common cancels. Each may have its own number of samples.

The jackknife's variance of a difference of such distances is a quarter too large where the second
order counts: it holds the interactions of pairs of images twice. What pairs of groups say of them,
J_jk = g theta - (g - 1) (theta_j + theta_k) + (g - 2) theta_jk, is taken off in part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr

from evalkit.core.errors import NotEnoughImagesError
from evalkit.core.intervals import check_level, t_interval
from evalkit.metrics.arrays import refuse_mismatch
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.corrected import checked_rows
from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.jackknife import (
    NUM_GROUPS,
    GroupedMoments,
    Jackknifed,
    group_codes,
    pseudo_values,
)
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.unbiased import unbiased_distances

_INTERACTIONS = 0.2
"""Share of the mean squared interaction that is taken off the variance."""
_AT_LEAST = 0.4
"""Share of the jackknife's variance that stays at least."""


@dataclass(frozen=True, kw_only=True)
class CorrectedDifference:
    """How much further one model is from the reference than another."""

    value: float
    """Corrected distance of the first less that of the second; below 0 the first is better."""
    standard_error: float
    low: float
    high: float
    level: float
    p_value: float
    """p-value of the two-sided test that both distances are equal."""
    plug_in: float
    """Difference of the plug-in values, which are biased by different amounts at different n."""
    num_shared: int
    """Number of ids that both models have."""
    method: str
    """Method of the interval."""


def corrected_difference(
    first_features: Any,
    second_features: Any,
    real_features: Any,
    *,
    first_ids: Sequence[str] | None = None,
    second_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> CorrectedDifference:
    """Return the difference of two models' corrected distances, with interval and p-value.

    Without ids, row i of the first and row i of the second model are taken to share a caption when
    both have as many rows.

    Args:
        first_features: Samples of the first model, images x dimensions.
        second_features: Samples of the second model, in any number.
        real_features: Reference images, or their `Moments`.
        first_ids: One id for each sample of the first model.
        second_ids: One id for each sample of the second model.
        real_ids: One id for each reference image.
        level: Coverage wanted, in (0, 1).
        seed: Seed of the groups.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Too few images in a set for a corrected distance.

    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(400, 4))
    >>> near, far = rng.normal(size=(200, 4)), rng.normal(1, 1, size=(300, 4))
    >>> corrected_difference(near, far, real).p_value < 0.001
    True
    """
    check_level(level)
    first = checked_rows(first_features, "samples of the first model")
    second = checked_rows(second_features, "samples of the second model")
    refuse_mismatch(first.shape[1], second.shape[1])
    if first_ids is None and second_ids is None and len(first) == len(second):
        first_ids = second_ids = [f"row {i}" for i in range(len(first))]
    known = isinstance(real_features, Moments)
    real = None if known else checked_rows(real_features, "reference")
    names = [
        *(first_ids or [f"first {i}" for i in range(len(first))]),
        *(second_ids or [f"second {i}" for i in range(len(second))]),
    ]
    num_real = 0 if real is None else len(real)
    clusters = Clusters.of(len(names), num_real, names, real_ids if num_real else None)
    fake_codes, real_codes, num = group_codes(clusters, num_groups=NUM_GROUPS, seed=seed)
    n = len(first)
    sets = (
        GroupedMoments.of_features(first, fake_codes[:n], num),
        GroupedMoments.of_features(second, fake_codes[n:], num),
        GroupedMoments(real_features, ())
        if real is None
        else GroupedMoments.of_features(real, real_codes, num),
    )
    num_shared = len(np.intersect1d(clusters.fake[:n], clusters.fake[n:]))
    return difference_of_groups(*sets, level=level, num_shared=num_shared)


def difference_of_groups(
    first: GroupedMoments,
    second: GroupedMoments,
    real: GroupedMoments,
    *,
    level: float = 0.95,
    num_shared: int = 0,
) -> CorrectedDifference:
    """Return the same from moments by jackknife group, which several workers can have made.

    Args:
        first: Samples of the first model; images of one id are in one group, in all three sets.
        second: Samples of the second model.
        real: The reference; without groups, it is not drawn anew.
        level: Coverage wanted, in (0, 1).
        num_shared: Ids that both models have.

    Raises:
        ConfigError: A level outside (0, 1).
        NotEnoughImagesError: Too few images or ids in a set for a corrected distance.
    """
    check_level(level)
    found = [pseudo_values(_corrected, one, real)[:, 0] for one in (first, second)]
    jackknifed = Jackknifed.of(found[0] - found[1])
    variance = _without_interactions(jackknifed, first, second, real, found)
    error = float(np.sqrt(variance))
    freedom = jackknifed.num_groups - 1
    value = jackknifed.value
    low, high = t_interval(value, error, freedom, level=level)
    ratio = abs(value) / error if error > 0 else (0.0 if value == 0 else np.inf)
    return CorrectedDifference(
        value=value,
        standard_error=error,
        low=low,
        high=high,
        level=level,
        p_value=float(2 * stdtr(freedom, -ratio)),
        plug_in=frechet_distance(first.whole, real.whole)
        - frechet_distance(second.whole, real.whole),
        num_shared=num_shared,
        method=f"difference of corrected distances by delete-a-group jackknife over "
        f"{jackknifed.num_groups} groups of ids, t interval",
    )


def _corrected(fake: Moments, real: Moments) -> np.ndarray:
    return np.array([unbiased_distances(fake, real).corrected])


def _without_interactions(
    jackknifed: Jackknifed,
    first: GroupedMoments,
    second: GroupedMoments,
    real: GroupedMoments,
    pseudo: Sequence[np.ndarray],
) -> float:
    """Take a share of the interactions off the variance, as disjoint pairs of groups show them."""
    g = jackknifed.num_groups

    def difference(pick: Callable[[GroupedMoments], Moments]) -> float:
        taken = [unbiased_distances(pick(one), pick(real)).corrected for one in (first, second)]
        return taken[0] - taken[1]

    whole = difference(lambda one: one.whole)
    left = (g * whole - (pseudo[0] - pseudo[1])) / (g - 1)
    squares = []
    try:
        for j in range(0, g - 1, 2):
            both = difference(lambda one, j=j: one.without(j, j + 1))  # type: ignore[misc]
            squares.append((g * whole - (g - 1) * (left[j] + left[j + 1]) + (g - 2) * both) ** 2)
    except NotEnoughImagesError:
        return jackknifed.variance  # without two groups too few images are left
    corrected = jackknifed.variance - _INTERACTIONS * float(np.mean(squares))
    return max(corrected, _AT_LEAST * jackknifed.variance)
