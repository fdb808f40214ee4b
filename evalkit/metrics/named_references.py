"""Reference statistics that others published, known by name: `--against coco-val2014@mlperf`.

Nobody published a hash for most of them, so a file's hash is recorded at its first use here and
pinned from then on. Nothing is unpickled: references that are pickles are listed, and refused.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.core.downloads import cache_root, sha256_of
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pins import check_pin, pinned
from evalkit.core.registry import unknown
from evalkit.metrics.statistics_files import ReferenceStatistics, read_statistics


@dataclass(frozen=True, kw_only=True)
class NamedReference:
    """A published reference."""

    file: str
    where: str
    """Repository or host, and what the file holds."""
    git_blob: str = ""
    """Git's hash of the file, where the file is in a repository."""
    preparation: Mapping[str, Any] = field(default_factory=dict)
    """How its images were prepared, as far as the code says; empty: not stated."""
    refused: str = ""
    """Why evalkit does not read it; empty: it does."""


def _adm(size_px: int, suffix: str = "_labeled") -> NamedReference:
    return NamedReference(
        file=f"VIRTUAL_imagenet{size_px}{suffix}.npz",
        where="openai/guided-diffusion, evaluations/README.md: statistics of the whole data set "
        "(mu, sigma, mu_s, sigma_s) and 10,000 images",
        preparation={"crop": "adm", "size_px": size_px, "filter": "bicubic"},
    )


def _edm(file: str) -> NamedReference:
    return NamedReference(file=file, where="NVlabs/edm, fid-refs: mu, sigma")


REFERENCES: dict[str, NamedReference] = {
    "coco-val2014@t2i-benchmark": NamedReference(
        file="MS-COCO_val2014_fid_stats.npz",
        where="release v0.0.1 of boomb0om/text2image-benchmark: mu, sigma",
        preparation={"crop": "center", "size_px": 299, "filter": "bicubic"},
    ),
    "coco-val2014@mlperf": NamedReference(
        file="val2014.npz",
        where="mlcommons/inference, text_to_image/tools: mu, sigma",
        git_blob="806479d0693a33110526b6689aa26baddd995c7b",
        preparation={"crop": "none", "size_px": None},
    ),
    "coco-val2014@bksdm": NamedReference(
        file="real_im256.npz",
        where="the object store of Nota-NetsPresso/BK-SDM: mu, sigma",
        preparation={
            "crop": "squash", "size_px": 256, "filter": "bicubic", "reencode": "jpeg-75",
        },
    ),
    "coco-val2014@uvit": NamedReference(
        file="fid_stats_mscoco256_val.npz", where="the drive of baofff/U-ViT: mu, sigma"
    ),
    "imagenet64@adm": _adm(64),
    "imagenet128@adm": _adm(128),
    "imagenet256@adm": _adm(256),
    "imagenet512@adm": _adm(512, ""),
    "cifar10@edm": _edm("cifar10-32x32.npz"),
    "ffhq64@edm": _edm("ffhq-64x64.npz"),
    "afhqv2-64@edm": _edm("afhqv2-64x64.npz"),
    "imagenet64@edm": _edm("imagenet-64x64.npz"),
    "cifar10@clean-fid": NamedReference(
        file="cifar10_clean_train_32.npz", where="the statistics host of clean-fid: mu, sigma"
    ),
    "cifar10@ttur": NamedReference(
        file="fid_stats_cifar10_train.npz", where="the page of TTUR: mu, sigma"
    ),
    "imagenet512@edm2": NamedReference(
        file="img512.pkl",
        where="NVlabs/edm2, dataset-refs",
        refused="it is a pickle, which could execute code",
    ),
    "imagenet64@edm2": NamedReference(
        file="img64.pkl",
        where="NVlabs/edm2, dataset-refs",
        refused="it is a pickle, which could execute code",
    ),
}  # fmt: skip
"""Published references by data set and project."""


def is_named(name: str) -> bool:
    """Return whether a text is meant as the name of a reference, and not as a path."""
    return name in REFERENCES or ("@" in name and not Path(name).exists())


def reference_path(name: str) -> Path:
    """Return where a reference is kept in the cache.

    Raises:
        UnknownNameError: No reference has this name.
    """
    return cache_root() / "references" / _row(name).file


def keep_reference(name: str, file: Path) -> Path:
    """Check a file and copy it into the cache under its name; its hash is pinned.

    Raises:
        UnknownNameError: No reference has this name.
        MissingDataError: There is no such file.
        DataError: It is no statistics file, has another hash, or is a pickle.
    """
    _open(name, file)
    path = reference_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.tmp")
    shutil.copyfile(file, partial)
    partial.replace(path)
    return path


def open_reference(name: str) -> ReferenceStatistics:
    """Open a reference by name from the cache.

    Raises:
        UnknownNameError: No reference has this name.
        MissingDataError: It is not in the cache; the message says where to get it.
        DataError: It has another hash than at its first use, or is a pickle.
    """
    path = reference_path(name)
    if not path.is_file() and not _row(name).refused:
        raise MissingDataError(
            f"{name} is not in the cache: get {_row(name).file} from {_row(name).where}, and run "
            f"evalkit references keep {name} FILE."
        )
    return _open(name, path)


def state(name: str) -> str:
    """Say whether a reference is cached, and which hash is pinned."""
    if _row(name).refused:
        return f"refused: {_row(name).refused}"
    sha256 = pinned(f"reference/{name}")
    there = "cached" if reference_path(name).is_file() else "not cached"
    return f"{there}, pinned {sha256[:12]}" if sha256 else there


def stated_preparation(name: str) -> Mapping[str, Any]:
    """Return how a reference's images were prepared; empty where nobody states it."""
    return REFERENCES[name].preparation if name in REFERENCES else {}


def _open(name: str, path: Path) -> ReferenceStatistics:
    row = _row(name)
    if row.refused:
        raise DataError(f"{name} is not read: {row.refused}. Compute the statistics from images.")
    found = read_statistics(path)
    if row.git_blob and _git_blob(path) != row.git_blob:
        raise DataError(
            f"{path}: git's hash is {_git_blob(path)[:12]}..., but {name} has "
            f"{row.git_blob[:12]}.... Get {row.file} from {row.where}."
        )
    check_pin(f"reference/{name}", sha256_of(path), where=path)
    return found


def _git_blob(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _row(name: str) -> NamedReference:
    if name not in REFERENCES:
        raise unknown(name, REFERENCES, kind="references")
    return REFERENCES[name]
