"""Squared maximum mean discrepancy of two sets under a kernel (Gretton et al. 2012), in blocks.

Every image's mean kernel value with both sets is kept, because these means are also its influence:
the standard error sums them within ids. If both sets have the same distribution, the U-statistic is
degenerate, and this standard error is up to 1.4 times too large, never too small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from evalkit.metrics.clusters import Clusters, clustered_variance

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps the rows of two sets to the matrix of kernel values."""

# Kernel values in memory at once: 128 MB.
_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class KernelMeans:
    """Each image's mean kernel value with its own set (without itself) and with the other."""

    fake_own: Float64[np.ndarray, " n"]
    fake_other: Float64[np.ndarray, " n"]
    real_own: Float64[np.ndarray, " m"]
    real_other: Float64[np.ndarray, " m"]
    fake_self: Float64[np.ndarray, " n"]
    """Kernel value of each sample with itself."""
    real_self: Float64[np.ndarray, " m"]

    def unbiased(self) -> float:
        """Return the U-statistic, which is unbiased and may be negative."""
        return float(self.fake_own.mean() + self.real_own.mean() - 2 * self.fake_other.mean())

    def biased(self) -> float:
        """Return the V-statistic, which pairs each image with itself too; never negative."""
        n, m = len(self.fake_own), len(self.real_own)
        fake = (self.fake_own.sum() * (n - 1) + self.fake_self.sum()) / n**2
        real = (self.real_own.sum() * (m - 1) + self.real_self.sum()) / m**2
        return float(fake + real - 2 * self.fake_other.mean())

    def standard_error(self, clusters: Clusters) -> float:
        """Compute the unbiased value's standard error from influences, summed within ids."""
        return float(np.sqrt(clustered_variance(clusters, *self.influences())))

    def influences(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]:
        """Compute each image's contribution to the unbiased value, over the size of its set."""
        fake = 2 * (self.fake_own - self.fake_other)
        real = 2 * (self.real_own - self.real_other)
        return (fake - fake.mean()) / len(fake), (real - real.mean()) / len(real)


def kernel_means(
    fake: Float64[np.ndarray, "n d"], real: Float64[np.ndarray, "m d"], kernel: Kernel
) -> KernelMeans:
    """Compute mean kernel values of two sets of at least two images, block by block."""
    fake_own, fake_self = _own(fake, kernel)
    real_own, real_self = _own(real, kernel)
    fake_other = np.empty(len(fake))
    real_other = np.zeros(len(real))
    step = max(1, _BLOCK_VALUES // len(real))
    for start in range(0, len(fake), step):
        block = kernel(fake[start : start + step], real)
        fake_other[start : start + len(block)] = block.mean(axis=1)
        real_other += block.sum(axis=0)
    return KernelMeans(fake_own, fake_other, real_own, real_other / len(fake), fake_self, real_self)


def _own(rows: np.ndarray, kernel: Kernel) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean kernel value of each row with the others, and with itself."""
    means, selves = np.empty(len(rows)), np.empty(len(rows))
    step = max(1, _BLOCK_VALUES // len(rows))
    for start in range(0, len(rows), step):
        block = kernel(rows[start : start + step], rows)
        stop = start + len(block)
        own = np.diagonal(block[:, start:stop])
        selves[start:stop] = own
        means[start:stop] = (block.sum(axis=1) - own) / (len(rows) - 1)
    return means, selves
