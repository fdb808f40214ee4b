"""COCO captions from a folder: MS-COCO itself, and other data in its format.

    ROOT/annotations/captions_SPLIT.json
    ROOT/SPLIT/*.jpg   or   ROOT/images/SPLIT/*.png

The whole file is checked before anything is generated from it: ids are unique, each caption's image
is listed, each listed image exists, and each path stays inside its folder.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.core.downloads import cache_root
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.progress import ProgressCallback
from evalkit.core.tables import parse_json, read_text
from evalkit.datasets.base import Caption, CaptionedFiles, FileOrder, check_inside, id_order
from evalkit.datasets.coco_hub import fetch_from_hub, why_no_hub

COCO_SPLIT = "val2014"
VAL2017 = "val2017"


def find_coco(
    coco_root: Path | str | None = None,
    *,
    split: str = COCO_SPLIT,
    on_progress: ProgressCallback | None = None,
) -> CaptionedFiles:
    """Find MS-COCO captions in `coco_root`, `$EVALKIT_COCO`, the cache, or on the hub.

    The first of these that is set or exists is used; a named folder without the data is an error
    and never skipped. val2014 is downloaded from the hub to the cache once (6.6 GB), in the layout
    of the original but with other caption ids, because the hub's copy lacks COCO's.

    Args:
        coco_root: Folder with `val2014/` and `annotations/captions_val2014.json`.
        split: The split; the hub has val2014 only.
        on_progress: Called with (images done, images in total) during a download.

    Raises:
        MissingDataError: Not found; the message lists three ways to get it.
        DataError: The annotations are broken.
    """
    root = locate_coco(coco_root, split=split)
    if not annotation_file(root, split).is_file():
        fetch_from_hub(root, on_progress=on_progress)
    return load_coco(root, split=split)


def locate_coco(coco_root: Path | str | None = None, *, split: str = COCO_SPLIT) -> Path:
    """Return the folder that `find_coco` reads or downloads to, without opening it.

    Raises:
        MissingDataError: Not found.
    """
    named = coco_root or os.environ.get("EVALKIT_COCO")
    if named:
        require_annotations(Path(named), split)
        return Path(named)
    cached = cache_root() / "coco"
    if annotation_file(cached, split).is_file():
        return cached
    reason = why_no_hub() if split == COCO_SPLIT else f"it has only {COCO_SPLIT}"
    if reason:
        raise MissingDataError(
            f"COCO {split} is not in {cached}, and the hub is unavailable ({reason}). Use "
            f"--coco-root DIR with DIR/{split}/ and DIR/annotations/captions_{split}.json, "
            "EVALKIT_COCO=DIR, or `evalkit data coco` on a machine with a network."
        )
    return cached


def find_val2017(
    coco_root: Path | str | None = None, *, on_progress: ProgressCallback | None = None
) -> CaptionedFiles:
    """Find COCO's val2017: `val2017/` and `annotations/captions_val2017.json`.

    Raises:
        MissingDataError: Not found.
        DataError: The annotations are broken.
    """
    del on_progress
    return load_coco(locate_val2017(coco_root), VAL2017, name=f"coco-{VAL2017}")


def locate_val2017(coco_root: Path | str | None = None) -> Path:
    """Return the folder that `find_val2017` reads.

    Raises:
        MissingDataError: Not found.
    """
    return locate_coco(coco_root, split=VAL2017)


def annotation_file(root: Path, split: str) -> Path:
    """Return the path of a split's captions."""
    return root / "annotations" / f"captions_{split}.json"


def require_annotations(root: Path, split: str) -> Path:
    """Return a split's caption file after checking that it exists.

    Raises:
        MissingDataError: It does not exist.
    """
    path = annotation_file(root, split)
    if not path.is_file():
        raise MissingDataError(
            f"{path} not found; expected {root} to hold annotations/captions_{split}.json and "
            f"{split}/ with the images."
        )
    return path


def load_coco(root: Path | str, split: str = COCO_SPLIT, *, name: str = "coco") -> CaptionedFiles:
    """Load a split of a folder in COCO's caption format.

    Args:
        root: The folder.
        split: Name of the split, such as `val2014`, or `val` for `shapes`.
        name: Name of the data set in reports.

    Raises:
        MissingDataError: There is no such folder, annotation file or image folder.
        DataError: Something in the annotation file is wrong, or an image it lists is missing.
    """
    root = Path(root)
    path = require_annotations(root, split)
    data = _read_json(path)
    images = _read_images(_entries(data, "images", path), path)
    captions = _read_captions(_entries(data, "annotations", path), images, path)
    folder = _image_folder(root, split)
    _check_files({key: image["file_name"] for key, image in images.items()}, folder, path)
    files = {key: str(image["file_name"]) for key, image in images.items()}
    order = FileOrder([str(entry["id"]) for entry in data["annotations"]], list(images))
    refuse_other_year(data, files.values(), split, path)
    return CaptionedFiles(
        name, folder, captions, files, file_order=None if _is_hub_copy(data) else order
    )


def refuse_other_year(
    data: Mapping[str, Any], file_names: Iterable[str], split: str, path: Path
) -> None:
    """Refuse a split of COCO 2017 that is given as one of 2014, and the reverse.

    Their images overlap, but the files differ in name: `COCO_val2014_000000000042.jpg` and
    `000000000042.jpg`.

    Raises:
        DataError: All file names are of the other year.
    """
    year = next((year for year in ("2014", "2017") if split.endswith(year)), None)
    named = _year_of(file_names)
    if year is not None and named is not None and named != year:
        raise DataError(
            f"{path}: the images are named as in COCO {named}, but the split is {split}. val2017 "
            "has 5,000 images of val2014, and is no substitute. Give the files of "
            f"{year}, or name the split's folder and annotations after {named}."
        )


def _year_of(file_names: Iterable[str]) -> str | None:
    """Return the year whose pattern all file names follow; None where they follow neither."""
    patterns = {"2014": r"COCO_(train|val|test)2014_\d{12}\.jpg", "2017": r"\d{12}\.jpg"}
    names = list(file_names)
    for year, pattern in patterns.items():
        if names and all(re.fullmatch(pattern, name) for name in names):
            return year
    return None


def _is_hub_copy(data: Mapping[str, Any]) -> bool:
    """Return whether evalkit wrote the annotations from the hub's copy, which lacks COCO's ids."""
    info = data.get("info")
    return isinstance(info, Mapping) and str(info.get("source", "")).startswith("hub: ")


def _image_folder(root: Path, split: str) -> Path:
    for folder in (root / split, root / "images" / split):
        if folder.is_dir():
            return folder
    raise MissingDataError(
        f"No folder of images for {split}: expected {root / split} or {root / 'images' / split}."
    )


def _read_json(path: Path) -> Mapping[str, Any]:
    data = parse_json(read_text(path), source=str(path))
    if not isinstance(data, dict):
        raise DataError(f"{path}: expected an object at the top level, got {_kind(data)}.")
    return data


def _entries(data: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    entries = data.get(key)
    if not isinstance(entries, list) or not entries:
        seen = "nothing" if entries is None else f"{_kind(entries)} of length {_length(entries)}"
        raise DataError(f"{path}: expected a non-empty list under {key!r}, got {seen}.")
    return entries


def _read_images(entries: list[Any], path: Path) -> dict[str, Mapping[str, Any]]:
    images: dict[str, Mapping[str, Any]] = {}
    file_names: set[str] = set()
    for number, entry in enumerate(entries):
        where = f"{path}: images[{number}]"
        image_id = _identifier(entry, "id", where)
        file_name = check_inside(_text(entry, "file_name", where), where=where)
        if image_id in images:
            raise DataError(f"{where}: image id {image_id} occurs twice.")
        if file_name in file_names:
            raise DataError(f"{where}: image {image_id} has the file {file_name} of another image.")
        images[image_id] = entry
        file_names.add(file_name)
    return images


def _read_captions(
    entries: list[Any], images: Mapping[str, Mapping[str, Any]], path: Path
) -> tuple[Caption, ...]:
    captions: dict[str, Caption] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: annotations[{number}]"
        caption_id = _identifier(entry, "id", where)
        image_id = _identifier(entry, "image_id", where)
        text = _text(entry, "caption", where).strip()
        if caption_id in captions:
            raise DataError(f"{where}: caption id {caption_id} occurs twice.")
        if image_id not in images:
            raise DataError(
                f"{where}: caption {caption_id} names image {image_id}, which is not in 'images'."
            )
        label, scene = _ground_truth(images[image_id], where)
        captions[caption_id] = Caption(caption_id, image_id, text, label, scene)
    return tuple(sorted(captions.values(), key=lambda caption: id_order(caption.id)))


def _ground_truth(
    image: Mapping[str, Any], where: str
) -> tuple[int | None, Mapping[str, Any] | None]:
    """Read what `shapes` adds to an image's entry: its class and scene."""
    label, scene = image.get("label"), image.get("scene")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int)):
        raise DataError(f"{where}: the image's 'label' must be an integer, got {label!r}.")
    if scene is not None and not isinstance(scene, dict):
        raise DataError(f"{where}: the image's 'scene' must be an object, got {_kind(scene)}.")
    return label, scene


def _check_files(files: Mapping[str, str], folder: Path, path: Path) -> None:
    present = set(os.listdir(folder))  # noqa: PTH208 names only, for 40,504 files
    missing = [
        image_id
        for image_id, name in files.items()
        if name not in present and not (folder / name).is_file()
    ]
    if missing:
        first = missing[0]
        raise DataError(
            f"{folder / files[first]}: image {first} of {path.name} is missing"
            f"{f' (and {len(missing) - 1} more)' if len(missing) > 1 else ''}. "
            "Extract the images again."
        )


def _identifier(entry: Any, key: str, where: str) -> str:
    """Return an id as a string; COCO's are integers, others' often strings."""
    value = _field(entry, key, where)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise DataError(f"{where}: {key!r} must be an integer or a string, got {value!r}.")
    return str(value)


def _text(entry: Any, key: str, where: str) -> str:
    value = _field(entry, key, where)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {key!r} must be a non-empty string, got {value!r}.")
    return value


def _field(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object, got {_kind(entry)}.")
    if key not in entry:
        raise DataError(f"{where}: {key!r} is missing.")
    return entry[key]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | dict | str) else 0
