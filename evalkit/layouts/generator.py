"""Images on disk as a generator: each request gets the image that was made for it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from drawbench.suites.files import clean_text
from evalkit.core.errors import ConfigError, DataError
from evalkit.features.sources import ImageItem, Preparation, hash_of, load_image
from evalkit.layouts.catalog import layout_of, open_images
from evalkit.layouts.found import ImageSet
from evalkit.layouts.place import parse_place
from generators.base import (
    UNKNOWN_PRECISION,
    GeneratorSpec,
    Request,
    Sample,
    Settings,
)
from generators.errors import UnsupportedRequestError


class FolderGenerator:
    """Images with captions by prompt and sample index, images without captions by index."""

    def __init__(self, name: str, images: ImageSet) -> None:
        self.images = images
        self.spec = GeneratorSpec(
            name=name,
            display_name=images.place.title,
            conditioning="text" if images.has_captions else "none",
            stages=(),
            precision=UNKNOWN_PRECISION,
            size_px=_edge(images.items[0]),
            fixed_size=False,
            training_data=(),
            weights=f"{len(images.items):,} given images, layout {images.layout}",
            weights_sha256=_hash_of_images(images.items),
        )
        self._by_prompt: dict[str, list[ImageItem]] = {}
        for item in images.items:
            self._by_prompt.setdefault(item.caption or "", []).append(item)

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Return the image of each request; where there is none, the reason.

        Raises:
            UnsupportedRequestError: A request has no prompt, but the images have captions.
        """
        del settings
        return [self._sample(request) for request in requests]

    def _sample(self, request: Request) -> Sample:
        if not self.images.has_captions:
            return _picked(self.images.items, request.index, "in the folder")
        if request.prompt is None:
            raise UnsupportedRequestError(f"{self.spec.name} needs a prompt in every request.")
        found = self._by_prompt.get(clean_text(request.prompt), [])
        return _picked(found, request.sample_index, "for this prompt")


def check(name: str, weights: Mapping[str, Path]) -> None:
    """Check that there is something at the place, without reading it.

    Raises:
        ConfigError: An unknown key, or there are weights.
        MissingDataError: There is nothing at the path.
    """
    if weights:
        raise ConfigError(f"{name} takes no --weights; its images are given.")
    layout_of(parse_place(name))


def load(name: str, device: str, weights: Mapping[str, Path]) -> FolderGenerator:
    """Open the images of `folder:PATH[?KEY=VALUE&...]`.

    Raises:
        ConfigError: An unknown layout, key or column.
        DataError: No image, or captions that don't fit the images.
    """
    del device, weights
    return FolderGenerator(name, open_images(name))


def _picked(items: Sequence[ImageItem], place: int, where: str) -> Sample:
    if place >= len(items):
        many = f"the images end at {len(items)}" if items else "there is no image"
        return Sample(image=None, status="failed", reason=f"{many} {where}")
    try:
        return Sample(image=load_image(items[place], Preparation()))
    except DataError as error:
        return Sample(image=None, status="failed", reason=str(error))


def _edge(item: ImageItem) -> int | None:
    """Return the edge of a set's images, by the first one; None if that is no readable square."""
    try:
        height, width = load_image(item, Preparation()).shape[:2]
    except DataError:
        return None
    return int(height) if height == width else None


def _hash_of_images(items: Sequence[ImageItem]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(f"{item.caption_id or ''} {hash_of(item)}\n".encode())
    return digest.hexdigest()
