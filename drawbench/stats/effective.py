"""The effective number of votes behind a share, when votes are clustered by raters and prompts.

A share p of clustered votes varies like that of n_eff independent votes, where

    1 / n_eff  =  V / (p (1 - p)),    V the clustered variance.

Near 0 and 1 few votes differ from the rest, and V says little: it is 0 if none does. So the ratio
is shrunk toward what V would be if two votes of one rater correlated by `PRIOR_CORRELATION`, and so
did two votes on one prompt. What the votes know about V is counted in effective votes that differ
from the rest, against `PRIOR_VOTES`:

    1 / n_eff  =  (k / n_hat + PRIOR_VOTES / n_0) / (k + PRIOR_VOTES),    k = varied n_eff

is a quadratic equation in 1 / n_eff; `varied` is min(p, 1-p) without ties. Ties and graded scores
vary less than p (1 - p); the observed ratio is shrunk, by the number of votes that differ, toward
that of votes which do not. Everything is continuous in the votes, unanimity
included. `benchmarks.study.coverage` measures how often the intervals contain the truth; the
constants were chosen on other seeds than its own.

Functions take numbers, or arrays with one element per study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR_CORRELATION = 0.25
PRIOR_VOTES = 1.5
SPREAD_VOTES = 10
"""Number of differing votes from which on the observed variance of votes counts more than half."""
MIN_CLUSTERS = 2


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """The concentration of a mean's weights, which sum to 1, as sums of squared weights.

    The inverse of such a sum is an effective number: of 25 raters with equal weights, 1 / 25.
    """

    cell: float
    """Over cells, the votes of one rater on one prompt."""
    clusters: Mapping[str, float]
    """Over the clusters of each sampled kind, `rater` or `prompt` or both."""
    filled: float
    """Share of a stratum's rater-prompt combinations that have a vote, in (0, 1]."""

    @property
    def prior(self) -> float:
        """1 / n_0: the variance of the mean in votes' variances, with the prior's correlations."""
        extra = sum(max(square - self.cell, 0.0) for square in self.clusters.values())
        return self.cell + PRIOR_CORRELATION * extra

    @property
    def degrees_of_freedom(self) -> dict[str, float]:
        """Effective number of clusters less 1, by kind."""
        return {name: max(1 / square, MIN_CLUSTERS) - 1 for name, square in self.clusters.items()}


@dataclass(frozen=True, kw_only=True)
class Variances:
    """Estimated variances of a mean of votes."""

    cell: float | Floats
    """Sum over cells."""
    clusters: Mapping[str, float | Floats]
    """Sum over the clusters of each sampled kind."""
    vote: float | Floats
    """Variance of a single vote around the mean of its stratum."""
    varied: float | Floats
    """Weight of the votes that differ from the others of their stratum, in [0, 1): the smallest
    mean distance from any score c, in units of the largest possible one, max(c, 1 - c)."""
    extremity: float | Floats
    """Mean distance of votes from 1/2, doubled: 1 for wins and losses, 0 for ties."""

    @property
    def total(self) -> float | Floats:
        """Two-way variance (Cameron, Gelbach and Miller 2011), at least that of the cells."""
        terms = list(self.clusters.values())
        if len(terms) == 1:
            return terms[0]
        return np.maximum(sum(terms) - self.cell, self.cell)

    @property
    def components(self) -> dict[str, float | Floats]:
        """The part of each kind of cluster: what its term has beyond the noise of cells."""
        return {name: np.maximum(term - self.cell, 0.0) for name, term in self.clusters.items()}


@dataclass(frozen=True, kw_only=True)
class Effective:
    """The number of independent votes that would know the share as well."""

    votes: float | Floats
    """At least 1."""
    degrees_of_freedom: float | Floats
    """Of the estimated variance, at least 1."""


def effective_votes(share: float | Floats, found: Variances, weighting: Weighting) -> Effective:
    """Compute the effective number of votes and its degrees of freedom.

    Degrees of freedom are Satterthwaite's (1946): raters, prompts and cells, weighted by what each
    contributes to the variance. They are never below those of the smaller number of clusters, and
    are pulled toward them as far as the contributions are not known: by few minority votes or
    few clusters (two know nothing of it, three half, seven all but 3 %).

    Args:
        share: In [0, 1].
        found: Its estimated variances.
        weighting: Of the mean that the share is.

    >>> flat = Weighting(cell=0.01, clusters={"rater": 0.01}, filled=1.0)
    >>> none_lost = Variances(
    ...     cell=0.0, clusters={"rater": 0.0}, vote=0.0, varied=0.0, extremity=1.0
    ... )
    >>> round(float(effective_votes(1.0, none_lost, flat).votes), 6)
    100.0
    """
    binomial, prior = share * (1 - share), weighting.prior
    observed = np.minimum(_over(found.vote, binomial), 1.0)
    spread = _spread(observed, found, weighting)
    known = found.varied * np.minimum(observed / spread, 1.0)
    total = found.total + _missed(found, weighting)
    half = (known - PRIOR_VOTES * prior) / 2
    root = np.sqrt(half**2 + PRIOR_VOTES * _over(known * total, binomial * spread, 0.0))
    inverse = np.minimum((root - half) / PRIOR_VOTES, max(weighting.clusters.values()))
    trust = known / (known + PRIOR_VOTES * inverse)
    least = min(weighting.degrees_of_freedom.values())
    trust = trust * (1 - 0.5 ** (least - 1))
    df = np.maximum(_satterthwaite(found, weighting.degrees_of_freedom, least), least)
    return Effective(
        votes=1 / (spread * inverse), degrees_of_freedom=1 / (trust / df + (1 - trust) / least)
    )


def _spread(observed: float | Floats, found: Variances, weighting: Weighting) -> float | Floats:
    """Return the variance of votes over p (1 - p), shrunk toward that of votes without variation.

    If all votes are wins, those that are not seen may be losses: the ratio is 1. If all are ties,
    they move the win rate half as far: at 2 standard errors, 4 / n_0 leads to half the end of the
    interval of a share of 0.
    """
    unseen = found.extremity + (1 - found.extremity) * min(4 * weighting.prior, 1.0)
    differing = (found.varied / weighting.cell) ** 2
    return (differing * observed + SPREAD_VOTES**2 * unseen) / (differing + SPREAD_VOTES**2)


def _missed(found: Variances, weighting: Weighting) -> float | Floats:
    """Return what the two-way variance misses on a filled grid.

    It subtracts the cells' term, which also holds the variance of the cell's rater and prompt,
    but if every rater votes on every prompt, raters' totals don't hold that of prompts.
    """
    if len(weighting.clusters) == 1:
        return 0.0
    missed: float | Floats = 0.0
    for name, component in found.components.items():
        beyond = weighting.clusters[name] - weighting.cell
        if beyond > 0:
            missed = missed + weighting.filled * component * weighting.cell / beyond
    return np.minimum(missed, found.total)


def _satterthwaite(
    found: Variances, degrees: Mapping[str, float], otherwise: float
) -> float | Floats:
    parts = [(found.components[name], df) for name, df in degrees.items()]
    parts.append((found.cell, prod(degrees.values())))
    total = sum(part for part, _ in parts)
    return _over(total**2, sum(part**2 / df for part, df in parts), otherwise)


def _over(top: float | Floats, bottom: float | Floats, otherwise: float = 1.0) -> float | Floats:
    """Divide; `otherwise` where the divisor is 0."""
    positive = np.asarray(bottom) > 0
    ratio = np.asarray(top) / np.where(positive, bottom, 1.0)
    return np.where(positive, ratio, otherwise)[()]
