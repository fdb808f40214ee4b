"""Lists of captions that others published, each known by its hash and by where to get it.

The captions are COCO's, but some lists have licences that forbid redistribution, so none is
shipped: `evalkit data coco --protocol NAME --captions-list FILE` checks one and keeps it in the
cache.
"""

from __future__ import annotations

import csv
import hashlib
import io
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.core.downloads import cache_root, sha256_of
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pins import check_pin
from evalkit.core.registry import unknown
from evalkit.datasets.base import Caption


@dataclass(frozen=True, kw_only=True)
class PublishedList:
    """A published list of captions."""

    where: str
    """File, repository and licence."""
    sha256: str = ""
    """Hash of the file; empty where nobody published one: it is then pinned at first use."""
    normal_sha256: str = ""
    """Hash of its normal form, see `normal_hash`."""
    count: int
    """Number of its captions."""
    text: str = ""
    """Column of the captions; empty: a line is a caption."""
    image: str = ""
    """Column of the image; empty: the list doesn't say."""
    delimiter: str = ","


LISTS: dict[str, PublishedList] = {
    "dmd2-30k": PublishedList(
        where="main/coco_eval/captions_coco14_test.txt of tianweiy/DMD2, CC BY-NC-SA 4.0",
        sha256="edabd2a556026cbf5d36a5fffa35ad43d7ba71b72f6d640b727c1edefb7f1945",
        normal_sha256="813c574c741e842d6cbb9ae0c7bc56c2a88a5fb6fbfee229fa2ceef8a75f294e",
        count=30_000,
    ),
    "t2i-benchmark-30k": PublishedList(
        where="MS-COCO_val2014_30k_captions.csv of release v0.0.1 of "
        "boomb0om/text2image-benchmark, MIT",
        sha256="96abd3116ee2be49c4aaf7619a65152bb66f372a3021bee33de3bbccffab060b",
        normal_sha256="a14de9fbcacbadbf344b84e2373c228bbf11b269a6f6684c9778591c22e19b7e",
        count=30_000,
        text="text",
        image="image_id",
    ),
    "esd-30k": PublishedList(
        where="data/coco_30k.csv of rohitgandikota/erasing, MIT",
        sha256="42c57b188c8f1f8a77cddfa11cde89e83fcbdd4dcd4fc6c840fb4e046d395383",
        normal_sha256="7d049353888b8d97f5885ea372967256aef61c64787fcfc2f3900e46336ce9c9",
        count=30_000,
        text="prompt",
        image="image_id",
    ),
    "mlperf-5k": PublishedList(
        where="text_to_image/coco2014/captions/captions_source.tsv of mlcommons/inference, "
        "Apache-2.0",
        sha256="2eeb95637b30fe5af26dd644bafa7affe4e5472ad0bda32d0feb1bd261280d5e",
        normal_sha256="f6e4c779097efb4feeb9f08a4154733eae557c322723605cde40793f4e113bf4",
        count=5_000,
        text="caption",
        image="image_id",
        delimiter="\t",
    ),
    "toca-30k": PublishedList(
        where="COCO_caption_prompts_30k.txt of Shenyi-Z/ToCa, GPL-3.0",
        sha256="b70291bb413a4acc73b3242f065dcae4c328a8d6b99c99ff6b3221b9ba06e50e",
        normal_sha256="a9e2d19d23dcda2a71d47fb4b717b9139435e342f74e20998e803d9fe78f7b70",
        count=30_003,
    ),
    "cmmd-30k": PublishedList(
        where="coco_30k_randomly_sampled_2014_val.csv of the hub data set "
        "sayakpaul/sample-datasets, licence not stated",
        sha256="4e34947cb2a5d77c9bbaa11e8032e1339a26ebc32d9535725ab4f8e36760b7d3",
        count=30_000,
        text="caption",
        image="file_name",
    ),
    "bksdm-30k": PublishedList(
        where="metadata.csv of the object store that src/ of Nota-NetsPresso/BK-SDM names",
        count=30_000,
        text="text",
        image="file_name",
    ),
}
"""Published lists by the name of the protocol that uses them."""


def list_path(name: str) -> Path:
    """Return where a list is kept in the cache."""
    suffix = {"": ".txt", "\t": ".tsv"}.get(_row(name).delimiter if _row(name).text else "", ".csv")
    return cache_root() / "lists" / f"{name}{suffix}"


def require_list(name: str) -> Path:
    """Return the cached file of a list.

    Raises:
        MissingDataError: It is not in the cache; the message says where to get it.
    """
    path, row = list_path(name), _row(name)
    if not path.is_file():
        expected = f", sha256 {row.sha256[:12]}..." if row.sha256 else ""
        raise MissingDataError(
            f"The captions of {name} are a published list that is not in the cache: get "
            f"{row.where}{expected}, and run: evalkit data coco --protocol {name} "
            "--captions-list FILE."
        )
    return path


def keep_list(name: str, file: Path) -> Path:
    """Check a list and copy it into the cache.

    Raises:
        MissingDataError: There is no such file.
        DataError: It has another hash, or is no such list.
    """
    if not file.is_file():
        raise MissingDataError(f"{file}: no such file. Give {_row(name).where}.")
    read_list(name, file)
    path = list_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    shutil.copyfile(file, partial)
    partial.replace(path)
    return path


def read_list(name: str, path: Path) -> list[Caption]:
    """Read a list, in its order; ids are `NAME:LINE`, from 0.

    Raises:
        DataError: It has another hash or count, or lacks a column.
    """
    row, sha256 = _row(name), sha256_of(path)
    if row.sha256 and sha256 != row.sha256:
        raise DataError(
            f"{path}: sha256 is {sha256[:12]}..., but the list of {name} has "
            f"{row.sha256[:12]}.... Get {row.where}."
        )
    found = list(_captions(name, row, path))
    if len(found) != row.count:
        raise DataError(f"{path}: {len(found):,} captions, but {name} has {row.count:,}.")
    if not row.sha256:
        check_pin(f"list/{name}", sha256, where=path)
    return found


def normal_hash(texts: Iterable[str], ids: Sequence[str] | None = None) -> str:
    r"""Compute the SHA-256 of the normal form of captions.

    UTF-8, NFC, runs of white space to one blank, stripped, each line ended by LF. With ids, a line
    is `image id, tab, caption`.

    >>> normal_hash(["A  cat\n"]) == normal_hash(["A cat"])
    True
    """
    lines = [" ".join(unicodedata.normalize("NFC", text).split()) for text in texts]
    if ids is not None:
        lines = [f"{key}\t{line}" for key, line in zip(ids, lines, strict=True)]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _row(name: str) -> PublishedList:
    if name not in LISTS:
        raise unknown(name, LISTS, kind="lists")
    return LISTS[name]


def _captions(name: str, row: PublishedList, path: Path) -> Iterable[Caption]:
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as UTF-8 text ({error}).") from error
    if not row.text:
        lines = text.split("\n")
        for number, line in enumerate(lines[:-1] if not lines[-1] else lines):
            yield Caption(f"{name}:{number}", "", line.strip())
        return
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=row.delimiter)
    missing = {row.text, row.image} - {*(reader.fieldnames or ())}
    if missing:
        raise DataError(f"{path}: no column {min(missing)!r}; expected {row.text} and {row.image}.")
    for number, entry in enumerate(reader):
        image, caption = entry[row.image] or "", entry[row.text] or ""
        yield Caption(f"{name}:{number}", _image_id(image), caption)


def _image_id(text: str) -> str:
    """Return COCO's image id from a number with leading zeros or a file name.

    >>> _image_id("COCO_val2014_000000054123.jpg"), _image_id("000000000042"), _image_id("42")
    ('54123', '42', '42')
    """
    digits = Path(text).stem.rpartition("_")[2]
    return str(int(digits)) if digits.isascii() and digits.isdigit() else text
