"""The drawn data set `shapes`: captioned scenes with ground truth, on disk as COCO captions.

`render` draws one image from (seed, split, index) alone, so that training can draw on the fly;
`write_shapes` writes a data set to disk in the layout that `evalkit.datasets.coco` reads:

    OUT/shapes.json                          what was written: version, seed, counts
    OUT/images/{train,val}/00000000.png
    OUT/annotations/captions_{train,val}.json
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8

from evalkit.core.downloads import cache_root
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.files import writing
from evalkit.core.pixels import encode_png
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import write_atomically
from evalkit.core.tables import parse_json, read_text
from evalkit.datasets.base import CaptionedFiles
from evalkit.datasets.coco import annotation_file, load_coco
from evalkit.datasets.shapes.captions import CAPTIONS_PER_IMAGE, write_captions
from evalkit.datasets.shapes.draw import draw_scene
from evalkit.datasets.shapes.scene import IMAGE_SIZE_PX, Dice, Scene, Split, sample_scene

VERSION = 1
_FIRST_ID = {"train": 1, "val": 10_000_001}


def render(
    seed: int, split: Split, index: int
) -> tuple[UInt8[np.ndarray, "64 64 3"], Scene, list[str]]:
    """Draw one image; return it with its scene and its five captions.

    Args:
        seed: Seed of the whole data set.
        split: "train" or "val"; no scene is in both (see `scene.split_of`).
        index: Number of the image, from 0, unbounded.

    Returns:
        RGB pixels 0-255, the scene, and five distinct captions.
    """
    scene, captions = describe(seed, split, index)
    return draw_scene(scene), scene, captions


def describe(seed: int, split: Split, index: int) -> tuple[Scene, list[str]]:
    """Return the scene and captions of `render`, without drawing the pixels."""
    scene = sample_scene(seed, split, index)
    return scene, write_captions(scene, Dice("captions", seed, split, index))


def load_shapes(
    root: Path | str | None = None,
    split: Split = "val",
    *,
    num_images: int = 5_000,
    seed: int = 0,
    on_progress: ProgressCallback | None = None,
) -> CaptionedFiles:
    """Load a split of `shapes`, drawing it first if it does not exist.

    Args:
        root: Folder of the data set; by default in the cache.
        split: "train" or "val".
        num_images: Minimum number of images; a folder with more is used unchanged.
        seed: Seed of the data set.
        on_progress: Called with (images done, images in total) while drawing.

    Raises:
        ConfigError: The folder holds a `shapes` of another seed or version.
    """
    root = Path(root) if root else cache_root() / f"shapes-v{VERSION}-seed{seed}"
    held = _read_spec(root)
    counts = {name: int(held.get(name, 0)) for name in get_args(Split)}
    wanted = {**counts, split: max(num_images, counts.get(split, 0))}
    if wanted != counts or not annotation_file(root, split).is_file():
        write_shapes(root, wanted["train"], wanted["val"], seed, on_progress=on_progress)
    elif held.get("seed") != seed or held.get("version") != VERSION:
        raise _other_data(root, held, {"version": VERSION, "seed": seed, **wanted})
    return load_coco(root, split, name="shapes")


def write_shapes(
    out_dir: Path,
    n_train: int,
    n_val: int,
    seed: int = 0,
    *,
    on_progress: ProgressCallback | None = None,
) -> Path:
    """Write the data set; existing images are kept, so an interrupted call can be repeated.

    Args:
        out_dir: Folder to fill; created if needed.
        n_train: Number of training images.
        n_val: Number of validation images.
        seed: Seed of the data set.
        on_progress: Called with (images done, images in total) after each image.

    Returns:
        `out_dir`.

    Raises:
        ConfigError: A count is negative, or the folder holds a `shapes` of another seed or
            version, or a larger one.
    """
    out_dir = Path(out_dir)
    counts = {"train": n_train, "val": n_val}
    _claim_folder(out_dir, seed, counts)
    done = 0
    for split in get_args(Split):
        entries = []
        for entry in _write_images(out_dir / "images" / split, seed, split, counts[split]):
            entries.append(entry)
            done += 1
            if on_progress:
                on_progress(done, n_train + n_val)
        _write_json(out_dir / "annotations" / f"captions_{split}.json", _coco(seed, split, entries))
    return out_dir


def is_shapes(folder: Path) -> bool:
    """Return whether a folder was written by `write_shapes`.

    Raises:
        DataError: Its `shapes.json` is damaged.
    """
    return _read_spec(folder).get("dataset") == "shapes"


def _claim_folder(out_dir: Path, seed: int, counts: dict[str, int]) -> None:
    """Record the folder's future content, or refuse if it holds something else."""
    for split, count in counts.items():
        if count < 0:
            raise ConfigError(f"Number of {split} images must be at least 0, got {count}.")
    spec = {"dataset": "shapes", "version": VERSION, "seed": seed, **counts}
    old = _read_spec(out_dir)
    if old:
        fixed = ("dataset", "version", "seed")
        shrunk = any(old.get(split, 0) > count for split, count in counts.items())
        if shrunk or [old.get(key) for key in fixed] != [spec[key] for key in fixed]:
            raise _other_data(out_dir, old, spec)
    for split, count in counts.items():
        if old.get(split, count) != count:
            # Captions mark a folder as complete, so they are deleted while it grows.
            annotation_file(out_dir, split).unlink(missing_ok=True)
    _write_json(out_dir / "shapes.json", spec)


def _read_spec(folder: Path) -> dict[str, Any]:
    """Read the contents that `shapes.json` declares; empty without the file."""
    path = folder / "shapes.json"
    if not path.is_file():
        return {}
    spec = parse_json(read_text(path), source=str(path))
    if not isinstance(spec, dict):
        raise DataError(f"{path}: expected an object. Choose an empty folder.")
    return spec


def _other_data(folder: Path, held: dict[str, Any], wanted: dict[str, Any]) -> ConfigError:
    return ConfigError(
        f"{folder} already holds another shapes data set ({json.dumps(held)}), "
        f"requested {json.dumps(wanted)}. Choose an empty folder."
    )


def _write_images(
    folder: Path, seed: int, split: Split, count: int
) -> Iterator[tuple[str, Scene, list[str]]]:
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:08d}.png"
        scene, captions = describe(seed, split, index)
        if not path.exists():
            # A file with the final name is complete; flushing each one would take too long.
            partial = path.with_suffix(".tmp")
            with writing(path):
                partial.write_bytes(encode_png(draw_scene(scene)))
                partial.replace(path)
        yield path.name, scene, captions


def _coco(seed: int, split: Split, entries: list[tuple[str, Scene, list[str]]]) -> dict[str, Any]:
    images, annotations = [], []
    for number, (file_name, scene, captions) in enumerate(entries):
        image_id = _FIRST_ID[split] + number
        images.append(
            {
                "id": image_id,
                "file_name": file_name,
                "width": IMAGE_SIZE_PX,
                "height": IMAGE_SIZE_PX,
                "license": 1,
                "label": scene.label,
                "scene": scene.to_json(),
            }
        )
        annotations += [
            {"id": image_id * CAPTIONS_PER_IMAGE + k, "image_id": image_id, "caption": caption}
            for k, caption in enumerate(captions)
        ]
    return {
        "info": {"description": "shapes", "version": str(VERSION), "seed": seed, "split": split},
        "licenses": [{"id": 1, "name": "CC0-1.0", "url": ""}],
        "images": images,
        "annotations": annotations,
    }


def _write_json(path: Path, data: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(data).encode())
