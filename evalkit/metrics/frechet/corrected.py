"""The Fréchet distance, corrected at any ratio of images to dimensions, with an interval.

From Python only so far: records still carry the distance that `interval` corrects by halving.

Two values are given side by side: the plug-in distance, which the literature reports and which is
biased upward by finitely many images, and `corrected`, an estimate of the distance of infinitely
many (`unbiased`). Its last bias and its standard error come from one delete-a-group jackknife over
captions, so samples of one caption, reference images that captions share with samples, and heavy
tails are all allowed for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64

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
    pseudo_values,
)
from evalkit.metrics.frechet.matched import without_close_matches
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.unbiased import least_variance, unbiased_distances


@dataclass(frozen=True, kw_only=True)
class CorrectedDistance:
    """A Fréchet distance, and its bias-corrected value with a standard error and an interval."""

    value: float
    """The plug-in distance, comparable with the literature; biased upward."""
    plug_in_error: float | None
    """Standard error of the plug-in distance, by the same groups."""
    standard_error: float | None
    """Standard error of the corrected value; None where there is none."""
    corrected: float | None
    """Estimate of the distance of infinitely many images; it may be negative."""
    low: float | None
    """Lower end of the corrected value's interval."""
    high: float | None
    """Upper end of the corrected value's interval."""
    level: float
    """Coverage that the interval is meant to have."""
    n: int
    """Number of samples."""
    n_reference: int | None
    """Number of reference images; None where only their statistics are known."""
    dim: int
    """Number of dimensions."""
    num_projected_out: int = 0
    """Directions in which a set does not vary; they count through means and variances only."""
    num_groups: int = 0
    """Groups of the jackknife; 0 where there was none."""
    num_matched: int
    """Ids that samples and reference share."""
    num_left_out: int = 0
    """Reference images that the corrected value leaves out, since they match samples too well."""
    reason: str
    """Why something is missing or limited; empty where nothing is."""
    method: str
    """How the interval was made."""
    influences: np.ndarray | None = field(default=None, repr=False, compare=False)
    """How much each sample's presence adds to the value; None where a covariance is singular."""


def corrected_distance(
    fake_features: Any,
    real_features: Any,
    *,
    fake_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    level: float = 0.95,
    num_groups: int = NUM_GROUPS,
    seed: int = 0,
) -> CorrectedDistance:
    """Return the Fréchet distance, and its bias-corrected value with an interval.

    Args:
        fake_features: Samples, images x dimensions.
        real_features: Reference images, images x dimensions, or their `Moments`; then the interval
            speaks of the samples only.
        fake_ids: One id for each sample; samples of one id are one draw.
        real_ids: One id for each reference image; where it equals a sample's, they are one draw.
        level: Coverage wanted, in (0, 1).
        num_groups: Groups of the jackknife; fewer where there are fewer ids.
        seed: Seed of the groups.

    Raises:
        ConfigError: A level outside (0, 1).
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Fewer than two images in a set.

    >>> rng = np.random.default_rng(0)
    >>> found = corrected_distance(rng.normal(size=(90, 4)), rng.normal(1, 1, size=(400, 4)))
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
        found = corrected_of_groups(grouped, GroupedMoments(real, ()), level=level)
        influences = _influences(fake, grouped.whole, real)
        return replace(found, influences=influences)
    real = checked_rows(real, "reference")
    refuse_mismatch(fake.shape[1], real.shape[1])
    clusters = Clusters.of(len(fake), len(real), fake_ids, real_ids)
    kept = without_close_matches(fake, real, clusters)
    fake_codes, real_codes, num = group_codes(clusters, num_groups=num_groups, seed=seed)
    grouped = GroupedMoments.of_features(fake, fake_codes, num)
    whole = GroupedMoments.of_features(real, real_codes, num)
    used = whole
    if kept.num_left_out:
        rows = np.flatnonzero(kept.rows)
        used = GroupedMoments.of_features(_some(real, rows), real_codes[rows], num)
    if kept.problem:
        found = _plain(grouped, used, level)
    else:
        found = corrected_of_groups(grouped, used, level=level)
    value = (
        frechet_distance(grouped.whole, whole.whole)
        if min(len(fake), len(real)) > fake.shape[1]
        else frechet_distance_from_features(fake, real)
    )
    return replace(
        found,
        value=value,
        reason=kept.problem or found.reason,
        n_reference=len(real),
        num_matched=clusters.num_matched,
        num_left_out=kept.num_left_out,
        influences=_influences(fake, grouped.whole, whole.whole),
    )


def corrected_of_groups(
    fake: GroupedMoments, real: GroupedMoments, *, level: float = 0.95
) -> CorrectedDistance:
    """Return the same from moments by jackknife group, which several workers can have made.

    Args:
        fake: The samples; images of one id are in one group.
        real: The reference, in groups of the same ids; or without groups (statistics of a file).
        level: Coverage wanted, in (0, 1).

    Raises:
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    plain = _plain(fake, real, level)
    refusal = _refusal(fake, real)
    if refusal:
        return replace(plain, reason=refusal)
    try:
        varying = unbiased_distances(fake.whole, real.whole).num_varying
        found = pseudo_values(_estimates, fake, real)
    except NotEnoughImagesError as error:
        return replace(plain, reason=f"{error} {_needed(fake)}")
    corrected = Jackknifed.of(found[:, 0], least_variance(fake.whole, real.whole))
    low, high = corrected.ends(level)
    projected = fake.whole.dim - varying
    return replace(
        plain,
        plug_in_error=Jackknifed.of(found[:, 1]).standard_error,
        standard_error=corrected.standard_error,
        corrected=corrected.value,
        low=low,
        high=high,
        num_projected_out=projected,
        num_groups=corrected.num_groups,
        reason=_limits(real),
        method=method_of(corrected.num_groups),
    )


def _plain(fake: GroupedMoments, real: GroupedMoments, level: float) -> CorrectedDistance:
    """Return the plug-in distance alone."""
    return CorrectedDistance(
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


def method_of(num_groups: int) -> str:
    """Name the method, for a record."""
    return (
        "unbiased spectrum of the product of both covariances (Tiomoko & Couillet 2019); "
        f"delete-a-group jackknife over {num_groups} groups of ids, t interval"
    )


def checked_rows(features: Any, name: str) -> Any:
    """Return features as they are where they are stored on disk, else as a checked array."""
    rows = as_rows(features)
    if rows is features and not isinstance(rows, np.ndarray) and len(rows) >= MIN_IMAGES:
        return rows
    return as_features(rows, name=name, minimum=MIN_IMAGES)


def _estimates(fake: Moments, real: Moments) -> Float64[np.ndarray, 2]:
    found = unbiased_distances(fake, real)
    return np.array([found.corrected, found.plug_in])


def _refusal(fake: GroupedMoments, real: GroupedMoments) -> str:
    """Why no jackknife can be had, before anything is decomposed; empty where it may."""
    if len(fake.groups) < 3:
        return f"no interval: {len(fake.groups)} independent ids among the samples, at least 3"
    return ""


def _needed(fake: GroupedMoments) -> str:
    groups = len(fake.groups)
    n = math.ceil((fake.whole.dim + 2) * groups / (groups - 1))
    return f"A jackknife over {groups} groups takes {n:,} of each."


def _limits(real: GroupedMoments) -> str:
    if real.groups:
        return ""
    if real.whole.n is None:
        return (
            "samples only: of the reference nothing but mean and covariance is known, whose own "
            "bias at its unknown number of images remains"
        )
    return "samples only: the reference's images are not drawn anew"


def _influences(fake: Any, of_fake: Moments, of_real: Moments) -> np.ndarray | None:
    try:
        return Transport.between(of_fake, of_real).influence_of_fake(fake) / len(fake)
    except (SingularCovarianceError, NotEnoughImagesError):
        return None


def _some(features: Any, rows: np.ndarray) -> Any:
    """Pick some of the images, left on disk where they are stored there."""
    return features.subset(rows) if hasattr(features, "subset") else features[rows]
