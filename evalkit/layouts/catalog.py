"""The layouts, one row each, and the function that opens images in any of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.registry import load, unknown
from evalkit.datasets.caption_tables import CAPTION_FILES
from evalkit.features.sources import ImageItem
from evalkit.layouts import benchmarks, beside, stored
from evalkit.layouts.found import ImageSet, image_set
from evalkit.layouts.place import Place, parse_place
from evalkit.layouts.tables import TABLE_SUFFIXES, cell, choose_columns, read_table


@dataclass(frozen=True, kw_only=True)
class LayoutRow:
    """One way to keep images and their captions."""

    read: str
    """`module:function` of a place that lists its images."""
    summary: str
    recognise: Callable[[Path], bool] = lambda path: False
    """Whether a path looks like it; the first row that says so reads it."""


def _is_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in TABLE_SUFFIXES


def _has_table(path: Path) -> bool:
    return any((path / name).is_file() for name in CAPTION_FILES)


LAYOUTS: dict[str, LayoutRow] = {
    "geneval": LayoutRow(
        read="evalkit.layouts.benchmarks:read_geneval",
        summary="GenEval: 00000/metadata.jsonl and 00000/samples/",
        recognise=benchmarks.is_geneval,
    ),
    "heim": LayoutRow(
        read="evalkit.layouts.benchmarks:read_heim",
        summary="HEIM: a run of HELM with scenario_state.json",
        recognise=benchmarks.is_heim,
    ),
    "dpg-bench": LayoutRow(
        read="evalkit.layouts.benchmarks:read_dpg_bench",
        summary="DPG-Bench: a 2 x 2 grid per prompt, with dpg_bench.csv",
        recognise=lambda path: (path / benchmarks.DPG_FILE).is_file(),
    ),
    "imagenhub": LayoutRow(
        read="evalkit.layouts.benchmarks:read_imagenhub",
        summary="ImagenHub: a model's folder beside dataset_lookup.json",
        recognise=benchmarks.is_imagenhub,
    ),
    "table": LayoutRow(
        read="evalkit.layouts.catalog:read_rows",
        summary="a table (.jsonl, .json, .csv, .tsv) with a column of images, as evalscope's",
        recognise=lambda path: _is_table(path) or _has_table(path),
    ),
    "parquet": LayoutRow(
        read="evalkit.layouts.stored:read_parquet",
        summary="parquet files with a column of images",
        recognise=lambda path: bool(stored.parquet_files(path)),
    ),
    "beside": LayoutRow(
        read="evalkit.layouts.beside:read_beside",
        summary="NAME.txt or NAME.json beside NAME.png, in a folder, zip, tar or WebDataset",
        recognise=beside.has_texts,
    ),
    "t2i-compbench": LayoutRow(
        read="evalkit.layouts.benchmarks:read_t2i_compbench",
        summary="T2I-CompBench: PROMPT_000000.png",
        recognise=benchmarks.is_t2i_compbench,
    ),
    "datasets": LayoutRow(
        read="evalkit.layouts.stored:read_dataset",
        summary="datasets:NAME[@REVISION][:SPLIT], a data set of the hub",
    ),
    "plain": LayoutRow(
        read="evalkit.layouts.beside:images_of",
        summary="a folder, zip, tar or npz of images without captions",
        recognise=lambda path: True,
    ),
}
"""Recognised in this order."""


def open_images(text: str) -> ImageSet:
    """Open the images of `folder:PATH[?KEY=VALUE&...]`, or of a path.

    Raises:
        ConfigError: An unknown layout, key or column.
        MissingDataError: There is nothing at the path.
        DataError: No image, or captions that don't fit the images.
    """
    return _opened(parse_place(text))


def layout_of(place: Place) -> str:
    """Return the name of the layout that a place names, or that its files have.

    Raises:
        UnknownNameError: No layout has the name.
        MissingDataError: There is nothing at the path.
    """
    if place.layout and place.layout not in LAYOUTS:
        raise unknown(place.layout, LAYOUTS, kind="layouts")
    if place.is_dataset:
        return "datasets"
    if not place.local.exists():
        raise MissingDataError(
            f"{place.path}: no such file or folder. Give a folder, an archive or a table of "
            "images, or datasets:NAME."
        )
    if place.layout:
        return place.layout
    if place.captions:
        return "table"
    return next(name for name, row in LAYOUTS.items() if row.recognise(place.local))


@lru_cache(maxsize=8)
def _opened(place: Place) -> ImageSet:
    name = layout_of(place)
    return image_set(place, name, load(LAYOUTS[name].read)(place))


def read_rows(place: Place) -> list[ImageItem]:
    """Read a table of images and captions.

    Paths of images are absolute, or relative to the folder of images or of the table. Without a
    column of images, the rows are those of the images in order.

    Raises:
        DataError: An image is missing, has two captions, or is in no row.
    """
    table = _table_of(place)
    rows = read_table(table)
    names = list(rows[0].cells)
    listed = _is_table(place.local)
    columns = choose_columns(names, place, str(table), images=listed)
    if not columns.image:
        return _in_order(place, table, [cell(row, columns.caption) for row in rows])
    found: dict[Path, ImageItem] = {}
    for row in rows:
        name = cell(row, columns.image)
        path = _image(name, table, place.local, row.where)
        if path in found:
            raise DataError(f"{row.where}: the image {name!r} has a caption in an earlier row.")
        found[path] = ImageItem(
            path,
            caption=cell(row, columns.caption) or None,
            caption_id=cell(row, columns.id) or None,
            category=cell(row, columns.category) or None,
        )
    return [*found.values(), *([] if listed else _without_row(place, found))]


def _table_of(place: Place) -> Path:
    if place.table is not None:
        return place.table
    if _is_table(place.local):
        return place.local
    there = [place.local / name for name in CAPTION_FILES if (place.local / name).is_file()]
    if not there:
        raise MissingDataError(
            f"{place.path} has no table of captions ({', '.join(CAPTION_FILES)}). Name one: "
            f"folder:{place.path}?captions=FILE."
        )
    if len(there) > 1:
        raise DataError(
            f"{place.path} has {there[0].name} and {there[1].name}. Name one: "
            f"folder:{place.path}?captions={there[0].name}."
        )
    return there[0]


def _image(name: str, table: Path, folder: Path, where: str) -> Path:
    tried = [Path(name).expanduser(), table.parent / name, folder / name]
    for path in tried[1:] if not tried[0].is_absolute() else tried[:1]:
        if path.is_file():
            return path.resolve()
    raise DataError(f"{where}: no image {name!r}. Paths are relative to {table.parent}.")


def _without_row(place: Place, found: dict[Path, ImageItem]) -> list[ImageItem]:
    """Return the images of the folder that no row names; they have no caption."""
    if not place.local.is_dir():
        return []
    paths = [item.path for item in beside.images_of(place)]
    return [ImageItem(p) for p in paths if isinstance(p, Path) and p.resolve() not in found]


def _in_order(place: Place, table: Path, captions: list[str]) -> list[ImageItem]:
    items = beside.images_of(place)
    if len(items) != len(captions):
        raise DataError(
            f"{table} has {len(captions):,} rows and no column of images, but {place.path} has "
            f"{len(items):,} images. Name the column: folder:{place.path}?image=COLUMN."
        )
    return [replace(item, caption=text) for item, text in zip(items, captions, strict=True)]
