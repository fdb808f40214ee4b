"""Count what a copy of a data set holds, and compare it with what was published."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from evalkit.core.errors import DataError
from evalkit.core.pixels import file_header
from evalkit.core.progress import ProgressFactory, silent
from evalkit.datasets.base import CaptionedImages


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published counts of a data set; None where nobody states one."""

    images: int
    captions: int | None = None


COUNTS = {
    "coco": Published(images=40_504, captions=202_654),
    "coco-val2017": Published(images=5_000),
    "mjhq": Published(images=30_000, captions=30_000),
    "cifar10": Published(images=50_000),
}
"""Counts by the data set's name in the catalog. COCO's captions are from memory of others."""


def differences_from_published(dataset: CaptionedImages, name: str) -> list[str]:
    """Say in lines in what the counts differ from the published ones; empty if they agree.

    Args:
        dataset: An open data set.
        name: Its name in the catalog.
    """
    published = COUNTS.get(name)
    if published is None:
        return []
    found = []
    pairs = (
        ("images", len(dataset.image_ids), published.images),
        ("captions", len(dataset.captions), published.captions),
    )
    for what, seen, expected in pairs:
        if expected is not None and seen != expected:
            found.append(f"Differs: {seen:,} {what}, {name} has {expected:,}.")
    return found


def colour_modes(dataset: CaptionedImages, progress: ProgressFactory = silent) -> dict[str, int]:
    """Count the colour modes of the image files, most frequent first; headers are read only.

    Unreadable files count as `unreadable`.
    """
    counts: Counter[str] = Counter()
    with progress("Reading colour modes") as report:
        for number, image_id in enumerate(dataset.image_ids, start=1):
            try:
                counts[file_header(dataset.image_path(image_id)).mode] += 1
            except DataError:
                counts["unreadable"] += 1
            report(number, len(dataset.image_ids))
    return dict(counts.most_common())
