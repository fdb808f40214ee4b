"""Decode, crop, resize and write images. Images are `uint8`, height x width x RGB.

All pixels pass through here, so raters see what metrics measure, or both get the same error.
Decoding follows these rules:

- EXIF orientation is applied; an unreadable EXIF block counts as upright.
- Gray, palette, CMYK (also the inverted kind that Adobe writes), YCbCr, Lab and HSV become RGB by
  Pillow's plain conversion; embedded colour profiles are ignored, as FID tools ignore them.
- 16 bits a channel are scaled to 8 (value / 257, rounded; Pillow itself keeps the upper byte of
  16-bit colour). Float and 32-bit integer images have no agreed range and are refused.
- Transparency is composited on white, as a web page shows it.
- Of an animation, the first frame counts.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.places import AnyPath
from evalkit.core.tables import ByteSource

RGBImage = UInt8[np.ndarray, "_height _width 3"]
Crop = Literal["none", "center", "squash"]
Filter = Literal["bicubic", "lanczos", "bilinear", "box"]


MAX_PIXELS = 100_000_000
"""Larger images are refused: a few kilobytes can declare gigabytes of pixels."""

_NO_DECODER = frozenset({"BUFR", "GRIB", "HDF5", "MPEG", "WMF", "EPS"})
"""Formats that Pillow recognises but doesn't decode itself; EPS would start another program."""

_PNG_COMPRESSION = 6
"""zlib's compression level; part of the format, since run folders are compared byte by byte."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_PNG_ORIENTATION = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
"""Keywords of the texts in which Pillow looks for an orientation."""

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@cache
def image_formats() -> tuple[str, ...]:
    """Return the names of all formats that Pillow decodes."""
    Image.init()
    return tuple(name for name in Image.ID if name in Image.OPEN and name not in _NO_DECODER)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the endings, in lower case, of all formats that Pillow decodes."""
    formats = set(image_formats())
    return frozenset(
        suffix for suffix, name in Image.registered_extensions().items() if name in formats
    )


def read_rgb(source: AnyPath | str | bytes, *, name: str | None = None) -> RGBImage:
    """Decode an image file, or its bytes, whatever its mode.

    Args:
        source: A file or its bytes.
        name: Its name in errors; the path by default.

    Raises:
        DataError: The file is missing, empty, truncated, corrupt, not an image, too large, or of a
            pixel type without an agreed range. The message names the file.
    """
    if name is None:
        name = "image" if isinstance(source, bytes) else str(source)
    if isinstance(source, str):
        source = Path(source)
    data = source if isinstance(source, bytes) else image_bytes(source)
    if not data:
        raise DataError(f"{name}: empty file (0 bytes), expected an image. Replace the file.")
    try:
        whole = io.BytesIO(_without_metadata(data))
        with Image.open(whole, formats=image_formats()) as image:
            _check_size(image, name)
            image.load()
            is_png = image.format == "PNG"
            return _to_rgb(_upright(image), name, is_png=is_png)
    except DataError:
        raise
    except _UNREADABLE as error:
        why = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            why = "no known image format"
        raise DataError(
            f"{name}: can't be decoded ({why}), expected a complete image. Replace the file."
        ) from error


def is_plain_jpeg(data: bytes) -> bool:
    """Whether bytes are a JPEG of three channels that is stored upright: a decoder's whole task."""
    if not data.startswith(b"\xff\xd8"):
        return False
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            _check_size(image, "image")
            return image.mode == "RGB" and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
    except (DataError, *_UNREADABLE):
        return False


def from_pil(image: Image.Image, *, name: str) -> RGBImage:
    """Convert an image of Pillow's, whatever its mode.

    Args:
        image: The image.
        name: Its name in errors.

    Raises:
        DataError: It is of a pixel type without an agreed range, or too large.
    """
    _check_size(image, name)
    return _to_rgb(image, name, is_png=False)


def image_bytes(source: ByteSource) -> bytes:
    """Read the bytes of an image file, for callers that also hash what they decode.

    Raises:
        DataError: It is unreadable; the message names the file.
    """
    try:
        return source.read_bytes()
    except OSError as error:
        raise DataError(
            f"{source}: can't read the image ({error.strerror}). Check path and permissions."
        ) from error


@dataclass(frozen=True)
class FileHeader:
    """What the header of an image file says."""

    file_format: str
    """Such as `JPEG` or `PNG`."""
    mode: str
    """Pillow's colour mode, such as `RGB`, `L` or `CMYK`."""
    width: int
    height: int


def file_header(source: ByteSource) -> FileHeader:
    """Read the header of an image file.

    Raises:
        DataError: The file is missing or no image.
    """
    try:
        content = io.BytesIO(_without_metadata(image_bytes(source)))
        with Image.open(content, formats=image_formats()) as image:
            return FileHeader(image.format or "unknown", image.mode, *image.size)
    except _UNREADABLE as error:
        raise DataError(f"{source}: can't be read as an image ({error}).") from error


def _without_metadata(data: bytes) -> bytes:
    """Drop the texts and the colour profile of a PNG, unless they can hold its orientation.

    Pillow refuses a whole image whose workflow or profile unpacks to more than a megabyte.
    """
    if not data.startswith(_PNG_SIGNATURE):
        return data
    start, kept = len(_PNG_SIGNATURE), [_PNG_SIGNATURE]
    dropped = False
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        drop = kind in _PNG_METADATA and not (
            data.startswith(_PNG_ORIENTATION, start + 8)
            and _unpacks_to_little(kind, data[start + 8 : end - 4])
        )
        if drop and end <= len(data):
            dropped = True
        else:
            kept.append(data[start:end])
        start = end
    return b"".join(kept) if dropped else data


def _unpacks_to_little(kind: bytes, content: bytes) -> bool:
    """Return whether a PNG's text has at most a megabyte, which is as much as Pillow takes."""
    packed = content.partition(b"\0")[2]
    if kind == b"iTXt":
        is_packed, packed = packed[:1] == b"\1", packed[2:].split(b"\0", 2)[-1]
    else:
        is_packed, packed = kind == b"zTXt", packed[1:]
    if not is_packed:
        return True
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, ImageFile.SAFEBLOCK)
    except zlib.error:
        return False
    return not unpacking.unconsumed_tail


def _check_size(image: Image.Image, name: str) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width} x {image.height} pixels, the limit is {MAX_PIXELS:,}. "
            "Scale it down first."
        )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _UNREADABLE:
        return image


def _to_rgb(image: Image.Image, name: str, *, is_png: bool) -> RGBImage:
    # Older Pillow opens 16-bit gray PNG as "I", newer as "I;16".
    if image.mode.startswith("I;16") or (image.mode == "I" and is_png):
        gray = np.asarray(image).astype(np.uint32)
        return np.repeat(((gray + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name}: pixels of mode {image.mode!r} (32 bits a channel) have no agreed range; "
            "expected 8 or 16 bits. Convert it first."
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))


def encode_png(image: RGBImage) -> bytes:
    """Encode an image as PNG: lossless, so `read_rgb` returns the same pixels.

    Run folders and studies record the hash of these bytes: equal pixels give equal bytes on one
    version of Pillow, and nothing of the image but its pixels gets into them.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=_PNG_COMPRESSION)
    return buffer.getvalue()


def center_crop(image: RGBImage) -> RGBImage:
    """Crop the largest centred square; an odd remainder drops one more row or column at the end.

    >>> center_crop(np.zeros((3, 6, 3), np.uint8)).shape
    (3, 3, 3)
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def resize(image: RGBImage, size_px: int, filter: Filter = "bicubic") -> RGBImage:  # noqa: A002
    """Scale so that the shorter side is `size_px`, keeping the aspect ratio.

    Pillow's filters widen when they shrink (antialiasing), and their result is rounded to 8 bits.
    """
    height, width = image.shape[:2]
    scale = size_px / min(height, width)
    return resize_to(image, round(height * scale), round(width * scale), filter)


def squash(image: RGBImage, size_px: int, filter: Filter = "bicubic") -> RGBImage:  # noqa: A002
    """Scale to a square of `size_px`, ignoring the aspect ratio."""
    return resize_to(image, size_px, size_px, filter)


def resize_to(image: RGBImage, height: int, width: int, name: Filter) -> RGBImage:
    """Resize to a height and a width with an antialiased filter.

    Raises:
        ConfigError: No such filter, or a size below 1 px.
    """
    if name not in _RESAMPLING:
        raise ConfigError(f"Unknown filter {name!r}; choose one of {', '.join(_RESAMPLING)}.")
    if min(height, width) < 1:
        raise ConfigError(f"Image size must be at least 1 px, got {height} x {width}.")
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), _RESAMPLING[name]))


def to_square(
    image: RGBImage,
    size_px: int,
    *,
    crop: Crop = "center",
    filter: Filter = "bicubic",  # noqa: A002
    name: str = "image",
) -> RGBImage:
    """Bring a decoded image to a square of `size_px`.

    Args:
        image: What `read_rgb` returned.
        size_px: Side of the result.
        crop: "center" crops the largest centred square (GLIDE and most later work), "squash"
            distorts (older work), "none" requires a square image.
        filter: Antialiased resampling filter.
        name: The image's name in errors.

    Raises:
        DataError: The image isn't square with `crop="none"`.
        ConfigError: No such crop or filter, or a size below 1 px.
    """
    if crop not in get_args(Crop):
        raise ConfigError(f"Unknown crop {crop!r}; choose one of {', '.join(get_args(Crop))}.")
    height, width = image.shape[:2]
    if crop == "center":
        image = center_crop(image)
    elif crop == "none" and height != width:
        raise DataError(
            f"{name}: {width} x {height} px is not square, and crop is 'none'. "
            "Choose crop 'center' or 'squash'."
        )
    return squash(image, size_px, filter)


def prepare(
    source: Path | str | bytes,
    *,
    crop: Crop = "center",
    size_px: int = 256,
    filter: Filter = "bicubic",  # noqa: A002
) -> RGBImage:
    """Decode an image and bring it to a square, as published COCO evaluations do.

    Raises:
        DataError: The image can't be decoded, or isn't square with `crop="none"`.
    """
    name = "image" if isinstance(source, bytes) else str(source)
    return to_square(read_rgb(source), size_px, crop=crop, filter=filter, name=name)
