"""Open a data set by name or path, as `--data` takes it."""

from dataclasses import replace
from pathlib import Path

from evalkit.catalog import DATASETS
from evalkit.core.errors import ConfigError, DataError, MissingDataError
from evalkit.core.progress import ProgressCallback
from evalkit.core.registry import load, unknown
from evalkit.datasets.base import CaptionedImages
from evalkit.datasets.coco import COCO_SPLIT, load_coco
from evalkit.datasets.image_folder import load_captioned_folder
from evalkit.datasets.named_folders import is_cifar10, is_mjhq, open_cifar10, open_mjhq
from evalkit.datasets.shapes.dataset import is_shapes


def open_dataset(
    name: str,
    *,
    split: str | None = None,
    coco_root: Path | None = None,
    on_progress: ProgressCallback | None = None,
) -> CaptionedImages:
    """Open a data set by its name in the catalog or an entry point, or as a folder.

    A folder with `annotations/captions_*.json` is read as COCO captions; any other as plain images,
    with the captions of a `captions.jsonl`, `captions.csv`, `metadata.jsonl` or `metadata.csv` in
    it or in its subfolders.

    Args:
        name: `coco`, `shapes`, `package/name`, or a folder.
        split: Split of a folder in COCO's format; required only if it has several.
        coco_root: Folder of COCO, for `coco`.
        on_progress: Called with (images done, images in total) while drawing or downloading.

    Raises:
        UnknownNameError: No data set has this name, and it is not a folder.
        MissingDataError: Not found.
        ConfigError: `coco_root` for another data set, or an ambiguous choice.
        DataError: Found, but damaged.
    """
    require_dataset(name, coco_root=coco_root)
    if name not in DATASETS:
        return _open_folder(Path(name), split)
    row = DATASETS[name]
    more: dict[str, object] = {}
    if row.splits:
        more["split"] = split or row.splits[0]
    if row.takes_root:
        more["coco_root"] = coco_root
    opened = load(row.target)(on_progress=on_progress, **more)
    if not isinstance(opened, CaptionedImages):
        raise DataError(
            f"{name}: {row.target} returned a {type(opened).__name__}, expected a CaptionedImages. "
            "Repair or remove the package that names it."
        )
    return opened


def require_dataset(name: str, *, coco_root: Path | None = None) -> None:
    """Raise an error if a data set can't be opened, before any heavy import.

    Raises:
        UnknownNameError: No data set has this name, and it is not a folder.
        MissingDataError: Not found.
        ConfigError: `coco_root` for another data set.
    """
    row = DATASETS.get(name)
    if coco_root is not None and (row is None or not row.takes_root):
        raise ConfigError(f"--coco-root works with --coco, not with --data {name}.")
    if row is not None:
        if row.locate:
            load(row.locate)(coco_root)
        return
    folder = Path(name)
    if folder.is_dir():
        return
    if len(folder.parts) > 1:
        raise MissingDataError(f"{name}: no such folder.")
    raise unknown(name, DATASETS, kind="datasets")


def dataset_known_as(name: str) -> str:
    """Return the name that decides the protocol of a data set, without opening it."""
    if name not in DATASETS and Path(name).is_dir() and is_shapes(Path(name)):
        return "shapes"
    if name not in DATASETS and Path(name).is_dir():
        return "mjhq" if is_mjhq(Path(name)) else "cifar10" if is_cifar10(Path(name)) else name
    return name


def _open_folder(folder: Path, split: str | None) -> CaptionedImages:
    found = sorted((folder / "annotations").glob("captions_*.json"))
    splits = [path.stem.removeprefix("captions_") for path in found]
    if is_mjhq(folder):
        return open_mjhq(folder)
    if is_cifar10(folder):
        return replace(open_cifar10(folder), copy_of="cifar10")
    if not splits:
        images = load_captioned_folder(folder)
        return replace(images, name=_own_name(images.name))
    chosen = split or (splits[0] if len(splits) == 1 else _preferred(splits, folder))
    named = folder.resolve().name
    if is_shapes(folder):
        return replace(load_coco(folder, chosen, name=_own_name(named)), copy_of="shapes")
    is_coco = (named, chosen) == ("coco", COCO_SPLIT)
    return load_coco(folder, chosen, name=named if is_coco else _own_name(named))


def _own_name(named: str) -> str:
    """Return a folder's name, marked where it would read as a data set of the catalog."""
    return f"folder {named}" if named in DATASETS else named


def _preferred(splits: list[str], folder: Path) -> str:
    for name in (COCO_SPLIT, "val"):
        if name in splits:
            return name
    raise ConfigError(
        f"{folder} has captions of the splits {', '.join(splits)}, and none is named "
        f"{COCO_SPLIT} or val. Keep only the annotations/captions_SPLIT.json that you want to use."
    )
