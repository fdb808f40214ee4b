"""What a run will cost, from the first images that it makes."""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.core.progress import ProgressFactory, silent
from evalkit.generation import PreparedRun

LONG_S = 600.0
"""From this many seconds on, `evalkit fid` says what it will take."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An estimate of what is left to generate."""

    images_per_s: float
    seconds: float
    num_bytes: int
    num_images: int
    """Images that are still missing."""

    def __str__(self) -> str:
        return (
            f"{self.num_images:,} images at {self.images_per_s:.3g} images/s: "
            f"{duration(self.seconds)}, {size(self.num_bytes)} on disk"
        )


def estimate(prepared: PreparedRun, progress: ProgressFactory = silent) -> Cost:
    """Generate the first batch of a run, which stays part of it, and extrapolate.

    The time of measuring is not included.
    """
    prepared.generate(progress, num_batches=1)
    rows = prepared.run.rows()
    sizes = [prepared.run.image_path(row).stat().st_size for row in rows if row.file is not None]
    timings = prepared.run.timings()
    seconds = sum(row["elapsed_s"] for row in timings)
    images = sum(row["num_images"] for row in timings)
    rate = images / seconds if seconds else float("inf")
    missing = len(prepared.items) - len(rows)
    each = sum(sizes) / len(sizes) if sizes else 0.0
    return Cost(
        images_per_s=rate,
        seconds=missing / rate,
        num_bytes=round(missing * each),
        num_images=missing,
    )


def duration(seconds: float) -> str:
    """Format seconds for an estimate.

    >>> duration(30), duration(600), duration(9000)
    ('under a minute', '10 minutes', '2.5 hours')
    """
    if seconds < 60:
        return "under a minute"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def size(num_bytes: float) -> str:
    """Format a size for an estimate.

    >>> size(900), size(2.5e9)
    ('0.0 MB', '2.5 GB')
    """
    if num_bytes < 1e9:
        return f"{num_bytes / 1e6:.1f} MB"
    return f"{num_bytes / 1e9:.1f} GB"
