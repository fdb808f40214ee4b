"""The drawn data set `shapes`: captioned scenes with ground truth, on disk as COCO captions.

`render` makes one image from (seed, split, index) and nothing else, so that training can draw as it
goes; `write_shapes` puts a data set on disk in the layout that `evalkit.datasets.coco` reads:

    OUT/shapes.json                          what was written: version, seed, counts
    OUT/images/{train,val}/00000000.png
    OUT/annotations/captions_{train,val}.json
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import UInt8

from evalkit.datasets.shapes_captions import CAPTIONS_PER_IMAGE, write_captions
from evalkit.datasets.shapes_draw import draw_scene
from evalkit.datasets.shapes_scene import IMAGE_SIZE_PX, Dice, Scene, Split, sample_scene
from evalkit.errors import ConfigError
from evalkit.images import encode_png
from evalkit.results import write_atomically

VERSION = 1
_FIRST_ID = {"train": 1, "val": 10_000_001}


def render(
    seed: int, split: Split, index: int
) -> tuple[UInt8[np.ndarray, "64 64 3"], Scene, list[str]]:
    """One image, its scene and its five captions.

    Args:
        seed: Seed of the whole data set.
        split: "train" or "val"; no scene can be in both (see `shapes_scene.split_of`).
        index: Number of the image, from 0; there is no last one.

    Returns:
        RGB pixels 0-255, the scene, and five distinct captions.
    """
    scene = sample_scene(seed, split, index)
    captions = write_captions(scene, Dice("captions", seed, split, index))
    return draw_scene(scene), scene, captions


def write_shapes(
    out_dir: Path,
    n_train: int,
    n_val: int,
    seed: int = 0,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the data set; images already there are kept, so a stopped call can be repeated.

    Args:
        out_dir: Folder to fill; created if needed.
        n_train: Number of training images.
        n_val: Number of validation images.
        seed: Seed of the data set.
        on_progress: Called with (images done, images in all) after each image.

    Returns:
        `out_dir`.

    Raises:
        ConfigError: A count is negative, or the folder holds a `shapes` of another seed or version,
            or a larger one.
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


def _claim_folder(out_dir: Path, seed: int, counts: dict[str, int]) -> None:
    """Record what the folder is going to hold, or refuse if it holds something else."""
    for split, count in counts.items():
        if count < 0:
            raise ConfigError(f"Number of {split} images must be at least 0, got {count}.")
    spec = {"dataset": "shapes", "version": VERSION, "seed": seed, **counts}
    path = out_dir / "shapes.json"
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        fixed = ("dataset", "version", "seed")
        if [old.get(k) for k in fixed] != [spec[k] for k in fixed] or any(
            old.get(split, 0) > count for split, count in counts.items()
        ):
            raise ConfigError(
                f"{out_dir} already holds another shapes data set ({json.dumps(old)}), "
                f"wanted {json.dumps(spec)}. Choose an empty folder."
            )
    _write_json(path, spec)


def _write_images(
    folder: Path, seed: int, split: Split, count: int
) -> Iterator[tuple[str, Scene, list[str]]]:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:08d}.png"
        pixels, scene, captions = render(seed, split, index)
        if not path.exists():
            partial = path.with_suffix(".tmp")
            partial.write_bytes(encode_png(pixels))
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
