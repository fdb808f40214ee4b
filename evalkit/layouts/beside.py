"""Texts beside images, in folders and archives: NAME.txt, .json or .cls for each NAME.png.

A WebDataset is the same in tar files: the members of a sample share everything before the first
dot of their name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from evalkit.core.archives import is_archive
from evalkit.core.errors import DataError
from evalkit.core.image_files import scan
from evalkit.core.pixels import image_suffixes
from evalkit.core.tables import ByteSource, parse_json, read_text
from evalkit.features.sources import ImageItem, image_items
from evalkit.layouts.place import Place
from evalkit.layouts.tables import COLUMNS

_TEXTS = (".txt", ".caption", ".json", ".cls")
"""Captions, captions and categories, and the classes of a WebDataset."""


def images_of(place: Place) -> list[ImageItem]:
    """List the images of a folder or archive, or of a folder of tar files (shards)."""
    path = place.local
    shards = _shards(path)
    return [item for shard in shards for item in image_items(shard)] or image_items(path)


def has_texts(path: Path) -> bool:
    """Return whether any image of a folder or archive has a text beside it."""
    return any(_pairs(_names(part)) for part in _shards(path) or [path])


def _pairs(names: Sequence[str]) -> set[str]:
    """Return the samples that have an image and a text."""
    images = {_key(name) for name in names if name.lower().endswith(tuple(image_suffixes()))}
    return images & {_key(name) for name in names if name.lower().endswith(_TEXTS)}


def read_beside(place: Place) -> list[ImageItem]:
    """List the images with the captions beside them.

    Raises:
        DataError: A text is not UTF-8, or a JSON file has no caption.
    """
    path = place.local
    return [item for part in _shards(path) or [path] for item in _captioned(part, place)]


def _shards(path: Path) -> list[Path]:
    """Return the tar files of a folder that has nothing else; none for anything else."""
    if not path.is_dir() or any(file.suffix.lower() in image_suffixes() for file in path.iterdir()):
        return []
    return sorted(file for file in path.iterdir() if file.suffix == ".tar")


def _captioned(path: Path, place: Place) -> list[ImageItem]:
    files = scan(path)
    texts = _texts(files.others)
    found = []
    for name, source in files.images.items():
        caption, category = "", ""
        for suffix in _TEXTS:
            text = texts.get(_key(name) + suffix)
            if text is not None:
                said, kind = _parse(text, suffix, f"{source} ({suffix})", place)
                caption, category = caption or said, category or kind
        found.append(ImageItem(source, caption=caption or None, category=category or None))
    return found


def _parse(source: ByteSource, suffix: str, where: str, place: Place) -> tuple[str, str]:
    """Return caption and category of the file beside an image."""
    text = read_text(source)
    if suffix != ".json":
        return ("", text.strip()) if suffix == ".cls" else (text.strip(), "")
    row: Any = parse_json(text, source=where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, got {type(row).__name__}.")
    named = [place.caption] if place.caption else COLUMNS["caption"]
    kinds = [place.category] if place.category else COLUMNS["category"]
    caption = next((row[name] for name in named if name in row), "")
    category = next((row[name] for name in kinds if name in row), "")
    if isinstance(category, int) and not isinstance(category, bool):
        category = str(category)
    if not isinstance(caption, str) or not isinstance(category, str):
        raise DataError(f"{where}: caption and category must be texts, got {caption!r}.")
    return caption.strip(), category.strip()


def _key(name: str) -> str:
    """Return what the files of one sample share.

    >>> _key("a/0001.jpg"), _key("a/0001.seg.txt")
    ('a/0001', 'a/0001')
    """
    parts = PurePosixPath(name)
    stem = parts.name.partition(".")[0] or parts.name
    return (parts.parent / stem).as_posix()


def _names(path: Path) -> list[str]:
    if not path.is_dir() and not is_archive(path):
        return []
    files = scan(path)
    return [*files.images, *files.others]


def _texts(others: Mapping[str, ByteSource]) -> dict[str, ByteSource]:
    """Return the texts among the files, by the key of their sample and their ending."""
    found: dict[str, ByteSource] = {}
    for name, source in others.items():
        suffix = PurePosixPath(name).suffix.lower()
        if suffix in _TEXTS:
            found.setdefault(_key(name) + suffix, source)
    return found
