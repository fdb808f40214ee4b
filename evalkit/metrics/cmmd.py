"""CMMD (Jayasumana et al. 2024): squared MMD of CLIP embeddings of length 1, times 1,000.

The kernel is exp(-|x - y|^2 / (2 * 10^2)), the network CLIP ViT-L/14 at 336 px. The original code
uses the biased V-statistic; the unbiased U-statistic is reported as well, with an interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalkit.core.intervals import normal_interval
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.clip_score import unit_length
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.mmd import KernelMeans, SameFiles, kernel_means
from evalkit.metrics.pairing import kernel_difference
from evalkit.metrics.task import Metric, Need, Task, extractor_key
from evalkit.options import MeasureOptions

CLIP_MODEL = "ViT-L/14@336px"
MIN_IMAGES = 2
_SIGMA = 10.0
SCALE = 1000.0
NO_INTERVAL = "no interval: the V-statistic is biased upward; see cmmd-unbiased"


@dataclass(frozen=True, kw_only=True)
class ClipMmd:
    """CMMD of two sets; lower is better."""

    value: float
    """The V-statistic, as the original code reports it."""
    unbiased: float
    """The U-statistic; it may be negative."""
    standard_error: float
    """Standard error of the unbiased value."""

    def interval_at(self, level: float) -> Interval:
        """Return the interval of `unbiased`; the V-statistic has none."""
        low, high = normal_interval(self.unbiased, self.standard_error, level=level)
        method = "normal interval, standard error from the influence of each image"
        return Interval(low=low, high=high, level=level, method=method)


def cmmd(
    fake: Any,
    real: Any,
    *,
    fake_ids: Sequence[str] | None = None,
    real_ids: Sequence[str] | None = None,
    same: SameFiles | None = None,
) -> ClipMmd:
    """Compute the CMMD of two sets of CLIP image embeddings of non-zero length.

    Args:
        fake: Embeddings of the samples, images x dimensions.
        real: Embeddings of the reference images.
        fake_ids: One id per sample; images with the same id are one draw.
        real_ids: One id per reference image.
        same: Which images are copies; pairs of them don't count in `unbiased`.

    Raises:
        DataError: The wrong shape, different dimensions, or values that are not finite.
        NotEnoughImagesError: Fewer than two images in a set.

    >>> a, b = [[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]
    >>> round(cmmd(a, b).value, 6)  # 2000 (1 - exp(-2 / 200))
    19.900333
    """
    x = as_features(fake, name="samples", minimum=MIN_IMAGES)
    y = as_features(real, name="reference", minimum=MIN_IMAGES)
    refuse_mismatch(x.shape[1], y.shape[1])
    means = cmmd_means(x, y, same)
    clusters = Clusters.of(len(x), len(y), fake_ids, real_ids)
    return ClipMmd(
        value=SCALE * means.biased(),
        unbiased=SCALE * means.unbiased(),
        standard_error=SCALE * means.standard_error(clusters),
    )


def cmmd_means(
    fake: Float64[np.ndarray, "n d"],
    real: Float64[np.ndarray, "m d"],
    same: SameFiles | None = None,
) -> KernelMeans:
    """Compute the mean kernel values of embeddings of non-zero length, without the factor 1,000."""
    x, y = unit_length(fake, name="samples"), unit_length(real, name="reference")
    return kernel_means(x, y, gaussian_kernel, same=same)


def gaussian_kernel(
    x: Float64[np.ndarray, "a d"], y: Float64[np.ndarray, "b d"]
) -> Float64[np.ndarray, "a b"]:
    """Compute exp(-|x - y|^2 / (2 sigma^2)) of all pairs."""
    squared = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * (x @ y.T)
    values: np.ndarray = np.exp(squared.clip(min=0) / (-2 * _SIGMA**2))
    return values


def _needs(options: MeasureOptions) -> Sequence[Need]:
    del options
    return [Need(extractor_key(CLIP_MODEL), "")]


def _records(task: Task) -> list[ResultRecord]:
    need = task.needs[0]
    real = task.real(need)
    if real is None:
        reason = "CMMD needs the reference's embeddings; the file holds only mean and covariance"
        return [task.not_applicable(need, reason)]
    if task.nothing_but_copies:
        return [task.not_applicable(need, task.nothing_but_copies)]
    found = cmmd(
        task.fake(need),
        real,
        fake_ids=task.fake_ids,
        real_ids=task.real_ids,
        same=SameFiles.of(task.samples.sha256s, task.reference_sha256s),
    )
    return [
        task.record(
            need,
            value=found.value,
            standard_error=found.standard_error,
            reason=NO_INTERVAL,
            details={"label": "CMMD"},
        ),
        task.record(
            need,
            value=found.unbiased,
            metric="cmmd-unbiased",
            standard_error=found.standard_error,
            interval=found.interval_at(task.options.level),
            details={"label": "CMMD, unbiased"},
        ),
    ]


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    return [kernel_difference(first, second, "cmmd-unbiased-difference", cmmd_means, SCALE)]


CMMD = Metric(_needs, _records, _difference)
