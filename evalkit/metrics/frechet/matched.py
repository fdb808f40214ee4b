"""Reference images that resemble samples of their own captions too closely.

Samples and reference images of one caption are one draw, and the jackknife takes them out together.
That is enough while the reference is several times as large, or they resemble each other little.
Where a small reference consists of close matches, what both sets share makes the two covariances
alike, and the distance looks smaller than that of fresh images: such images are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.jackknife import NUM_GROUPS

_CLOSE = 0.85
"""Correlation of matched features from which on matches count as close."""
_LARGE = 3.0
"""Reference images a sample from which on close matches do no harm."""


@dataclass(frozen=True)
class Kept:
    """The reference images that a corrected distance is taken of."""

    rows: Bool[np.ndarray, " m"]
    problem: str = ""
    """Why the matches spoil the corrected value and can't be left out; empty where they don't."""

    @property
    def num_left_out(self) -> int:
        """Number of reference images that are left out."""
        return int((~self.rows).sum())


def without_close_matches(fake: Any, real: Any, clusters: Clusters) -> Kept:
    """Leave out reference images that match samples closely, where the reference is small.

    Args:
        fake: Features of the samples, images x dimensions.
        real: Features of the reference.
        clusters: Their ids.

    Returns:
        All, unless the reference is small and the matches are close; then those without a sample
        of their id, if there are more of them than dimensions, by a group of the jackknife.
    """
    every = np.ones(len(real), bool)
    matched = np.isin(clusters.real, clusters.fake)
    if not matched.any() or len(real) >= _LARGE * len(fake):
        return Kept(every)
    correlation = matched_correlation(fake, real, clusters)
    if correlation < _CLOSE:
        return Kept(every)
    if int((~matched).sum()) * (1 - 1 / NUM_GROUPS) - 1 > real.shape[1]:
        return Kept(~matched)
    return Kept(
        every,
        f"{int(matched.sum()):,} of {len(real):,} reference images resemble samples of their own "
        f"captions (correlation {correlation:.2f}), and without them too few are left; give a "
        "larger reference",
    )


def matched_correlation(fake: Any, real: Any, clusters: Clusters) -> float:
    """Correlation of the features of samples and reference images that share an id, in [-1, 1]."""
    first_of = {int(code): place for place, code in reversed(list(enumerate(clusters.fake)))}
    pairs = [(first_of[int(c)], j) for j, c in enumerate(clusters.real) if int(c) in first_of]
    rows = np.asarray([pair[0] for pair in pairs]), np.asarray([pair[1] for pair in pairs])
    x, y = np.asarray(fake[rows[0]], np.float64), np.asarray(real[rows[1]], np.float64)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = float(np.sqrt(np.square(x).sum() * np.square(y).sum()))
    return float((x * y).sum()) / scale if scale else 0.0
