"""Kernel Inception distance: unbiased squared MMD with k(x, y) = (x'y / d + 1)^3.

Binkowski et al. 2018 and all tools average over random subsets; with the usual number of subsets
that is the full-set value plus noise. Both values are reported, each with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalkit.core.errors import ConfigError
from evalkit.core.intervals import normal_interval
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.mmd import KernelMeans, SameFiles, kernel_means
from evalkit.metrics.pairing import kernel_difference
from evalkit.metrics.task import Metric, Need, Task, features_need
from evalkit.options import MeasureOptions

MIN_IMAGES = 2
_METHOD = "normal interval, standard error from the influence of each image"


@dataclass(frozen=True, kw_only=True)
class KernelDistance:
    """KID over subsets and over the full sets; both unbiased, lower is better."""

    value: float
    """Mean over the subsets."""
    deviation: float
    """Standard deviation over the subsets, which the literature prints after ±."""
    full: float
    """All pairs of both sets, without subsets."""
    standard_error: float
    """Standard error of `full`."""
    num_subsets: int
    subset_size: int

    @property
    def value_error(self) -> float:
        """Standard error of `value`: of the sets, and of the draw of subsets."""
        drawing = self.deviation / np.sqrt(self.num_subsets)
        return float(np.hypot(self.standard_error, drawing))

    def interval_at(self, level: float) -> Interval:
        """Return the interval of `value`, which allows for the draw of subsets."""
        method = f"{_METHOD} and the drawing of subsets"
        return _interval(self.value, self.value_error, level, method)

    def full_interval_at(self, level: float) -> Interval:
        """Return the interval of `full`."""
        return _interval(self.full, self.standard_error, level, _METHOD)


def kid(
    fake: Any,
    real: Any,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
    fake_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    same: SameFiles | None = None,
) -> KernelDistance:
    """Compute the Kernel Inception Distance of two sets of features.

    Args:
        fake: Samples, images x dimensions.
        real: Reference images.
        subsets: Number of random subsets.
        subset_size: Images per subset; at most the size of the smaller set is used.
        seed: Seed of the subsets; torch-fidelity's (2020) draws the same subsets.
        fake_ids: One id per sample; images with the same id are one draw.
        real_ids: One id per reference image.
        same: Which images are copies; pairs of them don't count in `full`.

    Raises:
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Fewer than two images in a set.
        ConfigError: No subset, or subsets of fewer than two images.

    >>> round(kid([[0.0], [2.0]], [[1.0], [3.0]], subsets=1).full, 6)  # 1 + 64 - 2 * 372 / 4
    -121.0
    """
    x = as_features(fake, name="samples", minimum=MIN_IMAGES)
    y = as_features(real, name="reference", minimum=MIN_IMAGES)
    refuse_mismatch(x.shape[1], y.shape[1])
    size = min(subset_size, len(x), len(y))
    if subsets < 1 or size < MIN_IMAGES:
        raise ConfigError(
            f"KID needs at least 1 subset of at least 2 images, got {subsets} of {size}."
        )
    values = _subset_values(x, y, subsets, size, seed)
    means = kid_means(x, y, same)
    clusters = Clusters.of(len(x), len(y), fake_ids, real_ids)
    return KernelDistance(
        value=float(values.mean()),
        deviation=float(values.std()),
        full=means.unbiased(),
        standard_error=means.standard_error(clusters),
        num_subsets=subsets,
        subset_size=size,
    )


def kid_means(
    fake: Float64[np.ndarray, "n d"],
    real: Float64[np.ndarray, "m d"],
    same: SameFiles | None = None,
) -> KernelMeans:
    """Compute the mean kernel values behind the full-set value."""
    return kernel_means(fake, real, polynomial_kernel, same=same)


def polynomial_kernel(
    x: Float64[np.ndarray, "a d"], y: Float64[np.ndarray, "b d"]
) -> Float64[np.ndarray, "a b"]:
    """Compute (x'y / d + 1)^3 of all pairs."""
    base: np.ndarray = x @ y.T / x.shape[1] + 1
    cube: np.ndarray = base * base * base
    return cube


def _subset_values(
    x: np.ndarray, y: np.ndarray, subsets: int, size: int, seed: int
) -> Float64[np.ndarray, " subsets"]:
    # torch-fidelity's generator and order of drawing, so that the same seed gives its value.
    rng = np.random.RandomState(seed)
    values = np.empty(subsets)
    for index in range(subsets):
        first = x[rng.choice(len(x), size, replace=False)]
        second = y[rng.choice(len(y), size, replace=False)]
        values[index] = kernel_means(first, second, polynomial_kernel).unbiased()
    return values


def _needs(options: MeasureOptions) -> Sequence[Need]:
    return [features_need(options)]


def _records(task: Task) -> list[ResultRecord]:
    need, options = task.needs[0], task.options
    real = task.real(need)
    if real is None:
        reason = "KID needs the reference's features; the file holds only mean and covariance"
        return [task.not_applicable(need, reason)]
    if task.nothing_but_copies:
        return [task.not_applicable(need, task.nothing_but_copies)]
    found = kid(
        task.fake(need),
        real,
        subsets=options.kid_subsets,
        subset_size=options.kid_subset_size,
        seed=options.seed,
        fake_ids=task.fake_ids,
        real_ids=task.real_ids,
        same=SameFiles.of(task.samples.sha256s, task.reference_sha256s),
    )
    leaked = task.copies.samples_in_reference
    label = task.label(need).replace("FID", "KID").replace("FD", "KID")
    too_low = (
        f"no interval: {leaked:,} samples are images of the reference, which pulls this value "
        "below 0; see kid-full, which leaves out pairs of an image with itself"
    )
    return [
        task.record(
            need,
            value=found.value,
            standard_error=found.value_error,
            interval=None if leaked else found.interval_at(options.level),
            reason=too_low if leaked else "",
            details={"label": label, "deviation_of_subsets": found.deviation},
            marks={
                "num_subsets": found.num_subsets,
                "subset_size": found.subset_size,
                "subset_seed": options.seed,
            },
        ),
        task.record(
            need,
            value=found.full,
            metric="kid-full",
            standard_error=found.standard_error,
            interval=found.full_interval_at(options.level),
            details={"label": label},
        ),
    ]


def _interval(value: float, error: float, level: float, method: str) -> Interval:
    low, high = normal_interval(value, error, level=level)
    return Interval(low=low, high=high, level=level, method=method)


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    return [kernel_difference(first, second, "kid-full-difference", kid_means, 1.0)]


KID = Metric(_needs, _records, _difference)
