"""Given images as the requests of a run, so that everything that takes a run takes them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from evalkit.datasets.base import Caption, hash_captions
from evalkit.layouts.catalog import open_images
from evalkit.layouts.place import SCHEME, Place, parse_place
from evalkit.requests import IMPORTED_RULE, Requests

if TYPE_CHECKING:
    from evalkit.core.progress import ProgressFactory
    from generators.base import GeneratorSpec


@dataclass(frozen=True)
class ImportedSource:
    """One request per given image, in the order of their layout."""

    place: str
    """`folder:PATH[?KEY=VALUE&...]`."""
    name: str = "imported"

    def check(self) -> None:
        """Open the images.

        Raises:
            MissingDataError: There is nothing at the path.
            DataError: No image, or captions that don't fit the images.
        """
        open_images(self.place)

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Request each image by its caption and number, or by its place."""
        del spec, seed, progress
        seen: Counter[str] = Counter()
        wanted = []
        for place, item in enumerate(open_images(self.place).items):
            if item.caption is None:
                caption = Caption(f"image-{place}", "", "")
            else:
                assert item.caption_id is not None, "a caption of a set has an id"
                caption = Caption(item.caption_id, "", item.caption, kind=item.category)
            wanted.append((caption, seen[caption.id]))
            seen[caption.id] += 1
        captions = {caption.id: caption for caption, _ in wanted}
        return Requests(
            wanted=wanted,
            name=self.name,
            captions_sha256=hash_captions(captions.values()),
            rule=IMPORTED_RULE,
        )


def named_place(text: str, **keys: str) -> str:
    """Return the name of a place with further keys; empty ones are left out.

    >>> named_place("out", layout="geneval", name="SDXL")
    'folder:out?layout=geneval&name=SDXL'
    """
    place = parse_place(text)
    chosen = {**_keys(place), **{key: value for key, value in keys.items() if value}}
    query = "&".join(f"{key}={value}" for key, value in chosen.items())
    return f"{SCHEME}{place.path}" + (f"?{query}" if query else "")


def _keys(place: Place) -> dict[str, str]:
    found = {field.name: getattr(place, field.name) for field in fields(place)}
    return {key: value for key, value in found.items() if value and key != "path"}
