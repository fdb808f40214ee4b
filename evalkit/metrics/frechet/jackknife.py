"""Delete-a-group jackknife over whole captions, from moments alone.

Samples and reference images of one id leave together, so captions that samples share, and
reference images that belong to them, are one draw. Moments subtract, so no image is looked at
twice; workers of a cluster can hand in the moments of their share of each group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from evalkit.core.errors import NotEnoughImagesError
from evalkit.core.intervals import t_interval
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.moments import Moments, merge_all

_MIN_GROUPS = 2
_ROWS = 4096
NUM_GROUPS = 20
"""Fewer groups give wider intervals, more ask for more eigenvalues."""


@dataclass(frozen=True)
class GroupedMoments:
    """Moments of a set, and of each of its jackknife groups."""

    whole: Moments
    groups: tuple[Moments, ...]
    """One for each group; empty for a set that is known as a whole only."""

    @classmethod
    def of_groups(cls, groups: Sequence[Moments]) -> GroupedMoments:
        """Merge the groups' moments, such as several workers computed them."""
        return cls(merge_all(groups), tuple(groups))

    @classmethod
    def of_features(
        cls, features: Any, codes: Int64[np.ndarray, " n"], num_groups: int
    ) -> GroupedMoments:
        """Compute them from features (images x dimensions), each in the group of its code.

        A stored set that other processes hold too says how they compute them (`StoredSet.grouped`).
        """
        elsewhere = getattr(features, "grouped", None)
        if elsewhere is not None:
            return cls.of_groups(elsewhere(features, codes, num_groups))
        # Group by group: an update costs as much as a few thousand images.
        rows = (np.flatnonzero(codes == group) for group in range(num_groups))
        return cls.of_groups([moments_of(features, own) for own in rows])

    def without(self, *groups: int) -> Moments:
        """Return the moments of all images but some groups'; of a set without groups, of all."""
        rest = self.whole
        for group in groups if self.groups else ():
            if self.groups[group].n:
                rest = rest.without(self.groups[group])
        return rest


def moments_of(features: Any, rows: Int64[np.ndarray, " k"]) -> Moments:
    """Compute the moments of some rows of features (images x dimensions)."""
    moments = Moments(features.shape[1])
    for start in range(0, len(rows), _ROWS):
        moments.update(features[rows[start : start + _ROWS]])
    return moments


@dataclass(frozen=True, kw_only=True)
class Jackknifed:
    """An estimate whose 1 / n bias the jackknife removed, and its variance."""

    value: float
    variance: float
    num_groups: int

    @classmethod
    def of(
        cls, pseudo_values: Float64[np.ndarray, " groups"], least_variance: float = 0.0
    ) -> Jackknifed:
        """Take the mean of pseudo-values and its variance, with a floor.

        Args:
            pseudo_values: Of one estimate, or the difference of two over the same groups.
            least_variance: Variance that the estimate has at least, with all images.
        """
        num = len(pseudo_values)
        spread = float(pseudo_values.var(ddof=1) / num)
        floor = (num / (num - 1)) ** 2 * least_variance
        return cls(value=float(pseudo_values.mean()), variance=max(spread, floor), num_groups=num)

    @property
    def standard_error(self) -> float:
        """Root of the variance."""
        return float(np.sqrt(self.variance))

    def ends(self, level: float) -> tuple[float, float]:
        """Return the ends of the t interval over the groups."""
        return t_interval(self.value, self.standard_error, self.num_groups - 1, level=level)


def pseudo_values(
    estimate: Callable[..., Float64[np.ndarray, " estimates"]], num_groups: int
) -> Float64[np.ndarray, "groups estimates"]:
    """Compute pseudo-values of estimates.

    With theta the estimate and theta_j that without group j of g, they are
    g theta - (g - 1) theta_j, whose mean lacks the 1 / n term of theta's bias (Quenouille 1956).

    Args:
        estimate: One or several numbers, from all images or without the group of a number.
        num_groups: Number of groups.

    Raises:
        NotEnoughImagesError: Fewer than two groups, or too few images for the estimate.

    >>> means = pseudo_values(lambda *out: np.delete([[1.0], [3.0], [8.0]], out, 0).mean(0), 3)
    >>> means[:, 0].round(9).tolist()  # of a mean, they are the groups' means
    [1.0, 3.0, 8.0]
    """
    if num_groups < _MIN_GROUPS:
        raise NotEnoughImagesError(
            f"A jackknife needs at least {_MIN_GROUPS} groups of ids, got {num_groups}."
        )
    whole = estimate()
    left = np.array([estimate(group) for group in range(num_groups)])
    pseudo: np.ndarray = num_groups * whole - (num_groups - 1) * left
    return pseudo


def group_codes(
    clusters: Clusters, *, num_groups: int = NUM_GROUPS, seed: int = 0
) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " m"], int]:
    """Put each cluster into a group at random, the groups as equal as they can be.

    Matched clusters, clusters of samples only and clusters of reference images only are dealt out
    each by themselves, so every group takes its share of both sets.

    Returns:
        The group of each sample and of each reference image, and the number of groups: fewer than
        asked for where there are fewer clusters of samples.
    """
    has_fake = np.bincount(clusters.fake, minlength=clusters.num) > 0
    has_real = np.bincount(clusters.real, minlength=clusters.num) > 0
    num = min(num_groups, int(has_fake.sum()))
    rng = np.random.default_rng(seed)
    kind = has_fake + 2 * has_real
    codes = np.zeros(clusters.num, np.int64)
    for which in (1, 2, 3):
        members = rng.permutation(np.flatnonzero(kind == which))
        codes[members] = rng.permutation(num)[np.arange(len(members)) % num]
    return codes[clusters.fake], codes[clusters.real], num
