"""Images inside tables: parquet files, and data sets that `datasets` opens."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.core.downloads import require_network
from evalkit.core.errors import DataError, MissingDataError, NetworkError
from evalkit.features.sources import ImageItem
from evalkit.layouts.place import DATASETS, Place
from evalkit.layouts.tables import COLUMNS, Columns, Row, cell, choose_columns


def parquet_files(path: Path) -> list[Path]:
    """Return the parquet files of a place: itself, or those in its folder or in its `data`."""
    if path.suffix == ".parquet" and path.is_file():
        return [path]
    return sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")]) if path.is_dir() else []


def read_parquet(place: Place) -> list[ImageItem]:
    """List the images of parquet files: bytes, or structs of `bytes` and `path`.

    Raises:
        DataError: Not a parquet file, or its column of images is another type.
        ConfigError: There is no column of images.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    found = []
    for file in parquet_files(place.local):
        try:
            stored = pq.ParquetFile(file)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file}: not a parquet file ({error}).") from error
        names = stored.schema_arrow.names
        columns = _columns(names, place, str(file))
        texts = [n for n in (columns.caption, columns.id, columns.category) if n]
        rows = stored.read(columns=texts).to_pylist() if texts else [{}] * stored.metadata.num_rows
        reader = _Parquet(file, columns.image)
        for number, cells in enumerate(rows):
            source = _StoredImage(reader, number)
            found.append(_item(source, Row(f"{file}, row {number + 1}", cells), columns))
    return found


def read_dataset(place: Place) -> list[ImageItem]:
    """List the images of a data set of the hub, or of a local folder that `datasets` reads.

    The name is `datasets:NAME[@REVISION][:SPLIT]`.

    Raises:
        MissingDataError: It is neither on this machine nor reachable, or has no such split.
        ConfigError: There is no column of images.
    """
    import datasets

    name, split, revision = _parsed(place.path)
    _require(name)
    try:
        found = datasets.load_dataset(name, split=split, revision=revision)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()).rstrip(".")[:200]
        raise MissingDataError(f"datasets:{name} can't be opened ({reason}).") from error
    if isinstance(found, Mapping):
        splits = sorted(found)
        if len(splits) > 1:
            raise MissingDataError(
                f"datasets:{name} has the splits {', '.join(splits)}. Choose one: "
                f"datasets:{name}:{splits[0]}."
            )
        found = found[splits[0]]
    columns = _columns(found.column_names, place, f"datasets:{name}")
    undecoded = found.cast_column(columns.image, datasets.Image(decode=False))
    texts = undecoded.select_columns(
        [c for c in (columns.caption, columns.id, columns.category) if c]
    )
    reader = _Dataset(undecoded, columns.image, f"datasets:{name}")
    return [
        _item(_StoredImage(reader, n), Row(f"datasets:{name}, row {n + 1}", texts[n]), columns)
        for n in range(len(undecoded))
    ]


def _parsed(text: str) -> tuple[str, str | None, str | None]:
    rest = text.removeprefix(DATASETS)
    if Path(rest).is_dir():
        return rest, None, None
    rest, _, split = rest.partition(":")
    name, _, revision = rest.partition("@")
    return name, split or None, revision or None


def _require(name: str) -> None:
    """Fail fast, where `datasets` itself would try for half a minute."""
    if Path(name).is_dir() or os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return
    try:
        require_network(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    except NetworkError as error:
        raise MissingDataError(
            f"datasets:{name}: {error} If it is cached, set HF_HUB_OFFLINE=1."
        ) from error


def _columns(names: Sequence[str], place: Place, where: str) -> Columns:
    """Choose the columns; captions are optional unless one is named."""
    if not place.caption and not any(name in names for name in COLUMNS["caption"]):
        with_caption = choose_columns([*names, COLUMNS["caption"][0]], place, where, images=True)
        return Columns(with_caption.image, "", with_caption.id, with_caption.category)
    return choose_columns(names, place, where, images=True)


def _item(source: _StoredImage, row: Row, columns: Columns) -> ImageItem:
    return ImageItem(
        source,
        caption=cell(row, columns.caption) or None,
        caption_id=cell(row, columns.id) or None,
        category=cell(row, columns.category) or None,
    )


@dataclass(frozen=True)
class _StoredImage:
    """One image of a table."""

    reader: _Parquet | _Dataset
    row: int

    def __str__(self) -> str:
        return f"{self.reader.name}, row {self.row + 1}"

    def read_bytes(self) -> bytes:
        """Return the encoded image."""
        return _bytes(self.reader.value(self.row), str(self), self.reader.folder)


def _bytes(value: Any, where: str, folder: Path) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("bytes"), bytes):
        return bytes(value["bytes"])
    if isinstance(value, Mapping) and isinstance(value.get("path"), str):
        return Path(folder, value["path"]).read_bytes()
    raise DataError(f"{where}: expected the bytes of an image, got {type(value).__name__}.")


@dataclass
class _Parquet:
    """A parquet file, of which one row group is in memory at a time."""

    file: Path
    column: str
    _first: int = 0
    _values: Any = field(default=None, repr=False, compare=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def name(self) -> str:
        return str(self.file)

    @property
    def folder(self) -> Path:
        return self.file.parent

    def value(self, row: int) -> Any:
        with self._lock:  # threads decode ahead
            if self._values is None or not 0 <= row - self._first < len(self._values):
                self._open(row)
            return self._values[row - self._first].as_py()

    def _open(self, row: int) -> None:
        import pyarrow.parquet as pq

        stored = pq.ParquetFile(self.file)
        first = 0
        for group in range(stored.num_row_groups):
            count = stored.metadata.row_group(group).num_rows
            if row < first + count:
                values = stored.read_row_group(group, columns=[self.column]).column(0)
                self._first, self._values = first, values
                return
            first += count
        raise DataError(f"{self.file} has {first} rows, expected at least {row + 1}.")

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        """Pickle as the path: another process opens the file itself."""
        return _Parquet, (self.file, self.column)


@dataclass
class _Dataset:
    """An open data set."""

    table: Any
    column: str
    name: str
    folder: Path = field(default_factory=Path)

    def value(self, row: int) -> Any:
        return self.table[row][self.column]
