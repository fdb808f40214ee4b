"""A plain folder of images, with or without captions."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pixels import IMAGE_SUFFIXES
from evalkit.datasets.base import Caption, CaptionedFiles, check_inside, id_order


def load_image_folder(
    root: Path | str, *, captions: Path | str | None = None, name: str | None = None
) -> CaptionedFiles:
    """Load all images below a folder; an image's id is its relative path with forward slashes.

    Hidden files and folders are skipped. Captions come from a table with the columns `file_name`,
    `text` and optionally `id` (by default the file name, and `NAME#2` for its second caption) and
    `category`.

    Args:
        root: The folder.
        captions: `.jsonl` or `.csv`; an image may have any number of captions.
        name: Name of the data set in reports; by default the folder's name.

    Raises:
        MissingDataError: There is no such folder or captions file.
        DataError: The folder has no images, or the captions don't fit it.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder. Give a folder of images.")
    files = {file_name: file_name for file_name in sorted(_walk(root))}
    if not files:
        raise DataError(f"{root}: contains no images; expected files ending in {_endings()}.")
    read = _read_captions(Path(captions), files) if captions else ()
    return CaptionedFiles(name or root.resolve().name, root, read, files)


def _endings() -> str:
    return ", ".join(IMAGE_SUFFIXES)


def _walk(root: Path) -> Iterator[str]:
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [n for n in subfolders if not n.startswith((".", "__MACOSX"))]
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()


def _read_captions(path: Path, files: Mapping[str, str]) -> tuple[Caption, ...]:
    if not path.is_file():
        raise MissingDataError(f"{path}: no such captions file.")
    captions: dict[str, Caption] = {}
    numbers: dict[str, int] = {}
    for where, row in _read_rows(path):
        file_name = check_inside(_column(row, "file_name", where), where=where)
        if file_name not in files:
            raise DataError(f"{where}: no image {file_name!r} in the folder.")
        numbers[file_name] = numbers.get(file_name, 0) + 1
        number = numbers[file_name]
        own = file_name if number == 1 else f"{file_name}#{number}"
        caption_id = _column(row, "id", where) if row.get("id") is not None else own
        if caption_id in captions:
            raise DataError(f"{where}: caption id {caption_id!r} occurs twice.")
        text = _column(row, "text", where)
        kind = _column(row, "category", where) if row.get("category") else None
        captions[caption_id] = Caption(caption_id, file_name, text, kind=kind)
    if not captions:
        raise DataError(f"{path}: contains no captions; expected the columns file_name and text.")
    return tuple(sorted(captions.values(), key=lambda caption: id_order(caption.id)))


def _read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each row with its position in the file, for errors."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as UTF-8 text ({error}).") from error
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        for row in reader:
            yield f"{path}:{reader.line_num}", row
        return
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"{path}: captions must be a .jsonl or .csv file.")
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}:{number}", _parse_line(line, f"{path}:{number}")


def _parse_line(line: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected an object with file_name and text.")
    return row


def _column(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and name == "id":
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {name!r} must be a non-empty string, got {value!r}.")
    return value.strip()
