"""Download COCO val2014 from the hub to the cache, in the layout of the original.

The hub's copy is parquet (script repositories no longer load) and holds the original image files.
It lacks COCO's caption ids, so captions get new ids (image id, then a digit); draws by seed and the
captions' hash therefore differ from those of the original annotations.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from evalkit.core.downloads import CACHE_ADVICE, require_network
from evalkit.core.errors import DataError, NetworkError, as_clause
from evalkit.core.files import writing
from evalkit.core.progress import ProgressCallback
from evalkit.core.results import write_atomically
from evalkit.core.tables import parse_json, read_text
from evalkit.datasets.base import check_inside

HUB_REPOSITORY = "lmms-lab/COCO-Caption"
HUB_SPLIT = "val"
NUM_IMAGES = 40_504
_COLUMNS = ("question_id", "image", "answer")
_MAX_CAPTIONS = 10

Rows = Iterable[Mapping[str, Any]]


def why_no_hub() -> str:
    """Say why the hub is not reachable, within 5 s; return an empty string if it is."""
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            return f"{variable} is set"
    try:
        require_network(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    except NetworkError as error:
        return as_clause(error)
    return ""


def fetch_from_hub(
    root: Path,
    *,
    on_progress: ProgressCallback | None = None,
    open_shards: Callable[[], list[Rows]] | None = None,
    num_images: int = NUM_IMAGES,
) -> None:
    """Write `val2014/` and `annotations/captions_val2014.json` below `root`.

    Shards are written one at a time; after an interruption, finished ones are not read again. The
    annotation file is written last, so a folder that has one is complete.

    Args:
        root: Folder to fill.
        on_progress: Called with (images done, images in total).
        open_shards: Opens the shards; by default the hub's.
        num_images: Expected number of images.

    Raises:
        DataError: The hub's data has changed.
        NetworkError: The transfer broke; another call resumes it.
    """
    shards = (open_shards or _open_hub_shards)()
    parts = []
    done = 0
    for number, shard in enumerate(shards):
        part = root / "annotations" / "parts" / f"{number:05d}.json"
        if not part.is_file():
            entries = []
            for entry in _save_rows(shard, root / "val2014"):
                entries.append(entry)
                if on_progress:
                    on_progress(done + len(entries), num_images)
            write_atomically(part, json.dumps(entries).encode())
        parts.append(_read_part(part))
        done += len(parts[-1])
    images = [entry for part in parts for entry in part]
    if len({image["id"] for image in images}) != num_images:
        raise DataError(
            f"{HUB_REPOSITORY}: expected {num_images} different images, got {len(images)} rows. "
            "The repository has changed; use the original files with --coco-root."
        )
    write_atomically(
        root / "annotations" / "captions_val2014.json", json.dumps(_coco(images)).encode()
    )


def _open_hub_shards() -> list[Rows]:
    import datasets  # takes 2 s, and only this function needs it

    try:
        stream = datasets.load_dataset(HUB_REPOSITORY, split=HUB_SPLIT, streaming=True)
    except (OSError, ValueError) as error:
        raise NetworkError(f"{HUB_REPOSITORY}: can't be opened ({_first_line(error)}).") from error
    return split_stream(stream)


def split_stream(stream: Any) -> list[Rows]:
    """Split a streamed data set into its shards, with images as encoded bytes."""
    import datasets

    stream = stream.cast_column("image", datasets.Image(decode=False))
    count = stream.num_shards
    return [stream.shard(num_shards=count, index=index) for index in range(count)]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _save_rows(rows: Rows, folder: Path) -> Iterator[dict[str, Any]]:
    """Save each row's image; yields its id, file name and captions."""
    with writing(folder, CACHE_ADVICE):
        folder.mkdir(parents=True, exist_ok=True)
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator)
        except StopIteration:
            return
        except Exception as error:  # the HTTP and file libraries below share no base class
            raise NetworkError(
                f"{HUB_REPOSITORY}: the download was interrupted ({_first_line(error)}). "
                "Run the command again to resume."
            ) from error
        yield _save_row(row, folder)


def _save_row(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    missing = [column for column in _COLUMNS if column not in row]
    if missing:
        raise DataError(
            f"{HUB_REPOSITORY}: no column {missing[0]!r} (columns: {', '.join(row)}). "
            "The repository has changed; use the original files with --coco-root."
        )
    name = check_inside(str(row["question_id"]), where=HUB_REPOSITORY)
    name = name if name.lower().endswith(".jpg") else f"{name}.jpg"
    digits = re.search(r"(\d+)\.\w+$", name)
    content = (row["image"] or {}).get("bytes")
    captions = [str(text) for text in row["answer"] or []]
    if not digits or not content or not 0 < len(captions) <= _MAX_CAPTIONS:
        raise DataError(
            f"{HUB_REPOSITORY}: row {name!r} lacks an image number, an image, or 1 to "
            f"{_MAX_CAPTIONS} captions (it has {len(captions)})."
        )
    path = folder / name
    if not path.is_file() or path.stat().st_size != len(content):
        partial = path.with_name(f".{name}.tmp")
        with writing(path, CACHE_ADVICE):
            partial.write_bytes(content)
            partial.replace(path)
    return {"id": int(digits.group(1)), "file_name": name, "captions": captions}


def _coco(images: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "info": {
            "description": "COCO val2014 captions",
            "source": f"hub: {HUB_REPOSITORY}, split {HUB_SPLIT}; caption ids are evalkit's own",
        },
        "licenses": [],
        "images": [{"id": image["id"], "file_name": image["file_name"]} for image in images],
        "annotations": [
            {"id": image["id"] * _MAX_CAPTIONS + k, "image_id": image["id"], "caption": text}
            for image in images
            for k, text in enumerate(image["captions"])
        ],
    }


def _read_part(part: Path) -> list[dict[str, Any]]:
    """Read what an earlier download kept of one shard."""
    entries = parse_json(read_text(part), source=str(part))
    if not isinstance(entries, list) or not all(isinstance(e, dict) and "id" in e for e in entries):
        raise DataError(f"{part}: damaged. Delete it, and run the same command again.")
    return entries
