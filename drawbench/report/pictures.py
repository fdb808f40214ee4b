"""Pictures inside the page: small JPEGs as data URLs, without metadata."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from evalkit.core.errors import DataError

Gallery = Callable[[str, str], Sequence[Path]]
"""The image files of a prompt id and a model, in the order shown."""

THUMBNAIL_PX = 112
SCREENSHOT_PX = 900
QUALITY = 82
MAX_PER_SIDE = 8


def no_pictures(prompt_id: str, model: str) -> Sequence[Path]:
    """Return no images: a table of votes contains none."""
    return ()


def thumbnails(gallery: Gallery, prompt_id: str, model: str) -> list[str]:
    """Return data URLs of the first images of one side, without those that can't be read."""
    found = []
    for path in list(gallery(prompt_id, model))[:MAX_PER_SIDE]:
        with suppress(DataError, OSError):
            found.append(picture(path, THUMBNAIL_PX))
    return found


def picture(path: Path, longest_px: int) -> str:
    """Return an image, scaled down to a maximum side, as a data URL."""
    from PIL import Image

    from evalkit.core.pixels import read_rgb

    image = Image.fromarray(read_rgb(path))
    image.thumbnail((longest_px, longest_px))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
