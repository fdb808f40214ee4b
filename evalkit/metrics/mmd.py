"""Squared maximum mean discrepancy of two sets under a kernel (Gretton et al. 2012), in blocks.

Every image's mean kernel value with both sets is kept, because these means are also its influence:
the standard error sums them within ids. If both sets have the same distribution, the U-statistic is
degenerate, and this standard error is up to 1.4 times too large, never too small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from evalkit.metrics.clusters import Clusters, clustered_variance

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Maps the rows of two sets to the matrix of kernel values."""

# Kernel values in memory at once: 128 MB.
_BLOCK_VALUES = 1 << 24


@dataclass(frozen=True)
class SameFiles:
    """Which images are copies: those of equal numbers, within and between samples and reference.

    Copies are one draw, so two of them are no pair of draws.
    """

    fake: Int64[np.ndarray, " n"]
    real: Int64[np.ndarray, " m"]

    @classmethod
    def of(cls, fake: Sequence[str], real: Sequence[str]) -> SameFiles | None:
        """Find them by the hashes of the files; None if there are no copies.

        >>> found = SameFiles.of(["a", "b"], ["b", "c"])
        >>> int(found.fake[1]) == int(found.real[0])
        True
        """
        if len(set(fake) | set(real)) == len(fake) + len(real):
            return None
        _, codes = np.unique([*fake, *real], return_inverse=True)
        codes = codes.astype(np.int64)
        return cls(codes[: len(fake)], codes[len(fake) :])


@dataclass(frozen=True)
class KernelMeans:
    """Each image's mean kernel value with its own set and the other, without itself and copies."""

    fake_own: Float64[np.ndarray, " n"]
    fake_other: Float64[np.ndarray, " n"]
    real_own: Float64[np.ndarray, " m"]
    real_other: Float64[np.ndarray, " m"]
    all_fake: float
    """Mean kernel value of all pairs of samples, each with itself and its copies included."""
    all_real: float
    all_between: float
    """The same of a sample and a reference image."""

    def unbiased(self) -> float:
        """Return the U-statistic, which is unbiased and may be negative."""
        return float(self.fake_own.mean() + self.real_own.mean() - 2 * self.fake_other.mean())

    def biased(self) -> float:
        """Return the V-statistic, which pairs each image with itself too; never negative."""
        return self.all_fake + self.all_real - 2 * self.all_between

    def standard_error(self, clusters: Clusters) -> float:
        """Compute the unbiased value's standard error from influences, summed within ids."""
        return float(np.sqrt(clustered_variance(clusters, *self.influences())))

    def influences(self) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " m"]]:
        """Compute each image's contribution to the unbiased value, over the size of its set."""
        fake = 2 * (self.fake_own - self.fake_other)
        real = 2 * (self.real_own - self.real_other)
        return (fake - fake.mean()) / len(fake), (real - real.mean()) / len(real)


def kernel_means(
    fake: Float64[np.ndarray, "n d"],
    real: Float64[np.ndarray, "m d"],
    kernel: Kernel,
    *,
    same: SameFiles | None = None,
) -> KernelMeans:
    """Compute mean kernel values of two sets, block by block.

    Args:
        fake: The samples, of two different images at least.
        real: The reference, of as many.
        kernel: The kernel.
        same: Which images are copies; pairs of them are left out, like an image and itself.
    """
    fake_own, fake_all = _own(fake, kernel, None if same is None else same.fake)
    real_own, real_all = _own(real, kernel, None if same is None else same.real)
    total = 0.0
    fake_sum, fake_count = np.empty(len(fake)), np.full(len(fake), float(len(real)))
    real_sum, real_count = np.zeros(len(real)), np.full(len(real), float(len(fake)))
    step = max(1, _BLOCK_VALUES // len(real))
    for start in range(0, len(fake), step):
        rows = slice(start, min(start + step, len(fake)))
        block = kernel(fake[rows], real)
        total += float(block.sum())
        if same is not None:
            copies = same.fake[rows, None] == same.real
            block[copies] = 0.0
            fake_count[rows] -= copies.sum(axis=1)
            real_count -= copies.sum(axis=0)
        fake_sum[rows] = block.sum(axis=1)
        real_sum += block.sum(axis=0)
    return KernelMeans(
        fake_own=fake_own,
        fake_other=fake_sum / fake_count,
        real_own=real_own,
        real_other=real_sum / real_count,
        all_fake=fake_all,
        all_real=real_all,
        all_between=total / len(fake) / len(real),
    )


def _own(rows: np.ndarray, kernel: Kernel, files: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Compute the mean kernel value of each row with the others, and the mean of all pairs.

    Copies of a row are not others, but among all pairs, as each row with itself is.
    """
    means, total = np.empty(len(rows)), 0.0
    step = max(1, _BLOCK_VALUES // len(rows))
    for start in range(0, len(rows), step):
        block = kernel(rows[start : start + step], rows)
        stop = start + len(block)
        total += float(block.sum())
        if files is None:
            own = np.diagonal(block[:, start:stop])
            means[start:stop] = (block.sum(axis=1) - own) / (len(rows) - 1)
            continue
        others = files[start:stop, None] != files
        means[start:stop] = (block * others).sum(axis=1) / others.sum(axis=1)
    return means, total / len(rows) ** 2
