"""Clusters: the samples of a caption, together with the caption's reference image.

A cluster is identified by an id. Clusters are the sampling unit of all inference: standard errors
sum within clusters, and jackknife groups keep clusters whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from evalkit.core.errors import DataError


@dataclass(frozen=True)
class Clusters:
    """The clusters of two sets of images.

    Attributes:
        fake: Cluster number of each sample.
        real: Cluster number of each reference image; empty if only its statistics are known.
    """

    fake: Int64[np.ndarray, " n"]
    real: Int64[np.ndarray, " m"]

    @classmethod
    def of(
        cls,
        num_fake: int,
        num_real: int,
        fake_ids: Sequence[str] | None = None,
        real_ids: Sequence[str] | None = None,
    ) -> Clusters:
        """Form clusters by id; without ids every image is its own cluster.

        Raises:
            DataError: The number of ids is not the number of images.
        """
        fake = _checked(fake_ids, num_fake, "samples")
        real = _checked(real_ids, num_real, "reference images")
        numbers: dict[str, int] = {}
        # Images without an id get negative temporary numbers, so that they never share a cluster.
        codes = [numbers.setdefault(name, len(numbers)) for name in [*(fake or []), *(real or [])]]
        fake_codes = codes[: len(fake)] if fake else range(-num_fake, 0)
        start = -num_fake - num_real
        real_codes = codes[len(fake or []) :] if real else range(start, start + num_real)
        _, dense = np.unique([*fake_codes, *real_codes], return_inverse=True)
        dense = dense.astype(np.int64)
        return cls(dense[:num_fake], dense[num_fake:])

    @property
    def num(self) -> int:
        """Number of clusters."""
        return int(max(self.fake.max(initial=-1), self.real.max(initial=-1))) + 1

    @property
    def num_matched(self) -> int:
        """Number of clusters that hold both samples and reference images."""
        return len(np.intersect1d(self.fake, self.real))

    def groups(self, num_groups: int, rng: np.random.Generator) -> Int64[np.ndarray, " clusters"]:
        """Assign each cluster to a random group, the groups of equal size."""
        return rng.permutation(np.arange(self.num) % num_groups)


def clustered_variance(
    clusters: Clusters,
    fake: Float64[np.ndarray, " n"] | None,
    real: Float64[np.ndarray, " m"] | None,
) -> float:
    """Compute the variance of the sum of all contributions for independent clusters.

    Args:
        clusters: The clusters of both sets.
        fake: Centred contributions of the samples, divided by their number.
        real: The same for the reference images.

    >>> alone = Clusters.of(2, 0)
    >>> clustered_variance(alone, np.array([-0.5, 0.5]), None)  # variance 2 of {-1, 1}, over n = 2
    1.0
    >>> pair = Clusters.of(2, 2, ["a", "b"], ["a", "b"])
    >>> clustered_variance(pair, np.array([-0.5, 0.5]), np.array([0.5, -0.5]))
    0.0
    """
    sums = np.zeros(clusters.num)
    for codes, values in ((clusters.fake, fake), (clusters.real, real)):
        if values is not None:
            sums += np.bincount(codes, weights=values, minlength=clusters.num)
    used = clusters.num if real is not None else len(np.unique(clusters.fake))
    return float(np.square(sums).sum() * used / (used - 1)) if used > 1 else float("nan")


def _checked(ids: Sequence[str] | None, num: int, what: str) -> list[str] | None:
    if ids is not None and len(ids) != num:
        raise DataError(f"{len(ids)} ids for {num} {what}; give one id per image.")
    return list(ids) if ids is not None else None
