"""Data sets that are a folder of the user's: found by name, through a variable or in the cache.

`$EVALKIT_IMAGENET`, or `imagenet` in the cache folder, is ImageNet with a subfolder for each class;
`mjhq` and `cifar10` likewise. `--data FOLDER` opens any of them, too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.core.downloads import cache_root
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pixels import encode_png
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import write_atomically
from evalkit.core.tables import parse_json, read_text
from evalkit.datasets.base import Caption, CaptionedFiles, FileOrder, check_inside, id_order
from evalkit.datasets.image_folder import load_image_folder

MJHQ_COUNT = 30_000
_CIFAR_FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
_CIFAR_RECORD = 1 + 3 * 32 * 32
"""Bytes of one image: its class, then the planes of red, green and blue."""


def locate(name: str, root: Path | str | None = None) -> Path:
    """Return the folder of a data set: `root`, `$EVALKIT_NAME`, or its place in the cache.

    Raises:
        MissingDataError: There is no such folder.
    """
    variable = f"EVALKIT_{name.upper()}"
    named = root or os.environ.get(variable)
    folder = Path(named) if named else cache_root() / name
    if not folder.is_dir():
        raise MissingDataError(
            f"{name} is not in {folder}. Set {variable}=FOLDER, put the folder there, or give it "
            f"with --data FOLDER; see docs/protocols.md for the layout."
        )
    return folder


def open_imagenet(
    root: Path | str | None = None, *, on_progress: ProgressCallback | None = None
) -> CaptionedFiles:
    """Open ImageNet: a subfolder for each class.

    Raises:
        MissingDataError: Not found.
        DataError: The folder holds no image.
    """
    del on_progress
    return load_image_folder(locate("imagenet", root), name="imagenet")


def open_mjhq(
    root: Path | str | None = None, *, on_progress: ProgressCallback | None = None
) -> CaptionedFiles:
    """Open MJHQ-30K: `meta_data.json` and `imgs/CATEGORY/KEY.jpg`, in the order of the file.

    Raises:
        MissingDataError: Not found.
        DataError: `meta_data.json` is damaged, or an image that it lists is missing.
    """
    del on_progress
    folder = locate("mjhq", root)
    path = folder / "meta_data.json"
    if not path.is_file():
        raise MissingDataError(f"{path} not found; MJHQ-30K has it beside imgs/.")
    entries = parse_json(read_text(path), source=str(path))
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{path}: expected an object of prompts by key.")
    captions = [_mjhq_caption(key, entry, path) for key, entry in entries.items()]
    files = {c.image_id: f"imgs/{c.kind}/{c.image_id}.jpg" for c in captions}
    missing = [name for name in files.values() if not (folder / name).is_file()]
    if missing:
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise DataError(f"{folder / missing[0]}: the image of {path.name} is missing{more}.")
    ordered = tuple(sorted(captions, key=lambda caption: id_order(caption.id)))
    order = FileOrder([c.id for c in captions], [c.image_id for c in captions])
    return CaptionedFiles("mjhq", folder, ordered, files, "mjhq", order)


def is_mjhq(folder: Path) -> bool:
    """Return whether a folder has MJHQ-30K's layout."""
    return (folder / "meta_data.json").is_file() and (folder / "imgs").is_dir()


def _mjhq_caption(key: str, entry: Any, path: Path) -> Caption:
    fields: Mapping[str, Any] = entry if isinstance(entry, Mapping) else {}
    prompt, category = fields.get("prompt"), fields.get("category")
    if not isinstance(prompt, str) or not prompt.strip() or not isinstance(category, str):
        raise DataError(f"{path}: {key!r} needs a 'prompt' and a 'category', got {entry!r:.80}.")
    check_inside(f"{category}/{key}", where=str(path))
    return Caption(key, key, prompt.strip(), kind=category)


def open_cifar10(
    root: Path | str | None = None,
    split: str = "train",
    *,
    on_progress: ProgressCallback | None = None,
) -> CaptionedFiles:
    """Open CIFAR-10: the folder of its binary version, or of images with a subfolder per class.

    The binary version is written to PNG files in the cache at first use; its pickled version is
    refused, since reading it could execute code.

    Raises:
        MissingDataError: Not found.
        DataError: A file is truncated, or holds no CIFAR-10.
    """
    folder = locate("cifar10", root)
    names = _CIFAR_FILES[split]
    if not all((folder / name).is_file() for name in names):
        if (folder / "data_batch_1").is_file():
            raise DataError(
                f"{folder}: this is the pickled version of CIFAR-10, and evalkit unpickles "
                "nothing. Give the binary version (data_batch_1.bin and so on), or a folder of "
                "images."
            )
        inner = folder / split
        return load_image_folder(inner if inner.is_dir() else folder, name="cifar10")
    written = folder / f"png-{split}"
    if not (written / ".complete").is_file():
        _write_cifar([folder / name for name in names], written, on_progress)
    return load_image_folder(written, name="cifar10")


def is_cifar10(folder: Path) -> bool:
    """Return whether a folder has the binary version of CIFAR-10."""
    return (folder / "data_batch_1.bin").is_file()


def _write_cifar(files: list[Path], target: Path, report: ProgressCallback | None) -> None:
    rows = np.concatenate([_cifar_rows(path) for path in files])
    for number, row in enumerate(rows):
        pixels = np.ascontiguousarray(row[1:].reshape(3, 32, 32).transpose(1, 2, 0))
        path = target / f"{row[0]}" / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.tmp")
        partial.write_bytes(encode_png(pixels))
        partial.replace(path)
        if report and number % 500 == 0:
            report(number + 1, len(rows))
    write_atomically(target / ".complete", b"")


def _cifar_rows(path: Path) -> np.ndarray:
    content = np.frombuffer(path.read_bytes(), np.uint8)
    if not len(content) or len(content) % _CIFAR_RECORD:
        raise DataError(
            f"{path}: {len(content):,} bytes, expected a multiple of {_CIFAR_RECORD:,}. Download "
            "it again."
        )
    rows = content.reshape(-1, _CIFAR_RECORD)
    if rows[:, 0].max() > 9:
        raise DataError(f"{path}: class {rows[:, 0].max()}, expected 0 to 9. It is another file.")
    return rows


locate_imagenet = partial(locate, "imagenet")
locate_mjhq = partial(locate, "mjhq")
locate_cifar10 = partial(locate, "cifar10")
