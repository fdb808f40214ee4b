"""The difference of two models' Fréchet distances from one reference.

Both corrected distances are jackknifed over the same groups of captions, and the reference's groups
are shared, so whatever both have in common cancels. Each may have its own number of samples.

The jackknife's variance of a difference of such distances is a quarter too large where the second
order counts, because it contains the interactions of pairs of images twice. Part of what pairs of
groups show of them, J_jk = g theta - (g - 1) (theta_j + theta_k) + (g - 2) theta_jk, is subtracted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtr

from evalkit.core.errors import NotEnoughImagesError
from evalkit.core.intervals import check_level, t_interval
from evalkit.metrics.arrays import refuse_mismatch
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.interval import checked_rows, not_estimable
from evalkit.metrics.frechet.jackknife import GroupedMoments, Jackknifed, group_codes
from evalkit.metrics.frechet.matched import Matches, matches
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.pseudo_values import distance_pseudo_values, distances_without

_INTERACTIONS = 0.2
"""Share of the mean squared interaction that is subtracted from the variance."""
_AT_LEAST = 0.4
"""Share of the jackknife's variance that remains at least."""


@dataclass(frozen=True, kw_only=True)
class FrechetDifference:
    """Difference of two models' corrected distances from one reference."""

    value: float
    """FD∞ of the first minus FD∞ of the second; negative if the first is better."""
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
    num_left_out: int = 0
    """Reference images that are left out, since they match samples closely."""
    num_groups: int
    """Groups of the jackknife; the interval has one degree of freedom fewer."""
    method: str
    """Method of the interval."""


def paired_frechet_difference(
    first_features: Any,
    second_features: Any,
    real_features: Any,
    *,
    first_ids: Sequence[str] | None = None,
    second_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> FrechetDifference:
    """Compute the difference of two models' corrected distances, with interval and p-value.

    Without ids, row i of both models is assumed to share a caption if both have equally many rows.

    Args:
        first_features: Samples of the first model, images x dimensions.
        second_features: Samples of the second model, in any number.
        real_features: Reference images, or their `Moments`.
        first_ids: One id per sample of the first model.
        second_ids: One id per sample of the second model.
        real_ids: One id per reference image.
        level: Nominal coverage, in (0, 1).
        seed: Seed of the groups.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Too few images in a set for a corrected distance.

    >>> rng = np.random.default_rng(0)
    >>> real = rng.normal(size=(400, 4))
    >>> near, far = rng.normal(size=(200, 4)), rng.normal(1, 1, size=(300, 4))
    >>> paired_frechet_difference(near, far, real).p_value < 0.001
    True
    """
    check_level(level)
    first = checked_rows(first_features, "samples of the first model")
    second = checked_rows(second_features, "samples of the second model")
    refuse_mismatch(first.shape[1], second.shape[1])
    if first_ids is None and second_ids is None and len(first) == len(second):
        first_ids = second_ids = [f"row {i}" for i in range(len(first))]
    names = [
        *(first_ids or [f"first {i}" for i in range(len(first))]),
        *(second_ids or [f"second {i}" for i in range(len(second))]),
    ]
    known = isinstance(real_features, Moments)
    real = None if known else checked_rows(real_features, "reference")
    num_real = 0 if real is None else len(real)
    clusters = Clusters.of(len(names), num_real, names, None if real is None else real_ids)
    codes, real_codes, num = group_codes(clusters, seed=seed)
    n = len(first)
    sets = (
        GroupedMoments.of_features(first, codes[:n], num),
        GroupedMoments.of_features(second, codes[n:], num),
    )
    num_shared = len(np.intersect1d(clusters.fake[:n], clusters.fake[n:]))
    if real is None:
        found = frechet_difference_of_groups(*sets, GroupedMoments(real_features, ()), level=level)
        return replace(found, num_shared=num_shared)
    close = [
        matches(features, real, Clusters(clusters.fake[of_set], clusters.real))
        for features, of_set in ((first, slice(0, n)), (second, slice(n, None)))
    ]
    used = Matches(close[0].rows & close[1].rows, close[0].crossed or close[1].crossed)
    against = used.moments(real, real_codes, num)
    found = frechet_difference_of_groups(*sets, against, level=level, crossed=used.crossed)
    return replace(found, num_shared=num_shared, num_left_out=used.num_left_out)


def frechet_difference_of_groups(
    first: GroupedMoments,
    second: GroupedMoments,
    real: GroupedMoments,
    *,
    level: float = 0.95,
    crossed: bool = False,
) -> FrechetDifference:
    """Compute the same from moments by jackknife group, which several workers can compute.

    Args:
        first: Samples of the first model; images of one id are in one group, in all three sets.
        second: Samples of the second model.
        real: The reference; without groups, it is fixed.
        level: Nominal coverage, in (0, 1).
        crossed: As for `frechet_interval_of_groups`.

    Raises:
        ConfigError: A level outside (0, 1).
        NotEnoughImagesError: Too few images or ids in a set for a corrected distance.
    """
    check_level(level)
    found = []
    for name, one in (("first", first), ("second", second)):
        try:
            found.append(distance_pseudo_values(one, real, crossed=crossed))
        except NotEnoughImagesError as short:
            reason = not_estimable(one, real, crossed=crossed)
            raise NotEnoughImagesError(f"The {name} distance is {reason}.") from short
    pseudo = found[0].corrected - found[1].corrected
    jackknifed = Jackknifed.of(pseudo)

    def without(*groups: int) -> float:
        of_first, of_second = (
            distances_without(groups, one, real, crossed=crossed) for one in (first, second)
        )
        return of_first.corrected - of_second.corrected

    variance = _without_interactions(jackknifed, pseudo, found[0].whole - found[1].whole, without)
    error = float(np.sqrt(variance))
    freedom = jackknifed.num_groups - 1
    value = jackknifed.value
    low, high = t_interval(value, error, freedom, level=level)
    ratio = abs(value) / error if error > 0 else (0.0 if value == 0 else np.inf)
    return FrechetDifference(
        value=value,
        standard_error=error,
        low=low,
        high=high,
        level=level,
        p_value=float(2 * stdtr(freedom, -ratio)),
        plug_in=frechet_distance(first.whole, real.whole)
        - frechet_distance(second.whole, real.whole),
        num_shared=0,
        num_groups=jackknifed.num_groups,
        method="difference of corrected distances by delete-a-group jackknife over "
        f"{jackknifed.num_groups} groups of ids, t interval",
    )


def _without_interactions(
    jackknifed: Jackknifed,
    pseudo: Float64[np.ndarray, " groups"],
    whole: float,
    without: Callable[..., float],
) -> float:
    """Subtract a share of the interactions from the variance, as disjoint pairs of groups show."""
    g = jackknifed.num_groups
    left = (g * whole - pseudo) / (g - 1)
    squares = []
    try:
        for j in range(0, g - 1, 2):
            both = without(j, j + 1)
            squares.append((g * whole - (g - 1) * (left[j] + left[j + 1]) + (g - 2) * both) ** 2)
    except NotEnoughImagesError:
        return jackknifed.variance  # too few images without two groups
    corrected = jackknifed.variance - _INTERACTIONS * float(np.mean(squares))
    return max(corrected, _AT_LEAST * jackknifed.variance)
