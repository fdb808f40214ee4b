"""One's own images as training data: read in any layout, held out in part, decoded when needed.

Images and captions are found by `evalkit.layouts` and `evalkit.datasets`; what a recipe can train
on them is decided here. Only names, captions and classes are held in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from evalkit.catalog import DATASETS as CATALOG
from evalkit.core.errors import ConfigError
from evalkit.core.image_files import scan
from evalkit.core.progress import ProgressFactory
from evalkit.datasets.base import Caption, id_order
from evalkit.datasets.caption_tables import NAME, TEXT, find_tables
from evalkit.datasets.coco import load_coco
from evalkit.datasets.image_folder import open_captioned_set
from evalkit.features.sources import ImageItem, Preparation, load_image
from evalkit.layouts.catalog import layout_of, open_images
from evalkit.layouts.place import DATASETS, SCHEME, Place, parse_place
from evalkit.layouts.tables import read_table

MOST_CHECKED = 20_000
"""Images that are all decoded once before the training; of more, none are."""
_CHECK_ROWS = 32
_TRAIN = re.compile(r"train(ing)?([^a-z].*)?", re.IGNORECASE)
_VALIDATION = re.compile(r"(val|valid|validation)([^a-z].*)?", re.IGNORECASE)
_HELD_BACK = re.compile(r"(val|valid|validation|test|testing|dev|eval)([^a-z].*)?", re.IGNORECASE)
_MOST_NAMED = 8


@dataclass(frozen=True)
class OwnImages:
    """Training data whose images are decoded when they are asked for."""

    items: Sequence[ImageItem]
    captions: Sequence[Sequence[str]]
    """Of each image; one empty caption where there are none."""
    labels: np.ndarray
    """int64, N; -1 where the network learns no classes."""
    image_px: int

    def __len__(self) -> int:
        return len(self.items)

    def pixels(self, rows: Sequence[int]) -> UInt8[np.ndarray, "rows height width 3"]:
        """Decode images, crop the largest centred square of each and resize it (bicubic).

        Raises:
            DataError: A file can't be decoded; the message names it.
        """
        how = Preparation(crop="center", size_px=self.image_px)
        return np.stack([load_image(self.items[row], how) for row in rows])

    def check(self, progress: ProgressFactory) -> None:
        """Decode each image once, if they aren't too many, so that a broken one is found now.

        Raises:
            DataError: A file can't be decoded.
        """
        if len(self) > MOST_CHECKED:
            return
        starts = range(0, len(self), _CHECK_ROWS)
        parts = [range(start, min(start + _CHECK_ROWS, len(self))) for start in starts]
        pool = ThreadPoolExecutor(os.cpu_count() or 1)
        try:
            with progress(f"Reading {len(self):,} images") as report:
                for part, _ in zip(parts, pool.map(self.pixels, parts), strict=True):
                    report(part.stop, len(self))
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class OwnData:
    """What a place holds, split into what is trained on and what is held out."""

    title: str
    train: OwnImages
    held_out: OwnImages | None
    classes: tuple[str, ...]
    fingerprint: str
    """Hash of the names, captions and classes of all images."""
    notes: tuple[str, ...] = ()
    """What was left out, a sentence each."""


@dataclass(frozen=True)
class _Found:
    """Captioned images of a place, in a fixed order."""

    title: str
    names: Sequence[str]
    items: Sequence[ImageItem]
    notes: tuple[str, ...] = ()

    def keep(self, rows: Sequence[int], *notes: str) -> _Found:
        return replace(
            self,
            names=[self.names[row] for row in rows],
            items=[self.items[row] for row in rows],
            notes=(*self.notes, *notes),
        )


def open_own_data(
    text: str,
    *,
    image_px: int,
    hold_out: float,
    seed: int,
    captions: bool,
    classes: bool,
) -> OwnData:
    """Open one's own images to train on.

    Args:
        text: A folder, an archive, `folder:PATH?KEY=VALUE`, or `datasets:NAME`.
        image_px: Edge of the images.
        hold_out: Share of the images that are held out, by the hash of their names.
        seed: Of that choice.
        captions: Whether the network reads captions.
        classes: Whether it learns classes.

    Raises:
        MissingDataError: There is nothing at the place.
        ConfigError: It is a data set to evaluate on, or a validation split; or the images have no
            captions or classes, which the network needs.
        DataError: There is no image, or captions don't fit the images.
    """
    found = _without_held_back(_open(text))
    if captions and not all(item.captions for item in found.items):
        raise ConfigError(
            f"{found.title}: the images have no captions, which this network reads. Put NAME.txt "
            "beside each NAME.jpg, or a metadata.csv with file_name and text beside them."
        )
    kinds = _kinds(found) if classes else []
    names = sorted(set(kinds), key=id_order)
    numbers = {name: number for number, name in enumerate(names)}
    digest = hashlib.sha256()
    for row, (name, item) in enumerate(zip(found.names, found.items, strict=True)):
        line = [name, list(item.captions), kinds[row] if kinds else None]
        digest.update(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    held = _held_out(found.names, hold_out, seed)

    def part(rows: Sequence[int]) -> OwnImages:
        return OwnImages(
            [found.items[row] for row in rows],
            [found.items[row].captions or ("",) for row in rows],
            np.array([numbers[kinds[row]] if kinds else -1 for row in rows], np.int64),
            image_px,
        )

    return OwnData(
        title=found.title,
        train=part([row for row in range(len(found.names)) if row not in held]),
        held_out=part(sorted(held)) if held else None,
        classes=tuple(names),
        fingerprint=digest.hexdigest(),
        notes=found.notes,
    )


def _held_out(names: Sequence[str], share: float, seed: int) -> set[int]:
    """Choose the images whose hash is smallest: the same on each machine, and in any order."""
    if not 0 <= share < 1:
        raise ConfigError(f"--hold-out must be at least 0 and below 1, got {share:g}.")
    count = min(max(1, round(share * len(names))), len(names) - 1) if share else 0
    ranks = [hashlib.sha256(f"{seed}/{name}".encode()).digest() for name in names]
    return set(sorted(range(len(names)), key=lambda row: (ranks[row], row))[:count])


def _kinds(found: _Found) -> list[str]:
    """Return the class of each image: that of its table, or the subfolder that it is in.

    Raises:
        ConfigError: An image has neither.
    """
    kinds = [item.category or "" for item in found.items]
    if not all(kinds):
        kinds = [name.rpartition("/")[0] for name in found.names]
    bare = [name for name, kind in zip(found.names, kinds, strict=True) if not kind]
    if bare:
        raise ConfigError(
            f"{found.title}: {len(bare):,} of {len(kinds):,} images have no class, which this "
            f"network learns; the first is {bare[0]}. Give each class a subfolder, or a table a "
            "column 'category' or 'label'."
        )
    return kinds


def _open(text: str) -> _Found:
    if text == "shapes":
        raise ConfigError("--data shapes: recipes are trained on shapes without --data. Omit it.")
    if text in CATALOG:
        raise ConfigError(
            f"--data {text}: evalkit evaluates on this data set, so it is not trained on. Give the "
            "folder of its training images."
        )
    place = parse_place(text)
    if place.is_dataset:
        return _from_layout(_training_split(place))
    root = place.local
    annotations = sorted((root / "annotations").glob("captions_*.json"))
    if annotations:
        return _from_coco(root, [path.stem.removeprefix("captions_") for path in annotations])
    _refuse_validation_folder(root)
    layout = layout_of(place)
    if layout == "parquet" and root.is_dir():  # random rows of a parquet file are slow to read
        return _from_layout(_training_split(replace(place, path=f"{DATASETS}{root}")))
    if layout in ("table", "plain") and _has_standard_tables(place):
        captioned = open_captioned_set(root)
        by_image: dict[str, list[Caption]] = {name: [] for name in captioned.files.images}
        for caption in captioned.captions:
            by_image[caption.image_id].append(caption)
        notes = (
            [f"{captioned.num_without_caption:,} images without a caption left out"]
            if captioned.num_without_caption
            else []
        )
        named = {name: said for name, said in by_image.items() if said}
        items = [_item(captioned.files.images[n], said) for n, said in named.items()]
        return _Found(place.title, [*named], items, tuple(notes))
    return _from_layout(place)


def _from_layout(place: Place) -> _Found:
    images = open_images(_text_of(place))
    names = [_below(str(item.path), place) for item in images.items]
    return _Found(place.title, names, list(images.items))


def _from_coco(root: Path, splits: Sequence[str]) -> _Found:
    """Read a folder in COCO's format: its training split, never another one."""
    chosen = [split for split in splits if _TRAIN.fullmatch(split)]
    if len(chosen) != 1:
        raise ConfigError(
            f"{root} has captions of {', '.join(splits)}, expected one split named train. A "
            "validation split is never trained on."
        )
    data = load_coco(root, chosen[0], name=root.resolve().name)
    by_image: dict[str, list[Caption]] = {}
    for caption in data.captions:
        by_image.setdefault(caption.image_id, []).append(caption)
    names = [data.image_files[image_id] for image_id in by_image]
    items = [_item(data.image_path(image_id), said) for image_id, said in by_image.items()]
    return _Found(data.name, names, items)


def _item(source: object, captions: Sequence[Caption]) -> ImageItem:
    texts = [caption.text for caption in captions]
    kinds = [str(c.label) if c.label is not None else c.kind for c in captions]
    return ImageItem(
        source,  # type: ignore[arg-type]
        caption=texts[0],
        other_captions=tuple(texts[1:]),
        category=kinds[0],
    )


def _has_standard_tables(place: Place) -> bool:
    """Return whether all tables of a set name images and captions as `imagefolder` does.

    Those may be in each subfolder, and may give an image several captions.
    """
    if place.layout or place.captions or place.image or place.caption or place.category:
        return False
    if not place.local.is_dir():
        return bool(find_tables(scan(place.local)))
    files = scan(place.local)
    tables = find_tables(files)
    headers = [read_table(Path(str(files.others[name])))[0].cells for name in tables]
    return bool(headers) and all(NAME in cells and TEXT in cells for cells in headers)


def _training_split(place: Place) -> Place:
    """Choose the training split of a data set of the hub; refuse any that is for evaluation.

    Raises:
        ConfigError: A validation or test split is named.
    """
    rest = place.path.removeprefix(DATASETS)
    if Path(rest).is_dir():
        return replace(place, path=f"{DATASETS}{rest}:train", name=place.name or Path(rest).name)
    name, _, split = rest.partition(":")
    for part in split.split("+"):
        if _HELD_BACK.fullmatch(part.strip()):
            raise ConfigError(
                f"--data {place.path}: {part.strip()!r} is a split to evaluate on, which is never "
                f"trained on. Use {DATASETS}{name}:train."
            )
    return replace(
        place,
        path=f"{DATASETS}{name}:{split or 'train'}",
        name=place.name or name.partition("@")[0].split("/")[-1],
    )


def _refuse_validation_folder(root: Path) -> None:
    """Refuse what is named like a validation split, and a test split that has a training split."""
    path = root.resolve()
    beside = sorted(other for other in path.parent.glob("train*") if _TRAIN.fullmatch(other.stem))
    if _VALIDATION.fullmatch(path.stem) or (beside and _HELD_BACK.fullmatch(path.stem)):
        advice = f"Use {beside[0]}" if beside else "Give the training images, or rename it"
        raise ConfigError(
            f"--data {root}: by its name a validation split, which is never trained on. {advice}."
        )


def _without_held_back(found: _Found) -> _Found:
    """Leave out the folders or shards of validation, where there are such of training.

    Raises:
        ConfigError: All images are in folders of validation.
    """
    heads = [_head(name) for name in found.names]
    if heads and all(_HELD_BACK.fullmatch(head) for head in heads):
        raise ConfigError(
            f"{found.title}: all images are in {', '.join(sorted({*heads})[:_MOST_NAMED])}, by its "
            "name a split for validation, which is never trained on. Give the training images."
        )
    if not any(head and _TRAIN.fullmatch(head) for head in heads):
        return found
    dropped = [row for row, head in enumerate(heads) if head and _HELD_BACK.fullmatch(head)]
    if not dropped:
        return found
    gone = set(dropped)
    kept = [row for row in range(len(heads)) if row not in gone]
    folders = list(dict.fromkeys(heads[row] for row in dropped))[:_MOST_NAMED]
    note = f"{len(dropped):,} images of {', '.join(folders)} left out: never trained on"
    return found.keep(kept, note)


def _head(name: str) -> str:
    """Return the folder or shard that a name begins with; empty for a file at the top.

    >>> _head("val/1.png"), _head("train-00.tar:1.png"), _head("1.png")
    ('val', 'train-00', '')
    """
    first = re.match(r"([^/:]+)[/:]", name)
    return first.group(1).partition(".")[0] if first else ""


def _below(name: str, place: Place) -> str:
    """Return the name of an image below its place."""
    for root in (place.local, place.local.resolve()):
        if name.startswith(str(root)):
            return name.removeprefix(str(root)).lstrip("/:\\").replace("\\", "/")
    return name


def _text_of(place: Place) -> str:
    """Return the text that `parse_place` reads as this place."""
    keys: Mapping[str, str] = {k: v for k, v in vars(place).items() if k != "path" and v}
    if not keys:
        return place.path
    return f"{SCHEME}{place.path}?" + "&".join(f"{key}={value}" for key, value in keys.items())


def first_captions(data: OwnImages, most: int) -> Iterator[str]:
    """Yield captions, those of the first images first, at most so many."""
    left = most
    for said in data.captions:
        yield from said[:left]
        left -= len(said)
        if left <= 0:
            return
