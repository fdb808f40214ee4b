"""What a layout finds: images, each with its caption if there are captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drawbench.suites.files import clean_text
from evalkit.core.errors import DataError
from evalkit.features.sources import ImageItem
from evalkit.layouts.place import Place
from evalkit.requests import prompt_id


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images of one model, in the order of their layout."""

    place: Place
    layout: str
    """Name of the layout in which they were found."""
    items: Sequence[ImageItem]
    """With a caption and its id each, or none has any."""

    @property
    def has_captions(self) -> bool:
        """Whether the images have captions."""
        return bool(self.items) and self.items[0].caption is not None


def image_set(place: Place, layout: str, found: Sequence[ImageItem]) -> ImageSet:
    """Check what a layout found, and complete the ids of the captions.

    Raises:
        DataError: There is no image, some have no caption, or one id has two captions.
    """
    if not found:
        raise DataError(f"{place.path}: no images in the layout {layout}. Choose another layout.")
    bare = [item for item in found if not (item.caption or "").strip()]
    if bare and len(bare) < len(found):
        raise DataError(
            f"{place.path}: {len(bare):,} of {len(found):,} images have no caption, the first is "
            f"{bare[0].name}. Caption all of them, or ignore the captions: "
            f"folder:{place.path}?layout=plain."
        )
    if bare:
        items = [replace(item, caption=None, caption_id=None) for item in found]
        return ImageSet(place=place, layout=layout, items=items)
    items = [_identified(item) for item in found]
    texts: dict[str, str] = {}
    for item in items:
        assert item.caption_id is not None
        assert item.caption is not None
        if texts.setdefault(item.caption_id, item.caption) != item.caption:
            raise DataError(
                f"{place.path}: the id {item.caption_id!r} has two captions, "
                f"{texts[item.caption_id]!r} and {item.caption!r}. Ids must differ."
            )
    return ImageSet(place=place, layout=layout, items=items)


def _identified(item: ImageItem) -> ImageItem:
    """Return an item with a clean caption and an id, by default that of a prompt."""
    text = clean_text(item.caption or "")
    return replace(
        item,
        caption=text,
        caption_id=item.caption_id or prompt_id(text),
        category=clean_text(item.category or "") or None,
    )
