"""COCO's official archives: downloaded with resuming, checked by size and hash, extracted once.

Sizes and hashes are those that TensorFlow Datasets pins (url_checksums/coco2014.txt, coco.txt).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from evalkit.core.downloads import fetch, sha256_of
from evalkit.core.errors import DataError, WeightsError
from evalkit.core.progress import ProgressFactory, silent
from evalkit.datasets.base import check_inside

HOST = "http://images.cocodataset.org"


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One archive of COCO."""

    path: str
    """Path on the host."""
    num_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """Its file name."""
        return self.path.rpartition("/")[2]


ARCHIVES: dict[str, Archive] = {
    "val2014": Archive(
        path="zips/val2014.zip",
        num_bytes=6_645_013_297,
        sha256="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
    ),
    "train2014": Archive(
        path="zips/train2014.zip",
        num_bytes=13_510_573_713,
        sha256="ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
    ),
    "annotations2014": Archive(
        path="annotations/annotations_trainval2014.zip",
        num_bytes=252_872_794,
        sha256="031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
    ),
    "val2017": Archive(
        path="zips/val2017.zip",
        num_bytes=815_585_330,
        sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    ),
    "train2017": Archive(
        path="zips/train2017.zip",
        num_bytes=19_336_861_798,
        sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    ),
    "annotations2017": Archive(
        path="annotations/annotations_trainval2017.zip",
        num_bytes=252_907_541,
        sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    ),
}


def needed_archives(split: str) -> tuple[str, str]:
    """Return the names of the archives of a split: its annotations and its images."""
    return f"annotations{split[-4:]}", split


def fetch_archives(root: Path, split: str, progress: ProgressFactory = silent) -> None:
    """Download and extract what a split needs below `root`; the same call resumes.

    An archive that already lies in `root` is checked and not downloaded. Extracted files of the
    right size are kept.

    Raises:
        NetworkError: The host is unreachable, or the transfer broke.
        DataError: An archive has another size or hash, or an unsafe member.
    """
    for name in needed_archives(split):
        archive = ARCHIVES[name]
        target = root / archive.name
        _refuse_other_size(target, archive)
        if target.is_file():
            _refuse_other_hash(target, archive)
        else:
            with progress(f"Downloading {archive.name}") as report:
                try:
                    fetch(
                        f"{HOST}/{archive.path}",
                        target,
                        sha256_prefix=archive.sha256,
                        report=report,
                    )
                except WeightsError as error:
                    raise DataError(str(error)) from error
            _refuse_other_size(target, archive)
        with progress(f"Extracting {archive.name}") as report:
            extract(target, root, wanted=_wanted(split), report=report)


def extract(
    archive: Path,
    root: Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Extract an archive's files that are missing or of another size; return their number.

    Raises:
        DataError: The archive is damaged, or a member leaves the folder.
    """
    written = 0
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [i for i in opened.infolist() if not i.is_dir() and wanted(i.filename)]
            for number, member in enumerate(members, start=1):
                path = root / check_inside(member.filename, where=str(archive))
                if not path.is_file() or path.stat().st_size != member.file_size:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    partial = path.with_name(f".{path.name}.tmp")
                    partial.write_bytes(opened.read(member))
                    partial.replace(path)
                    written += 1
                report(number, len(members))
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{archive}: damaged ({error}). Remove it to download it again.") from error
    return written


def _wanted(split: str) -> Callable[[str], bool]:
    """Return whether a member belongs to a split: its captions or its images."""
    return lambda name: name == f"annotations/captions_{split}.json" or name.startswith(f"{split}/")


def _refuse_other_hash(target: Path, archive: Archive) -> None:
    sha256 = sha256_of(target)
    if sha256 != archive.sha256:
        raise DataError(
            f"{target}: sha256 is {sha256[:12]}..., expected {archive.sha256[:12]}.... Remove it "
            "to download it again."
        )


def _refuse_other_size(target: Path, archive: Archive) -> None:
    if target.is_file() and target.stat().st_size != archive.num_bytes:
        raise DataError(
            f"{target}: {target.stat().st_size:,} bytes, expected {archive.num_bytes:,}. Remove "
            "it to download it again."
        )
