"""The Fréchet distance, corrected for the bias of finitely many images, with an interval.

Two values stand side by side: the plug-in distance, which the literature reports and which is
biased upward by finitely many images, and `corrected`, the distance of infinitely many (FD∞, a name
of Chong and Forsyth 2020), estimated at any ratio of images to dimensions (`unbiased`). The last
part of its bias and its standard error come from one delete-a-group jackknife over captions, so
samples of one caption, reference images that captions share with samples, and heavy tails are all
allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evalkit.core.errors import NotEnoughImagesError
from evalkit.core.intervals import check_level
from evalkit.metrics.arrays import as_features, as_rows, refuse_mismatch
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.distance import (
    MIN_IMAGES,
    frechet_distance,
    frechet_distance_from_features,
)
from evalkit.metrics.frechet.influence import SingularCovarianceError, Transport
from evalkit.metrics.frechet.jackknife import (
    NUM_GROUPS,
    GroupedMoments,
    Jackknifed,
    group_codes,
)
from evalkit.metrics.frechet.matched import matches
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.pseudo_values import distance_pseudo_values
from evalkit.metrics.frechet.unbiased import least_variance

_MIN_GROUPS = 3
_FRACTIONS = (4, 2)
"""Of the groups: a quarter and half of the samples, for the curve against n."""


@dataclass(frozen=True, kw_only=True)
class SizePoint:
    """Both distances at a part of the samples, against the whole reference."""

    n: int
    """Number of samples."""
    plug_in: float
    corrected: float | None
    """None where so few samples leave it undefined."""
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class FrechetInterval:
    """A Fréchet distance, and its bias-corrected value with a standard error and an interval."""

    value: float
    """The plug-in distance, comparable with the literature; biased upward."""
    plug_in_error: float | None
    """Standard error of the plug-in distance, by the same groups."""
    standard_error: float | None
    """Standard error of the corrected value; None without one."""
    corrected: float | None
    """FD∞, the estimated distance of infinitely many images; may be negative."""
    low: float | None
    """Lower end of the interval of the corrected value."""
    high: float | None
    """Upper end of the interval of the corrected value."""
    level: float
    """Nominal coverage of the interval."""
    n: int
    """Number of samples."""
    n_reference: int | None
    """Number of reference images; None if only their statistics are known."""
    dim: int
    """Number of dimensions."""
    num_projected_out: int = 0
    """Directions in which a set does not vary; they count through means and variances only."""
    num_groups: int = 0
    """Groups of the jackknife; 0 without one."""
    num_matched: int
    """Number of ids that samples and reference share."""
    num_left_out: int = 0
    """Reference images that the corrected value leaves out, since they match samples closely."""
    reason: str
    """Why something is missing or limited; empty if nothing is."""
    method: str
    """Method of the interval."""
    against_n: tuple[SizePoint, ...] = ()
    """Both distances at a quarter, half and all of the samples, if asked for."""
    influences: np.ndarray | None = field(default=None, repr=False, compare=False)
    """How much each sample's presence adds to the value; None if a covariance is singular."""


def frechet_interval(
    fake_features: Any,
    real_features: Any,
    *,
    fake_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    num_groups: int = NUM_GROUPS,
    seed: int = 0,
    curve: bool = False,
) -> FrechetInterval:
    """Compute the Fréchet distance, and its bias-corrected value with an interval.

    Args:
        fake_features: Samples, images x dimensions.
        real_features: Reference images, images x dimensions, or their `Moments`; the interval then
            covers the noise of the samples only.
        fake_ids: One id per sample; samples with the same id are one draw.
        real_ids: One id per reference image; with the same id as a sample, they are one draw.
        level: Nominal coverage, in (0, 1).
        num_groups: Groups of the jackknife; fewer if there are fewer ids.
        seed: Seed of the groups.
        curve: Whether to compute both distances at parts of the samples too.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Fewer than two images in a set.

    >>> rng = np.random.default_rng(0)
    >>> found = frechet_interval(rng.normal(size=(90, 4)), rng.normal(1, 1, size=(400, 4)))
    >>> found.low < 4 < found.high  # four dimensions, each shifted by 1
    True
    """
    check_level(level)
    fake, real = checked_rows(fake_features, "samples"), real_features
    if isinstance(real, Moments):
        refuse_mismatch(fake.shape[1], real.dim)
        clusters = Clusters.of(len(fake), 0, fake_ids)
        codes, _, num = group_codes(clusters, num_groups=num_groups, seed=seed)
        grouped = GroupedMoments.of_features(fake, codes, num)
        found = frechet_interval_of_groups(
            grouped, GroupedMoments(real, ()), level=level, curve=curve
        )
        return replace(found, influences=_influences(fake, grouped.whole, real))
    real = checked_rows(real, "reference")
    refuse_mismatch(fake.shape[1], real.shape[1])
    clusters = Clusters.of(len(fake), len(real), fake_ids, real_ids)
    fake_codes, real_codes, num = group_codes(clusters, num_groups=num_groups, seed=seed)
    grouped = GroupedMoments.of_features(fake, fake_codes, num)
    whole = GroupedMoments.of_features(real, real_codes, num)
    close = matches(fake, real, clusters)
    used = close.moments(real, real_codes, num) if close.num_left_out else whole
    found = frechet_interval_of_groups(
        grouped, used, level=level, curve=curve, crossed=close.crossed
    )
    return replace(
        found,
        value=_exact_value(fake, real, grouped.whole, whole.whole),
        n_reference=len(real),
        num_matched=clusters.num_matched,
        num_left_out=close.num_left_out,
        influences=_influences(fake, grouped.whole, whole.whole),
    )


def frechet_interval_of_groups(
    fake: GroupedMoments,
    real: GroupedMoments,
    *,
    level: float = 0.95,
    curve: bool = False,
    crossed: bool = False,
) -> FrechetInterval:
    """Compute the same from moments by jackknife group, which several workers can compute.

    Args:
        fake: The samples; images of one id are in one group.
        real: The reference, in groups of the same ids; or without groups (a statistics file).
        level: Nominal coverage, in (0, 1).
        curve: Whether to compute both distances at parts of the samples too.
        crossed: Whether the reference consists of close matches of the samples (`matched`), so that
            samples are compared with the other half of the reference only.

    Raises:
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    plain = _plug_in(fake, real, level)
    if len(fake.groups) < _MIN_GROUPS:
        ids = f"{len(fake.groups)} independent ids among the samples"
        return replace(plain, reason=f"no interval: {ids}, at least {_MIN_GROUPS} are needed")
    try:
        found = distance_pseudo_values(fake, real, crossed=crossed)
    except NotEnoughImagesError:
        return replace(plain, reason=not_estimable(fake, real, crossed=crossed))
    corrected = Jackknifed.of(found.corrected, least_variance(fake.whole, real.whole))
    low, high = corrected.ends(level)
    whole = SizePoint(n=plain.n, plug_in=plain.value, corrected=corrected.value, low=low, high=high)
    return replace(
        plain,
        plug_in_error=Jackknifed.of(found.plug_in).standard_error,
        standard_error=corrected.standard_error,
        corrected=corrected.value,
        low=low,
        high=high,
        num_projected_out=fake.whole.dim - found.num_varying,
        num_groups=corrected.num_groups,
        reason=_limits(real),
        method=_method(corrected.num_groups, crossed=crossed),
        against_n=(*_against_n(fake, real, level, crossed), whole) if curve else (),
    )


def checked_rows(features: Any, name: str) -> Any:
    """Return features that are stored on disk as they are, others as a checked array."""
    rows = as_rows(features)
    if rows is features and not isinstance(rows, np.ndarray) and len(rows) >= MIN_IMAGES:
        return rows
    return as_features(rows, name=name, minimum=MIN_IMAGES)


def _plug_in(fake: GroupedMoments, real: GroupedMoments, level: float) -> FrechetInterval:
    """Return the plug-in distance alone."""
    return FrechetInterval(
        value=frechet_distance(fake.whole, real.whole),
        plug_in_error=None,
        standard_error=None,
        corrected=None,
        low=None,
        high=None,
        level=level,
        n=fake.whole.n or 0,
        n_reference=real.whole.n,
        dim=fake.whole.dim,
        num_matched=0,
        reason="",
        method="",
    )


def _against_n(
    fake: GroupedMoments, real: GroupedMoments, level: float, crossed: bool
) -> list[SizePoint]:
    """Compute both distances at parts of the samples, each with its own jackknife."""
    points = []
    for fraction in _FRACTIONS:
        num = len(fake.groups) // fraction
        if num < _MIN_GROUPS:
            continue
        part = GroupedMoments.of_groups(fake.groups[:num])
        corrected = low = high = None
        if crossed:
            against = GroupedMoments.of_groups(real.groups[:num])
        else:
            against = GroupedMoments(real.whole, real.groups[:num])
        try:
            found = Jackknifed.of(distance_pseudo_values(part, against, crossed=crossed).corrected)
        except NotEnoughImagesError:
            pass  # the plug-in value needs no more images than 2
        else:
            corrected, (low, high) = found.value, found.ends(level)
        plug_in = frechet_distance(part.whole, real.whole)
        n = part.whole.n or 0
        points.append(SizePoint(n=n, plug_in=plug_in, corrected=corrected, low=low, high=high))
    return points


def _exact_value(fake: Any, real: Any, of_fake: Moments, of_real: Moments) -> float:
    if min(len(fake), len(real)) > of_fake.dim:
        return frechet_distance(of_fake, of_real)
    return frechet_distance_from_features(fake, real)


def not_estimable(fake: GroupedMoments, real: GroupedMoments, *, crossed: bool) -> str:
    """Say which number of images would do: n (1 - 1/g) - 1 above d, in each half if crossed."""
    dim, groups = fake.whole.dim, len(fake.groups)
    halves = 2 if crossed else 1
    fewest = groups // halves
    needed = halves * math.ceil((dim + 2) * fewest / max(fewest - 1, 1))
    sizes = f"n = {fake.whole.n:,}"
    if real.whole.n is not None:
        sizes += f" against {real.whole.n:,} reference images"
    return (
        f"not estimable at {sizes} in {dim:,} dimensions: needs at least {needed:,} different "
        "images in each set"
        + ", since the samples closely match reference images of their ids"
        * crossed
    )


def _method(num_groups: int, *, crossed: bool) -> str:
    halves = "samples of either half of the ids against the other half's reference images; "
    return (
        "unbiased spectrum of the product of both covariances (Tiomoko & Couillet 2019); "
        + halves * crossed
        + f"delete-a-group jackknife over {num_groups} groups of ids, t interval"
    )


def _limits(real: GroupedMoments) -> str:
    if real.groups:
        return ""
    if real.whole.n is None:
        return (
            "samples only: of the reference nothing but mean and covariance is known; the bias of "
            "its own unknown number of images remains"
        )
    return "samples only: the reference is fixed"


def _influences(fake: Any, of_fake: Moments, of_real: Moments) -> np.ndarray | None:
    try:
        return Transport.between(of_fake, of_real).influence_of_fake(fake) / len(fake)
    except (SingularCovarianceError, NotEnoughImagesError):
        return None
