"""Both Fréchet distances as pseudo-values of the jackknife: one of each per group of captions.

Usually an estimate compares all samples with all reference images. Where the samples closely match
the reference images of their own captions, as reconstructions do, it is crossed: samples of one
half of the groups are compared with reference images of the other half, and both ways are averaged,
so that no sample meets its own reference image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.jackknife import GroupedMoments, pseudo_values
from evalkit.metrics.frechet.moments import Moments, merge_all
from evalkit.metrics.frechet.unbiased import Distances, unbiased_distances


@dataclass(frozen=True, kw_only=True)
class DistancePseudoValues:
    """Pseudo-values of the corrected and of the plug-in distance."""

    corrected: Float64[np.ndarray, " groups"]
    plug_in: Float64[np.ndarray, " groups"]
    whole: float
    """The corrected distance of all images, without the jackknife."""
    num_varying: int
    """Directions in which both sets vary."""


def distance_pseudo_values(
    fake: GroupedMoments, real: GroupedMoments, *, crossed: bool = False
) -> DistancePseudoValues:
    """Compute the pseudo-values of both distances; groups of one number leave both sets together.

    Args:
        fake: The samples, in two groups or more.
        real: The reference, in as many; or without groups, if only the samples are drawn.
        crossed: Whether samples are compared with the other half of the reference only.

    Raises:
        NotEnoughImagesError: Fewer than two groups, or too few images without one of them.
    """
    estimates = []

    def both(*left_out: int) -> Float64[np.ndarray, " estimates"]:
        found = distances_without(left_out, fake, real, crossed=crossed)
        estimates.append(found)
        return np.array([found.corrected, found.plug_in])

    found = pseudo_values(both, len(fake.groups))
    of_all = estimates[0]
    return DistancePseudoValues(
        corrected=found[:, 0],
        plug_in=found[:, 1],
        whole=of_all.corrected,
        num_varying=of_all.num_varying,
    )


def distances_without(
    groups: tuple[int, ...], fake: GroupedMoments, real: GroupedMoments, *, crossed: bool = False
) -> Distances:
    """Estimate both distances without some groups; arguments as above.

    Raises:
        NotEnoughImagesError: Too few images without them.
    """
    some, others = fake.without(*groups), real.without(*groups)
    if not crossed:
        return unbiased_distances(some, others)
    ways = [
        unbiased_distances(_half(fake, which, groups), _half(real, 1 - which, groups))
        for which in (0, 1)
    ]
    return Distances(
        corrected=(ways[0].corrected + ways[1].corrected) / 2,
        plug_in=frechet_distance(some, others),
        num_varying=min(way.num_varying for way in ways),
    )


def _half(one: GroupedMoments, which: int, without: tuple[int, ...]) -> Moments:
    """Merge the groups of one half."""
    middle = len(one.groups) // 2
    places = range(middle) if which == 0 else range(middle, len(one.groups))
    return merge_all(one.groups[place] for place in places if place not in without)
