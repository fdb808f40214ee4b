"""Blind copies of images: pixels and nothing else, under a name that says nothing.

A copy is decoded, turned upright, converted to 8-bit RGB and written anew as PNG, so that no
metadata, no palette and no file format of the generating program survives.
"""

from __future__ import annotations

import hashlib
import io
import random
import secrets
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from drawbench.study import IMAGE_FOLDER, ImageEntry
from evalkit.core.errors import DataError

BROKEN_GRAIN = 6  # pixels across that are left of a picture in an attention check


def blind_copy(content: bytes, *, name: str) -> Image.Image:
    """The picture in a file's bytes as upright 8-bit RGB; transparency is laid on white.

    Raises:
        DataError: It is no image, truncated, or too large to be one.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            return _to_rgb(upright)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{name}: not a whole image ({error}). Make it anew.") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: too large for an image ({error}).") from error


def store_blind(
    folder: Path,
    picture: Image.Image,
    *,
    source: str,
    prompt_id: str,
    sample_index: int,
    origin: bytes,
) -> ImageEntry:
    """Write a blind copy under a random name of 128 bits and say whose it is."""
    key = secrets.token_hex(16)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=6)
    target = folder / IMAGE_FOLDER / f"{key}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())
    return ImageEntry(
        key=key,
        source=source,
        prompt_id=prompt_id,
        sample_index=sample_index,
        sha256=hashlib.sha256(buffer.getvalue()).hexdigest(),
        source_sha256=hashlib.sha256(origin).hexdigest() if origin else "",
        width=picture.width,
        height=picture.height,
    )


def break_picture(picture: Image.Image, draw: random.Random) -> Image.Image:
    """A picture that nobody who looks can prefer: coarse, blurred and covered with noise."""
    coarse = picture.resize((BROKEN_GRAIN, BROKEN_GRAIN), Image.Resampling.BOX)
    blurred = coarse.resize(picture.size, Image.Resampling.BICUBIC)
    noise = Image.frombytes("RGB", (64, 64), draw.randbytes(64 * 64 * 3))
    grain = noise.resize(picture.size, Image.Resampling.NEAREST)
    return Image.blend(blurred, grain, 0.6).filter(ImageFilter.GaussianBlur(1))


def least_alike(text: str, others: Sequence[str]) -> int:
    """Index of the text that shares the smallest part of its words with `text`."""
    words = _words(text)

    def overlap(other: str) -> float:
        own = _words(other)
        return len(words & own) / max(1, len(words | own))

    return min(range(len(others)), key=lambda index: overlap(others[index]))


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I") or picture.mode == "F":
        # 16-bit gray: keep the upper byte.
        picture = picture.point(lambda value: value / 256).convert("L")
    if picture.mode in ("LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode == "RGBA":
        ground = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(ground, picture)
    rgb = picture.convert("RGB")
    # Only the pixels go on; `info` could carry text, profiles and times into the new file.
    return Image.frombytes("RGB", rgb.size, rgb.tobytes())


def _words(text: str) -> set[str]:
    return {word.strip(".,;:'\"").lower() for word in text.split()} - {
        "a",
        "an",
        "the",
        "of",
        "and",
    }
