"""The layouts in which benchmarks of text-to-image models keep their images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pixels import encode_png, read_rgb
from evalkit.core.tables import parse_json, read_text, text_lines
from evalkit.features.sources import ImageItem, image_items
from evalkit.layouts.place import Place
from evalkit.layouts.tables import Row, cell, choose_columns, read_table

GENEVAL_FILE = "metadata.jsonl"
IMAGENHUB_FILE = "dataset_lookup.json"
HEIM_FILE = "scenario_state.json"
DPG_FILE = "dpg_bench.csv"
_NUMBERED = re.compile(r"(?P<prompt>.+)_(?P<number>\d+)")
_CELLS = ("top left", "top right", "bottom left", "bottom right")


def read_geneval(place: Place) -> list[ImageItem]:
    """Read GenEval's: `00000/metadata.jsonl` (prompt, tag) and `00000/samples/0000.png`."""
    found = []
    for file in sorted(place.local.glob(f"*/{GENEVAL_FILE}")):
        row = Row(str(file), _json(file, first_line=True))
        for item in image_items(file.parent / "samples"):
            found.append(
                replace(
                    item,
                    caption=cell(row, "prompt"),
                    caption_id=f"geneval-{file.parent.name}",
                    category=cell(row, "tag"),
                )
            )
    return found


def is_geneval(path: Path) -> bool:
    """Return whether a folder is in GenEval's layout."""
    return path.is_dir() and any((file.parent / "samples").is_dir() for file in _metadata(path))


def _metadata(path: Path) -> Iterator[Path]:
    return path.glob(f"*/{GENEVAL_FILE}")


def read_dpg_bench(place: Place) -> list[ImageItem]:
    """Read DPG-Bench's: one 2 x 2 grid per prompt, named by `item_id` of its table.

    The four images of a grid are top left, top right, bottom left, bottom right.

    Raises:
        MissingDataError: There is no table of prompts.
        DataError: A grid has an odd edge, or its name is in no row.
    """
    table = place.table or place.local / DPG_FILE
    if not table.is_file():
        raise MissingDataError(
            f"{place.path}: DPG-Bench needs its table of prompts. Give it with "
            f"folder:{place.path}?layout=dpg-bench&captions={DPG_FILE}."
        )
    rows = read_table(table)
    names = list(rows[0].cells)
    columns = choose_columns(
        names, replace(place, id=place.id or "item_id"), str(table), images=False
    )
    prompts = {cell(row, columns.id): row for row in rows}
    found = []
    for grid in image_items(place.local):
        stem = Path(grid.name).stem
        if stem not in prompts:
            raise DataError(f"{grid.name}: no row of {table} has the {columns.id} {stem!r}.")
        row = prompts[stem]
        # Prompts are named after their source, as in partiprompts97.
        category = cell(row, columns.category) or re.sub(r"\d+$", "", stem)
        for number in range(len(_CELLS)):
            found.append(
                replace(
                    grid,
                    path=GridCell(Path(grid.name), number),
                    caption=cell(row, columns.caption),
                    caption_id=f"dpg-{stem}",
                    category=category,
                )
            )
    return found


@dataclass(frozen=True)
class GridCell:
    """One image of a 2 x 2 grid."""

    grid: Path
    number: int

    def __str__(self) -> str:
        return f"{self.grid} ({_CELLS[self.number]})"

    def read_bytes(self) -> bytes:
        """Return the image as PNG.

        Raises:
            DataError: The grid can't be cut in half.
        """
        pixels = read_rgb(self.grid)
        height, width = pixels.shape[:2]
        if height % 2 or width % 2:
            raise DataError(
                f"{self.grid}: {width} x {height} px can't be cut into 2 x 2 images. Give the "
                "whole grid."
            )
        row, column = divmod(self.number, 2)
        top, left = row * height // 2, column * width // 2
        return encode_png(np.ascontiguousarray(pixels[top:, left:][: height // 2, : width // 2]))


def read_t2i_compbench(place: Place) -> list[ImageItem]:
    """Read T2I-CompBench's: `a green bench and a blue bowl_000000.png`.

    Raises:
        DataError: A name has no prompt and number.
    """
    found = []
    for item in image_items(_samples(place.local)):
        match = _NUMBERED.fullmatch(Path(item.name).stem)
        if match is None:
            raise DataError(f"{item.name}: expected the prompt and a number, as in 'a dog_000000'.")
        found.append(replace(item, caption=match["prompt"]))
    return found


def is_t2i_compbench(path: Path) -> bool:
    """Return whether all images of a folder are named by a prompt of several words."""
    if not path.is_dir():
        return False
    folder = _samples(path)
    stems = [file.stem for file in folder.iterdir() if file.suffix.lower() in (".png", ".jpg")]
    return bool(stems) and all(_NUMBERED.fullmatch(stem) and " " in stem for stem in stems)


def _samples(path: Path) -> Path:
    return path / "samples" if (path / "samples").is_dir() else path


def read_imagenhub(place: Place) -> list[ImageItem]:
    """Read ImagenHub's: a folder of one model beside `dataset_lookup.json`.

    Raises:
        DataError: An image is in no entry of that file.
    """
    lookup = place.local.parent / IMAGENHUB_FILE
    entries = _json(lookup)
    found = []
    for item in image_items(place.local):
        name = Path(item.name).name
        entry = entries.get(name)
        if not isinstance(entry, dict):
            raise DataError(f"{item.name}: {lookup} has no entry {name!r}.")
        row = Row(f"{lookup}, {name}", entry)
        columns = choose_columns(list(entry), place, row.where, images=False)
        found.append(
            replace(
                item,
                caption=cell(row, columns.caption),
                caption_id=Path(name).stem,
                category=cell(row, columns.category),
            )
        )
    return found


def is_imagenhub(path: Path) -> bool:
    """Return whether a folder is one model's in ImagenHub's layout."""
    return path.is_dir() and (path.resolve().parent / IMAGENHUB_FILE).is_file()


def read_heim(place: Place) -> list[ImageItem]:
    """Read HEIM's: the folder of one run of HELM with `scenario_state.json`.

    Images that the model refused are no images there; they are left out.

    Raises:
        DataError: The file has another form, or an image is missing.
    """
    file = place.local / HEIM_FILE if place.local.is_dir() else place.local
    states = _json(file).get("request_states")
    if not isinstance(states, list):
        raise DataError(f"{file}: expected a list under request_states.")
    found = []
    for number, state in enumerate(states, start=1):
        where = f"{file}, request {number}"
        try:
            prompt, instance = state["instance"]["input"]["text"], str(state["instance"]["id"])
            locations = [_location(made) for made in state["result"]["completions"]]
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(f"{where}: not a request of HEIM (no {error}).") from error
        for location in filter(None, locations):
            path = _existing(Path(location), file.parent, where)
            found.append(ImageItem(path, caption=prompt, caption_id=instance))
    return found


def is_heim(path: Path) -> bool:
    """Return whether a folder is a run of HEIM."""
    return (path / HEIM_FILE).is_file() or path.name == HEIM_FILE


def _location(completion: Mapping[str, Any]) -> str | None:
    """Return the file of an image; older versions of HELM have it in another place."""
    if completion.get("file_location"):
        return str(completion["file_location"])
    objects = (completion.get("multimodal_content") or {}).get("media_objects") or []
    return str(objects[0]["location"]) if objects and objects[0].get("location") else None


def _existing(location: Path, folder: Path, where: str) -> Path:
    """Find an image under its own path, or under the last parts of it below a folder."""
    tried = [location, *(folder.joinpath(*location.parts[at:]) for at in (-3, -2, -1))]
    for path in tried:
        if path.is_file():
            return path
    raise DataError(f"{where}: no image {location}, nor {location.name} in {folder}.")


def _json(path: Path, *, first_line: bool = False) -> dict[str, Any]:
    text = read_text(path)
    if first_line:
        text = next(iter(text_lines(text)), "")
    found = parse_json(text, source=str(path))
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected an object, got {type(found).__name__}.")
    return found
