"""Texts beside images, in folders and archives: NAME.txt or NAME.json for each NAME.png.

A WebDataset is the same in tar files: the members of a sample share everything before the first
dot of their name.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from evalkit.core.errors import DataError
from evalkit.core.pixels import IMAGE_SUFFIXES
from evalkit.features.sources import ImageItem, image_items
from evalkit.layouts.place import Place
from evalkit.layouts.tables import COLUMNS

_TEXTS = (".txt", ".caption", ".json")
_MOST_BYTES = 1 << 20
"""Larger files beside an image are not its caption."""


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
    images = {_key(name) for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
    return images & {_key(name) for name in names if name.lower().endswith(_TEXTS)}


def read_beside(place: Place) -> list[ImageItem]:
    """List the images with the captions beside them.

    Raises:
        DataError: A text is not UTF-8, or a JSON file has no caption.
    """
    path = place.local
    return [
        item
        for part in _shards(path) or [path]
        for item in _captioned(image_items(part), part, place)
    ]


def _shards(path: Path) -> list[Path]:
    """Return the tar files of a folder that has nothing else; none for anything else."""
    if not path.is_dir() or any(file.suffix in IMAGE_SUFFIXES for file in path.iterdir()):
        return []
    return sorted(file for file in path.iterdir() if file.suffix == ".tar")


def _captioned(items: Sequence[ImageItem], path: Path, place: Place) -> list[ImageItem]:
    texts = _read_texts(path)
    found = []
    for item in items:
        caption, category = "", ""
        for suffix in _TEXTS:
            content = texts.get(_key(_inner(item, path)) + suffix)
            if content is not None and not caption:
                caption, category = _parse(content, suffix, f"{item.name} ({suffix})", place)
        found.append(replace(item, caption=caption or None, category=category or None))
    return found


def _parse(content: bytes, suffix: str, where: str, place: Place) -> tuple[str, str]:
    """Return caption and category of the file beside an image."""
    try:
        text = content.decode("utf-8-sig")
        if suffix != ".json":
            return text.strip(), ""
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: can't be read ({error}).") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object, got {type(row).__name__}.")
    named = [place.caption] if place.caption else COLUMNS["caption"]
    kinds = [place.category] if place.category else COLUMNS["category"]
    caption = next((row[name] for name in named if name in row), "")
    category = next((row[name] for name in kinds if name in row), "")
    if not isinstance(caption, str) or not isinstance(category, str):
        raise DataError(f"{where}: caption and category must be texts, got {caption!r}.")
    return caption.strip(), category.strip()


def _inner(item: ImageItem, path: Path) -> str:
    """Return an image's name within its folder or archive."""
    if path.is_dir():
        return Path(item.name).relative_to(path).as_posix()
    return item.name.removeprefix(f"{path}:")


def _key(name: str) -> str:
    """Return what the files of one sample share.

    >>> _key("a/0001.jpg"), _key("a/0001.seg.txt")
    ('a/0001', 'a/0001')
    """
    parts = PurePosixPath(name)
    stem = parts.name.partition(".")[0] or parts.name
    return (parts.parent / stem).as_posix()


def _names(path: Path) -> list[str]:
    if path.is_dir():
        return [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    if path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as tar:
            return tar.getnames()
    return []


def _read_texts(path: Path) -> Mapping[str, bytes]:
    """Read all texts, by the key of their sample and their ending."""
    found: dict[str, bytes] = {}

    def keep(name: str, content: bytes) -> None:
        suffix = PurePosixPath(name).suffix.lower()
        found.setdefault(_key(name) + suffix, content)

    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix.lower() in _TEXTS and file.stat().st_size <= _MOST_BYTES:
                keep(file.relative_to(path).as_posix(), file.read_bytes())
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.lower().endswith(_TEXTS) and info.file_size <= _MOST_BYTES:
                    keep(info.filename, archive.read(info))
    else:
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.lower().endswith(_TEXTS) and member.size <= _MOST_BYTES:
                    handle = tar.extractfile(member)
                    if handle is not None:
                        keep(member.name, handle.read())
    return found
