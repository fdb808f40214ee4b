"""The images of a set: files, members of archives, arrays.

A set is a sequence of `ImageItem`. `image_items` builds it from a folder, a zip, a tar or a sample
`.npz`; other callers (a run folder, a captioned data set) build the items themselves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from evalkit.core import pixels, preparations
from evalkit.core.arrays import open_npz
from evalkit.core.errors import DataError
from evalkit.core.image_files import scan
from evalkit.core.tables import ByteSource


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

    path: Path | ByteSource | ArrayImage
    """Its source."""
    sha256: str | None = None
    """Hash of the file; trusted by the feature store, checked when the file is decoded."""
    caption: str | None = None
    """The prompt it was generated from, or a caption that describes it."""
    other_captions: tuple[str, ...] = ()
    """Further captions of the same image; metrics of captions use all of them."""
    caption_id: str | None = None
    """Id of the (first) caption."""
    image_id: str | None = None
    """Id of the caption's reference image; it pairs samples with the reference."""
    category: str | None = None
    """Category of the caption, if the data set has categories."""
    sample_index: int | None = None
    """Number of the sample among those of its caption, from 0; None outside of runs."""
    seed: int | None = None
    """Seed of its noise; None where it is unknown."""

    @property
    def name(self) -> str:
        """Its name in errors."""
        return str(self.path)

    @property
    def captions(self) -> tuple[str, ...]:
        """All its captions."""
        return (self.caption, *self.other_captions) if self.caption else self.other_captions


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
    jpeg_device: str = ""
    """Torch device on which torchvision decodes plain JPEG files; empty: Pillow decodes all."""

    def identity(self) -> dict[str, object]:
        """Return the settings that can change a pixel."""
        named: dict[str, object]
        if self.size_px is None:
            named = {"crop": "center" if self.crop == "center" else "none", "size_px": None}
        else:
            named = {"crop": self.crop, "size_px": self.size_px, "filter": self.filter}
        if self.jpeg_device:
            named["jpeg"] = f"torchvision, {self.jpeg_device.split(':')[0]}"
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


def check_hash(item: ImageItem, found: str) -> None:
    """Check that an image has the recorded hash, if one is recorded.

    Raises:
        DataError: It has changed since.
    """
    if item.sha256 is not None and found != item.sha256:
        raise DataError(
            f"{item.name}: the file's sha256 is not the recorded {item.sha256[:12]}...; it has "
            "changed since. Generate it again, or drop the recorded hash."
        )


def load_image(item: ImageItem, preparation: Preparation) -> UInt8[np.ndarray, "height width 3"]:
    """Decode one image and prepare it.

    Raises:
        DataError: The file is corrupt, or its hash is not the recorded one.
    """
    if isinstance(item.path, ArrayImage):
        return _prepare(item.path.pixels, preparation, item.name)
    data = _bytes_of(item)
    check_hash(item, hashlib.sha256(data).hexdigest())
    if preparation.jpeg_device and pixels.is_plain_jpeg(data):
        from evalkit.features.jpeg import decode_jpeg  # imports torch

        rgb = decode_jpeg(data, preparation.jpeg_device, name=item.name)
    else:
        rgb = pixels.read_rgb(data, name=item.name)
    return _prepare(rgb, preparation, item.name)


def image_items(path: Path | str) -> list[ImageItem]:
    """List the images of a folder (all levels), zip, tar or sample `.npz`, sorted by name.

    Raises:
        MissingDataError: The path does not exist.
        DataError: It contains no image, or is another kind of file.
    """
    path = Path(path)
    if is_sample_file(path):
        return array_items(path)
    files = scan(path)
    files.require_images()
    return [ImageItem(source) for source in files.images.values()]


def is_sample_file(path: Path) -> bool:
    """Return whether a file is a numpy archive by its name, such as ADM's sample batches."""
    return path.suffix.lower() == ".npz" and path.is_file()


def array_items(path: Path) -> list[ImageItem]:
    """List the images of the array `arr_0` of an `.npz`.

    Raises:
        DataError: It is damaged, has no such array, or no uint8 images of three channels in it.
    """
    with open_npz(path, what="a file of images") as stored:
        found = stored.names
        array = stored.read("arr_0") if "arr_0" in found else None
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
