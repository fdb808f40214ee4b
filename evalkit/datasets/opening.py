"""Data sets by name or path."""

from __future__ import annotations

from pathlib import Path

from evalkit.catalog import DATASETS
from evalkit.datasets.base import CaptionedFiles, CaptionedImages
from evalkit.datasets.coco import find_coco, load_coco
from evalkit.datasets.image_folder import load_image_folder
from evalkit.datasets.shapes import load_shapes
from evalkit.errors import ConfigError, MissingDataError
from evalkit.features.base import ProgressFactory, silent
from evalkit.registry import load, third_party, unknown

CAPTION_TABLES = ("captions.jsonl", "captions.csv")
SPLITS = ("val2014", "val", "val2017")
"""Splits of a COCO-format folder that are tried, in this order."""


def open_dataset(
    name: str, *, coco_root: Path | None = None, progress: ProgressFactory = silent
) -> CaptionedImages:
    """The validation split of a data set.

    Args:
        name: `coco`, `shapes`, a folder in COCO's format (`annotations/captions_*.json`), or a
            folder of images with `captions.jsonl` or `captions.csv`.
        coco_root: Where COCO is, for `coco` only.
        progress: Shown while a data set is drawn or fetched.

    Raises:
        ConfigError: `coco_root` for another data set.
        MissingDataError: Nothing of the name is on this machine or reachable.
        UnknownNameError: Neither a known name nor an existing folder.
    """
    if coco_root is not None and name != "coco":
        raise ConfigError(f"--coco-root goes with --coco, not with --data {name}")
    if name == "coco":
        with progress("Fetching COCO") as report:
            return find_coco(coco_root, on_progress=report)
    if name == "shapes":
        with progress("Drawing shapes") as report:
            return load_shapes(on_progress=report)
    others = third_party("datasets")
    if name in others:
        return load(others[name])()  # type: ignore[no-any-return]
    if Path(name).is_dir():
        return _open_folder(Path(name))
    if "/" in name or "." in name:
        raise MissingDataError(f"--data {name}: no such folder")
    raise unknown(name, [*DATASETS, *others], kind="data sets")


def _open_folder(root: Path) -> CaptionedFiles:
    present = sorted(path.stem for path in root.glob("annotations/captions_*.json"))
    splits = [stem.removeprefix("captions_") for stem in present]
    for split in (*SPLITS, *splits):
        if split in splits:
            return load_coco(root, split, name=root.resolve().name)
    for table in CAPTION_TABLES:
        if (root / table).is_file():
            return load_image_folder(root, captions=root / table)
    return load_image_folder(root)
