"""Intervals for the Fréchet distance, and for the difference of two models.

The plug-in distance is biased upward by about c / n. Halving samples and reference together doubles
that bias, so that FD∞ = `2 FD_n - mean FD_{n/2}` is unbiased to first order; Chong and Forsyth
(2020), who introduced the name, extrapolate a line in 1 / n instead, from subsets of the samples
only. The first-order noise of FD∞ is that of the plug-in value, whose variance comes from the
influence functions. In code, `corrected` is FD∞.

With few images per dimension the second-order noise matters too. Influences evaluated at the
estimate itself contain it twice: their variance is V_1 / n + 2 V_2 / n^2, while FD∞ has
V_1 / n + (1 + 1 / splits) V_2 / n^2. The variance at half the size has V_2 four times as large and
V_1 twice, so a combination of the two variances can have any share of each. A difference of two
models uses the share above. A single distance is a skewed sum of squares, for which a symmetric
interval of the exact width has too little coverage, and uses 1.5.

Images of one cluster (samples of a caption and the reference image it describes) are one draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.special import ndtr

from evalkit.core.errors import NotEnoughImagesError, as_clause
from evalkit.core.intervals import check_level, normal_interval
from evalkit.metrics.arrays import as_features, as_rows, refuse_mismatch
from evalkit.metrics.clusters import Clusters, clustered_variance
from evalkit.metrics.frechet.distance import (
    MIN_IMAGES,
    frechet_distance,
    frechet_distance_from_features,
)
from evalkit.metrics.frechet.influence import SingularCovarianceError, Transport
from evalkit.metrics.frechet.moments import Moments

DEFAULT_SPLITS = 8
"""Halvings that are averaged; more cost time and hardly reduce the noise of FD∞."""
_SKEWED_SHARE = 1.5
_Halves = tuple[Moments, Moments]


@dataclass(frozen=True, kw_only=True)
class FrechetInterval:
    """A Fréchet distance with its standard error, and FD∞ with an interval."""

    value: float
    """The plug-in distance, comparable with the literature; biased upward."""
    standard_error: float | None
    """Standard error of the plug-in value; None with no more images than dimensions."""
    corrected: float | None
    """FD∞, the bias-corrected distance: its limit for infinitely many images. May be negative."""
    low: float | None
    """Lower end of the interval of FD∞."""
    high: float | None
    """Upper end of the interval of FD∞."""
    level: float
    """Nominal coverage of the interval."""
    n: int
    """Number of samples."""
    n_reference: int | None
    """Number of reference images; None if only their statistics are known."""
    dim: int
    """Number of dimensions."""
    num_matched: int
    """Number of ids that samples and reference share."""
    reason: str
    """Why something is missing or limited; empty if nothing is."""
    method: str
    """Method of the interval."""
    influences: np.ndarray | None = field(default=None, repr=False, compare=False)
    """Influence of each sample on the value; None without a standard error."""


@dataclass(frozen=True)
class Halvings:
    """The random halvings behind FD∞."""

    splits: int = DEFAULT_SPLITS
    """Number of halvings that are averaged."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FrechetDifference:
    """Difference of two models' distances from the reference, on the same captions."""

    value: float
    """FD∞ of the first minus FD∞ of the second; negative if the first is better."""
    standard_error: float
    low: float
    high: float
    level: float
    p_value: float
    """p-value of the two-sided test that both distances are equal."""
    plug_in: float
    """Difference of the plug-in values."""
    corrected: bool
    """Whether the values are FD∞; False if there are too few images to correct the bias."""
    method: str
    """Method of the interval."""


def frechet_interval(
    fake_features: Any,
    real_features: Any,
    *,
    fake_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    splits: int = DEFAULT_SPLITS,
    seed: int = 0,
) -> FrechetInterval:
    """Compute the Fréchet distance with its standard error, and FD∞ with an interval.

    Args:
        fake_features: Samples, images x dimensions.
        real_features: Reference images, images x dimensions, or their `Moments`; the interval then
            covers the noise of the samples only.
        fake_ids: One id per sample; samples with the same id are one draw.
        real_ids: One id per reference image; with the same id as a sample, they are one draw.
        level: Nominal coverage, in (0, 1).
        splits: Number of random halvings that are averaged.
        seed: Seed of the halvings.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Fewer than two images in a set.

    >>> rng = np.random.default_rng(0)
    >>> found = frechet_interval(rng.normal(size=(400, 4)), rng.normal(1, 1, size=(400, 4)))
    >>> found.low < 4 < found.high  # four dimensions, each shifted by 1
    True
    """
    check_level(level)
    problem = _Problem.of(fake_features, real_features, fake_ids, real_ids)
    value = problem.value()
    reason, spread, half_variance = problem.limits(), None, None
    try:
        spread = problem.influences() if problem.has_influence else None
        half_variance = problem.half_variance(seed) if problem.can_halve else None
    except SingularCovarianceError as error:
        where = "" if spread is None else "in half of the images "
        reason = f"{where}{as_clause(error)}; the value stands, but has no interval"
    standard_error = corrected = low = high = None
    if spread is not None:
        variance = problem.variance(*spread)
        if half_variance is not None:
            variance = mixed_variance(variance, half_variance, _SKEWED_SHARE)
        standard_error = float(np.sqrt(variance))
    if standard_error is not None and half_variance is not None:
        corrected = 2 * value - float(np.mean(problem.halves(splits, seed)))
        low, high = normal_interval(corrected, standard_error, level=level)
    return FrechetInterval(
        value=value,
        standard_error=standard_error,
        corrected=corrected,
        low=low,
        high=high,
        level=level,
        n=problem.n,
        n_reference=problem.n_real,
        dim=problem.dim,
        num_matched=problem.clusters.num_matched,
        reason=reason,
        method=_method(problem, splits),
        influences=None if spread is None else spread[0],
    )


def paired_frechet_difference(
    first_features: Any,
    second_features: Any,
    real_features: Any,
    *,
    first_ids: Sequence[str] | None = None,
    second_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    halvings: Halvings | None = None,
) -> FrechetDifference:
    """Compute the difference of two models' Fréchet distances, with interval and p-value.

    Without ids, row i of both models is assumed to share a caption if both have equally many rows.

    Args:
        first_features: Samples of the first model.
        second_features: Samples of the second model.
        real_features: Reference images, or their `Moments`.
        first_ids: One id per sample of the first model.
        second_ids: One id per sample of the second model.
        real_ids: One id per reference image.
        level: Nominal coverage, in (0, 1).
        halvings: The random halvings, the same for both models.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: No more images than dimensions in a set.
    """
    check_level(level)
    if first_ids is None and second_ids is None and len(first_features) == len(second_features):
        first_ids = second_ids = [f"row {i}" for i in range(len(first_features))]
    first = _Problem.of(first_features, real_features, first_ids, real_ids)
    second = _Problem.of(second_features, real_features, second_ids, real_ids)
    for problem in (first, second):
        if not problem.has_influence:
            raise NotEnoughImagesError(f"No paired difference: {problem.limits()}.")
    halvings = halvings or Halvings()
    joint = _Joint.of(first, second, first_ids, second_ids, real_ids)
    variance = joint.variance()
    plug_in = value = first.value() - second.value()
    corrected = first.can_halve and second.can_halve
    if corrected:
        value = 2 * plug_in - float(np.mean(joint.halves(halvings)))
        variance = mixed_variance(
            variance, joint.half_variance(halvings.seed), 1 + 1 / halvings.splits
        )
    standard_error = float(np.sqrt(variance))
    low, high = normal_interval(value, standard_error, level=level)
    ratio = abs(value) / standard_error if standard_error > 0 else (0.0 if value == 0 else np.inf)
    return FrechetDifference(
        value=value,
        standard_error=standard_error,
        low=low,
        high=high,
        level=level,
        p_value=float(2 * ndtr(-ratio)),
        plug_in=plug_in,
        corrected=corrected,
        method="difference of influence functions by caption"
        + (f"; bias removed by {halvings.splits} halvings" if corrected else "; bias not removed"),
    )


def mixed_variance(whole: float, half: float, share: float) -> float:
    """Combine two variances so that the second-order noise counts `share` times.

    Args:
        whole: Variance from the influences, V_1 / n + 2 V_2 / n^2.
        half: The same at half the size, 2 V_1 / n + 8 V_2 / n^2.
        share: From 1 to 2.

    Returns:
        V_1 / n + share V_2 / n^2, and at least its value for V_1 = 0.

    >>> mixed_variance(1.0 + 2 * 3.0, 2 * 1.0 + 8 * 3.0, 1.5)  # V_1 / n = 1, V_2 / n^2 = 3
    5.5
    """
    mixed = (2 - share / 2) * whole - (2 - share) / 4 * half
    return float(np.clip(mixed, share / 2 * whole, whole))


@dataclass
class _Problem:
    """Samples and reference, with the estimates of their distance."""

    fake: Any
    real: Any | None
    fake_moments: Moments
    real_moments: Moments
    clusters: Clusters

    @classmethod
    def of(
        cls,
        fake: Any,
        real: Any,
        fake_ids: Sequence[str] | None,
        real_ids: Sequence[str] | None,
    ) -> _Problem:
        fake = _rows(fake, "samples")
        statistics_only = isinstance(real, Moments)
        reference = None if statistics_only else _rows(real, "reference")
        real_moments = real if statistics_only else Moments.from_features(reference)
        refuse_mismatch(fake.shape[1], real_moments.dim)
        num_real = 0 if reference is None else len(reference)
        clusters = Clusters.of(
            len(fake), num_real, fake_ids, real_ids if reference is not None else None
        )
        return cls(fake, reference, Moments.from_features(fake), real_moments, clusters)

    @property
    def n(self) -> int:
        return len(self.fake)

    @property
    def n_real(self) -> int | None:
        return self.real_moments.n

    @property
    def dim(self) -> int:
        return self.fake_moments.dim

    @property
    def fewest(self) -> int:
        return self.n if self.n_real is None else min(self.n, self.n_real)

    @property
    def has_influence(self) -> bool:
        return self.fewest > self.dim

    @property
    def can_halve(self) -> bool:
        halved = self.n if self.real is None else min(self.n, len(self.real))
        return self.has_influence and halved // 2 > self.dim

    def limits(self) -> str:
        """Say what can't be estimated, and why."""
        sizes = f"{self.fewest} images in {self.dim} dimensions"
        if not self.has_influence:
            return (
                f"{sizes}: with no more images than dimensions the covariance is singular; the "
                "value stands, but has no interval"
            )
        if not self.can_halve:
            return f"{sizes}: FD∞ needs more than twice as many images as dimensions"
        if self.real is None:
            return "samples only: of the reference nothing but mean and covariance is known"
        return ""

    def value(self) -> float:
        if self.real is not None and not self.has_influence:
            return frechet_distance_from_features(self.fake, self.real)
        return frechet_distance(self.fake_moments, self.real_moments)

    def influences(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"] | None]:
        """Compute each image's contribution to the distance, divided by the size of its set."""
        transport = Transport.between(self.fake_moments, self.real_moments)
        fake = transport.influence_of_fake(self.fake) / self.n
        if self.real is None:
            return fake, None
        return fake, transport.influence_of_real(self.real) / len(self.real)

    def variance(self, fake: np.ndarray, real: np.ndarray | None) -> float:
        return clustered_variance(self.clusters, fake, real)

    def halves(self, splits: int, seed: int) -> list[float]:
        """Compute the mean distance of the two halves, for each halving."""
        return [
            self.half_distance(*self.clusters.halve(np.random.default_rng([seed, split])))
            for split in range(splits)
        ]

    def half_variance(self, seed: int) -> float:
        """Compute the mean variance from the influences in the halves of the first halving."""
        fake, real = self.clusters.halve(np.random.default_rng([seed, 0]))
        parts = [self.part(f, r) for f, r in ((fake, real), (~fake, ~real))]
        return float(np.mean([part.variance(*part.influences()) for part in parts]))

    def part(self, fake: np.ndarray, real: np.ndarray) -> _Problem:
        """Return the same problem for a subset of the images."""
        reference = None if self.real is None else _some(self.real, real)
        samples = _some(self.fake, fake)
        return _Problem(
            samples,
            reference,
            Moments.from_features(samples),
            self.real_moments if reference is None else Moments.from_features(reference),
            self.clusters.part(fake, real),
        )

    def half_distance(
        self, fake_half: np.ndarray, real_half: np.ndarray, reals: _Halves | None = None
    ) -> float:
        """Compute the mean distance of both halves of one halving."""
        fakes = _halves(self.fake, self.fake_moments, fake_half)
        reals = reals or self.real_halves(real_half)
        return (frechet_distance(fakes[0], reals[0]) + frechet_distance(fakes[1], reals[1])) / 2

    def real_halves(self, real_half: np.ndarray) -> _Halves:
        """Return the moments of both halves of the reference; statistics stand for both halves."""
        if self.real is None:
            return self.real_moments, self.real_moments
        return _halves(self.real, self.real_moments, real_half)


@dataclass
class _Joint:
    """Two models and one reference, with clusters that span all three sets."""

    first: _Problem
    second: _Problem
    codes: Clusters
    """`fake` has the first model's samples, then the second's."""

    @classmethod
    def of(
        cls,
        first: _Problem,
        second: _Problem,
        first_ids: Sequence[str] | None,
        second_ids: Sequence[str] | None,
        real_ids: Sequence[str] | None,
    ) -> _Joint:
        first_names = first_ids or [f"first {i}" for i in range(first.n)]
        second_names = second_ids or [f"second {i}" for i in range(second.n)]
        num_real = 0 if first.real is None else len(first.real)
        codes = Clusters.of(
            first.n + second.n,
            num_real,
            [*first_names, *second_names],
            real_ids if num_real else None,
        )
        return cls(first, second, codes)

    def variance(self) -> float:
        fake_1, real_1 = self.first.influences()
        fake_2, real_2 = self.second.influences()
        fake = np.concatenate([fake_1, -fake_2])
        real = None if real_1 is None or real_2 is None else real_1 - real_2
        return clustered_variance(self.codes, fake, real)

    def half_variance(self, seed: int) -> float:
        """Compute the mean variance of the difference in the halves of the first halving."""
        fake, real = self.codes.halve(np.random.default_rng([seed, 0]))
        variances = []
        for in_fake, in_real in ((fake, real), (~fake, ~real)):
            part = _Joint(
                self.first.part(in_fake[: self.first.n], in_real),
                self.second.part(in_fake[self.first.n :], in_real),
                self.codes.part(in_fake, in_real),
            )
            variances.append(part.variance())
        return float(np.mean(variances))

    def halves(self, halvings: Halvings) -> list[float]:
        """Compute the difference of the two models' half distances, for each halving."""
        found = []
        for split in range(halvings.splits):
            fake, real = self.codes.halve(np.random.default_rng([halvings.seed, split]))
            in_first, in_second = fake[: self.first.n], fake[self.first.n :]
            reals = self.first.real_halves(real)
            found.append(
                self.first.half_distance(in_first, real, reals)
                - self.second.half_distance(in_second, real, reals)
            )
        return found


def _rows(features: Any, name: str) -> Any:
    """Return stored features unchanged; check anything else as an array."""
    rows = as_rows(features)
    if rows is features and not isinstance(rows, np.ndarray) and len(rows) >= MIN_IMAGES:
        return rows
    return as_features(rows, name=name, minimum=MIN_IMAGES)


def _some(features: Any, chosen: np.ndarray) -> Any:
    """Select some of the images, without reading stored features."""
    rows = np.flatnonzero(chosen)
    return features.subset(rows) if hasattr(features, "subset") else features[rows]


def _halves(features: Any, whole: Moments, half: np.ndarray) -> _Halves:
    first = Moments(whole.dim)
    rows = np.flatnonzero(half)
    for start in range(0, len(rows), _HALF_ROWS):
        first.update(features[rows[start : start + _HALF_ROWS]])
    return first, whole.without(first)


_HALF_ROWS = 4096


def _method(problem: _Problem, splits: int) -> str:
    matched = problem.clusters.num_matched
    parts = [f"2 FD_n - mean FD_n/2 over {splits} halvings"]
    parts.append("standard error from influence functions")
    if matched:
        parts.append(f"{matched} ids shared by samples and reference")
    if problem.real is None:
        parts.append("samples only")
    return "; ".join(parts)
