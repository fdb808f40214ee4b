"""The images of a set: files, members of archives, arrays.

A set is a sequence of `ImageItem`. `image_items` builds it from a folder, a zip, a tar or a sample
`.npz`; other callers (a run folder, a captioned data set) build the items themselves.
"""

from __future__ import annotations

import hashlib
import itertools
import tarfile
import threading
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from evalkit.core import pixels, preparations
from evalkit.core.errors import DataError, MissingDataError


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """One image of an array, as in ADM's sample batches."""

    name: str
    pixels: UInt8[np.ndarray, "height width 3"]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class ImageItem:
    """One image of a set with its metadata."""

    path: Path | pixels.ByteSource | ArrayImage
    """Its source."""
    sha256: str | None = None
    """Hash of the file; trusted by the feature store, checked when the file is decoded."""
    caption: str | None = None
    """The prompt it was generated from, or a caption that describes it."""
    caption_id: str | None = None
    """Id of that caption."""
    image_id: str | None = None
    """Id of the caption's reference image; it pairs samples with the reference."""
    category: str | None = None
    """Category of the caption, if the data set has categories."""

    @property
    def name(self) -> str:
        """Its name in errors."""
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """A protocol's preprocessing of an image, before the extractor's own resizing."""

    crop: preparations.Crop = "none"
    """`center` crops the largest centred square, `squash` distorts to a square, `none` neither;
    see `evalkit.core.preparations` for the others."""
    size_px: int | None = None
    """Side of the square that the image is resized to; None keeps the size."""
    filter: pixels.Filter = "bicubic"
    """The antialiased filter of that resizing."""
    saved: preparations.Reencode = "none"
    """File format that the image passes through before anything else."""
    reencode: preparations.Reencode = "none"
    """File format that it passes through after the resizing."""
    blur_px: float = 0.0
    """Radius of the Gaussian blur at the end; 0: none."""

    def identity(self) -> dict[str, object]:
        """Return the settings that can change a pixel."""
        named: dict[str, object]
        if self.size_px is None:
            named = {"crop": "center" if self.crop == "center" else "none", "size_px": None}
        else:
            named = {"crop": self.crop, "size_px": self.size_px, "filter": self.filter}
        formats = {"saved": self.saved, "reencode": self.reencode}
        named |= {key: form for key, form in formats.items() if form.startswith("jpeg-")}
        return {**named, "blur_px": self.blur_px} if self.blur_px else named


def hash_of(item: ImageItem) -> str:
    """Compute the SHA-256 of the image's bytes, or of its pixels if it is an array.

    Raises:
        DataError: The file can't be read.
    """
    if isinstance(item.path, ArrayImage):
        shape = "x".join(map(str, item.path.pixels.shape))
        return hashlib.sha256(shape.encode() + item.path.pixels.tobytes()).hexdigest()
    return hashlib.sha256(_bytes_of(item)).hexdigest()


def load_image(item: ImageItem, preparation: Preparation) -> UInt8[np.ndarray, "height width 3"]:
    """Decode one image and prepare it.

    Raises:
        DataError: The file is corrupt, or its hash is not the recorded one.
    """
    if isinstance(item.path, ArrayImage):
        return _prepare(item.path.pixels, preparation, item.name)
    data = _bytes_of(item)
    if item.sha256 is not None and hashlib.sha256(data).hexdigest() != item.sha256:
        raise DataError(
            f"{item.name}: the file's sha256 is not the recorded {item.sha256[:12]}...; it has "
            "changed since. Generate it again, or drop the recorded hash."
        )
    rgb = pixels.read_rgb(data, name=item.name)
    return _prepare(rgb, preparation, item.name)


def image_items(path: Path | str) -> list[ImageItem]:
    """List the images of a folder (all levels), zip, tar or sample `.npz`, sorted by name.

    Raises:
        MissingDataError: The path does not exist.
        DataError: It contains no image, or is another kind of file.
    """
    path = Path(path)
    if not path.exists():
        raise MissingDataError(
            f"{path}: no such file or folder. Give a folder or an archive of images."
        )
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in pixels.IMAGE_SUFFIXES)
        items = [ImageItem(p) for p in found if p.is_file()]
    elif zipfile.is_zipfile(path):
        items = _npz_items(path) if path.suffix == ".npz" else _archive_items(path)
    elif tarfile.is_tarfile(path):
        items = _archive_items(path)
    else:
        raise DataError(f"{path}: expected a folder, .zip, .tar or .npz of images.")
    if not items:
        endings = ", ".join(pixels.IMAGE_SUFFIXES)
        raise DataError(f"{path}: contains no images; expected files ending in {endings}.")
    return items


class ArchiveMember:
    """One member of a zip or tar; the archive is opened once and read under a lock."""

    def __init__(self, archive: _Archive, member: str) -> None:
        self._archive = archive
        self._member = member

    def __str__(self) -> str:
        return f"{self._archive.path}:{self._member}"

    def read_bytes(self) -> bytes:
        """Read the member's bytes."""
        return self._archive.read(self._member)


class _Archive:
    """An open zip or tar, shared by its members; only regular files with image names count."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._zip = zipfile.ZipFile(path) if zipfile.is_zipfile(path) else None
        self._tar = None if self._zip else tarfile.open(path)  # noqa: SIM115 (kept open on purpose)

    def members(self) -> list[str]:
        if self._zip is not None:
            names = [info.filename for info in self._zip.infolist() if not info.is_dir()]
        else:
            assert self._tar is not None
            names = [info.name for info in self._tar.getmembers() if info.isfile()]
        found = sorted(n for n in names if Path(n).suffix.lower() in pixels.IMAGE_SUFFIXES)
        for before, after in itertools.pairwise(found):
            if before == after:
                raise DataError(
                    f"{self.path}: the file name {after!r} occurs twice, so one image hides "
                    "another. Write the archive again with names of their own."
                )
        return found

    def read(self, member: str) -> bytes:
        try:
            with self._lock:
                if self._zip is not None:
                    return self._zip.read(member)
                assert self._tar is not None
                handle = self._tar.extractfile(member)
                assert handle is not None
                return handle.read()
        except (OSError, zipfile.BadZipFile, tarfile.TarError, RuntimeError) as error:
            raise DataError(f"{self.path}:{member}: can't be read ({error}).") from error

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Pickle as the path: another process opens the archive itself, once."""
        return _opened, (self.path,)

    def __del__(self) -> None:
        for archive in (self.__dict__.get("_zip"), self.__dict__.get("_tar")):
            if archive is not None:
                archive.close()


@lru_cache(maxsize=8)
def _opened(path: Path) -> _Archive:
    return _Archive(path)


def _archive_items(path: Path) -> list[ImageItem]:
    archive = _Archive(path)
    return [ImageItem(ArchiveMember(archive, member)) for member in archive.members()]


def _npz_items(path: Path) -> list[ImageItem]:
    try:
        with path.open("rb") as handle, np.load(handle) as stored:
            found = stored.files
            array = stored["arr_0"] if "arr_0" in found else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a file of images ({error}).") from error
    if array is None:
        raise DataError(f"{path}: expected an array arr_0 of images, found {found}.")
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise DataError(
            f"{path}: arr_0 is {array.dtype} of shape {array.shape}, expected uint8 (images, "
            "height, width, 3)."
        )
    return [ImageItem(ArrayImage(f"{path}[{i}]", image)) for i, image in enumerate(array)]


def _bytes_of(item: ImageItem) -> bytes:
    assert not isinstance(item.path, ArrayImage)
    return pixels.image_bytes(item.path)


def _prepare(
    rgb: UInt8[np.ndarray, "height width 3"], preparation: Preparation, name: str
) -> UInt8[np.ndarray, "prepared_height prepared_width 3"]:
    rgb = preparations.reencode(rgb, preparation.saved)
    rgb = _square(rgb, preparation, name)
    rgb = preparations.reencode(rgb, preparation.reencode)
    return preparations.blur(rgb, preparation.blur_px)


def _square(
    rgb: UInt8[np.ndarray, "height width 3"], preparation: Preparation, name: str
) -> UInt8[np.ndarray, "square_height square_width 3"]:
    crop, size_px = preparation.crop, preparation.size_px
    if size_px is None:
        return pixels.center_crop(rgb) if crop == "center" else rgb
    return preparations.crop_to_square(
        rgb, size_px, crop=crop, filter=preparation.filter, name=name
    )
