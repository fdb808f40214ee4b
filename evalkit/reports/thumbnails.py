"""Thumbnails for a page: small and embedded; an unreadable image never fails a report."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Protocol, runtime_checkable

from PIL import Image

from evalkit.core.errors import EvalkitError
from evalkit.core.pixels import RGBImage, read_rgb
from evalkit.core.tables import ByteSource

MOST_EDGE_PX = 256
"""Longer side of an embedded image."""
_PIXEL_ART_PX = 128
_MOST_PNG_BYTES = 48 * 1024
_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """An image as a data URI, or why there is none."""

    uri: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""

    @property
    def is_pixel_art(self) -> bool:
        """Whether it is so small that it must be magnified without blur."""
        return max(self.width, self.height) <= _PIXEL_ART_PX


@runtime_checkable
class PixelSource(Protocol):
    """An image in memory, named by its `str`."""

    @property
    def pixels(self) -> RGBImage:
        """The image."""


Picture = Path | ByteSource | PixelSource
"""The source of an image: a file, a member of an archive, or an array."""


def thumbnail(source: Picture) -> Thumbnail:
    """Embed an image at no more than 256 px; an unreadable one becomes its error message.

    Images are PNG, except for photographs whose PNG exceeds 48 KB: these are JPEG of high quality,
    so that a page with a hundred of them stays small. The originals are in the run folder.
    """
    try:
        image = Image.fromarray(_pixels(source))
    except (EvalkitError, OSError) as error:
        return Thumbnail(fault=str(error).replace(str(source), PurePath(str(source)).name))
    image.thumbnail((MOST_EDGE_PX, MOST_EDGE_PX), Image.Resampling.LANCZOS)
    content, kind = _encoded(image, "PNG", optimize=True), "png"
    if len(content) > _MOST_PNG_BYTES:
        content, kind = _encoded(image, "JPEG", quality=_JPEG_QUALITY, subsampling=0), "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    return Thumbnail(uri=uri, width=image.width, height=image.height)


def _pixels(source: Picture) -> RGBImage:
    if isinstance(source, Path):
        return read_rgb(source)
    if isinstance(source, PixelSource):
        return source.pixels
    return read_rgb(source.read_bytes(), name=str(source))


def _encoded(image: Image.Image, form: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
