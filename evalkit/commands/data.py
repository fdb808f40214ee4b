"""`evalkit data`: draw `shapes`, find or download COCO."""

from __future__ import annotations

from pathlib import Path

from evalkit.core.files import check_folder
from evalkit.core.progress import console, progress_bar
from evalkit.datasets.coco import find_coco
from evalkit.datasets.shapes.dataset import write_shapes


def shapes(out: Path, train: int, val: int, seed: int) -> None:
    """Draw a `shapes` data set into a folder."""
    check_folder(out, "--out")
    with progress_bar(f"Drawing {train + val:,} images") as report:
        write_shapes(out, train, val, seed, on_progress=report)
    console.print(f"{out}: {train:,} training and {val:,} validation images, in COCO's format")


def coco(coco_root: Path | None) -> None:
    """Print where COCO is, after downloading it if needed and possible."""
    with progress_bar("Downloading COCO") as report:
        found = find_coco(coco_root, on_progress=report)
    console.print(
        f"{found.root}: {len(found.image_ids):,} images, {len(found.captions):,} captions, "
        f"captions hash {found.captions_sha256[:12]}"
    )
