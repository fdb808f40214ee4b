"""Blind copies of images: only pixels, under a random name.

A copy is decoded as for the metrics (`evalkit.core.pixels`) and re-encoded as PNG, so that raters
see what is measured and no metadata, palette or file format of the generating program survives.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from drawbench.study.folder import IMAGE_FOLDER, ImageEntry
from evalkit.core.pixels import encode_png, read_rgb

BROKEN_GRAIN = 6  # width that a picture in an attention check is reduced to


def blind_copy(content: bytes, *, name: str) -> Image.Image:
    """Decode an image as metrics do: upright 8-bit RGB, transparency on white.

    Raises:
        DataError: The file is not an image, is truncated or too large, or has a pixel type without
            a defined range (32 bits per channel). The message begins with `name`.
    """
    return Image.fromarray(read_rgb(content, name=name))


def store_blind(
    folder: Path,
    picture: Image.Image,
    *,
    source: str,
    prompt_id: str,
    sample_index: int,
    origin: bytes,
) -> ImageEntry:
    """Write a blind copy under a random 128-bit name and return its entry."""
    key = secrets.token_hex(16)
    content = encode_png(np.asarray(picture))
    target = folder / IMAGE_FOLDER / f"{key}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return ImageEntry(
        key=key,
        source=source,
        prompt_id=prompt_id,
        sample_index=sample_index,
        sha256=hashlib.sha256(content).hexdigest(),
        source_sha256=hashlib.sha256(origin).hexdigest() if origin else "",
        width=picture.width,
        height=picture.height,
    )


def break_picture(picture: Image.Image, draw: random.Random) -> Image.Image:
    """Ruin a picture so that no attentive rater prefers it: coarse, blurred, noisy."""
    coarse = picture.resize((BROKEN_GRAIN, BROKEN_GRAIN), Image.Resampling.BOX)
    blurred = coarse.resize(picture.size, Image.Resampling.BICUBIC)
    noise = Image.frombytes("RGB", (64, 64), draw.randbytes(64 * 64 * 3))
    grain = noise.resize(picture.size, Image.Resampling.NEAREST)
    return Image.blend(blurred, grain, 0.6).filter(ImageFilter.GaussianBlur(1))


def least_alike(text: str, others: Sequence[str]) -> int:
    """Return the index of the text that shares the smallest part of its words with `text`."""
    words = _words(text)

    def overlap(other: str) -> float:
        own = _words(other)
        return len(words & own) / max(1, len(words | own))

    return min(range(len(others)), key=lambda index: overlap(others[index]))


def _words(text: str) -> set[str]:
    return {word.strip(".,;:'\"").lower() for word in text.split()} - {
        "a",
        "an",
        "the",
        "of",
        "and",
    }
