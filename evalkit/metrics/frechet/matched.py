"""Reference images that resemble samples of their own captions too closely.

Samples and reference images of one caption are one draw, and the jackknife takes them out together.
That is enough while the reference is several times as large, or they resemble each other little.
Where a small reference consists of close matches, what both sets share makes the two covariances
alike, and the distance looks smaller than that of fresh images. Such images are left out; where too
few others remain, samples are compared with reference images of other captions only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from evalkit.metrics.arrays import take_rows
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.jackknife import NUM_GROUPS, GroupedMoments

_CLOSE = 0.85
"""Correlation of matched features from which on matches count as close."""
_LARGE = 3.0
"""Reference images a sample from which on close matches do no harm."""


@dataclass(frozen=True)
class Matches:
    """How the corrected distance treats reference images that match samples."""

    rows: Bool[np.ndarray, " m"]
    """The reference images that it uses."""
    crossed: bool = False
    """Whether samples are compared with the other half of the reference only."""

    @property
    def num_left_out(self) -> int:
        """Number of reference images that are left out."""
        return int((~self.rows).sum())

    def moments(self, real: Any, codes: Int64[np.ndarray, " m"], num_groups: int) -> GroupedMoments:
        """Compute the moments of the reference images in use, by the group of each image."""
        rows = np.flatnonzero(self.rows)
        return GroupedMoments.of_features(take_rows(real, rows), codes[rows], num_groups)


def matches(fake: Any, real: Any, clusters: Clusters) -> Matches:
    """Decide how to treat reference images that match samples closely, if the reference is small.

    Args:
        fake: Features of the samples, images x dimensions.
        real: Features of the reference.
        clusters: Their ids.

    Returns:
        All reference images, unless the reference is small and the matches are close; then those
        without a sample of their id, if they are more than the dimensions without one group of the
        jackknife; else all, crossed.
    """
    every = np.ones(len(real), bool)
    matched = np.isin(clusters.real, clusters.fake)
    if not matched.any() or len(real) >= _LARGE * len(fake):
        return Matches(every)
    if matched_correlation(fake, real, clusters) < _CLOSE:
        return Matches(every)
    if int((~matched).sum()) * (1 - 1 / NUM_GROUPS) - 1 > real.shape[1]:
        return Matches(~matched)
    return Matches(every, crossed=True)


def matched_correlation(fake: Any, real: Any, clusters: Clusters) -> float:
    """Correlation of the features of samples and reference images that share an id, in [-1, 1]."""
    first_of = {int(code): place for place, code in reversed(list(enumerate(clusters.fake)))}
    pairs = [(first_of[int(c)], j) for j, c in enumerate(clusters.real) if int(c) in first_of]
    rows = np.asarray([pair[0] for pair in pairs]), np.asarray([pair[1] for pair in pairs])
    x, y = np.asarray(fake[rows[0]], np.float64), np.asarray(real[rows[1]], np.float64)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / scale if scale else 0.0
