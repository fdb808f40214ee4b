"""The draws of captions by which published evaluations chose theirs, each exactly.

A draw numbers a pool of captions, picks numbers, and orders what it picked:

| draw | picks |
|---|---|
| `hash-rank` | the smallest sha256(seed/caption id); evalkit's own |
| `numpy-permutation` | `RandomState(seed).permutation(N)[:k]`, which is also `choice(N, k, replace=False)` and the order of pandas' `sample(frac=1, random_state=seed)` |
| `in order` | the first k |
| `list` | a published list |
"""  # noqa: E501 (a table)

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from evalkit.core.errors import ConfigError, DataError
from evalkit.datasets.base import (
    SELECTION_RULE,
    Caption,
    CaptionedImages,
    FileOrder,
    id_order,
    select_captions,
)
from evalkit.datasets.published_lists import LISTS, normal_hash, read_list, require_list

if TYPE_CHECKING:
    from evalkit.protocols.model import Captions

_MOST_PER_IMAGE = 5
"""`one of the first five`: further captions of an image are never drawn."""
_KNOWN_SHARE = 0.9
"""Share of a list without image ids that the data set must contain."""


def draw_captions(dataset: CaptionedImages, rule: Captions, n: int, seed: int) -> list[Caption]:
    """Draw n captions of a data set by a protocol's rule.

    Args:
        dataset: The data set.
        rule: The protocol's `captions`.
        n: Number of captions.
        seed: Seed of a `hash-rank` draw; the others have their own.

    Raises:
        ConfigError: More captions than the pool has.
        DataError: The data set's copy lacks the order of the annotations, or the list is of other
            captions.
        MissingDataError: The published list is not in the cache.
    """
    if rule.draw == "list":
        return _listed(dataset, rule, n)
    if rule.draw == "hash-rank" and rule.pool == "all captions":
        return select_captions(dataset, n, seed)
    pool = _pool(dataset, rule)
    if not 1 <= n <= len(pool):
        raise ConfigError(
            f"Can't draw {n:,} of the {rule.pool} of {dataset.name}, which are {len(pool):,}. "
            f"Choose n from 1 to {len(pool):,}."
        )
    if rule.draw == "hash-rank":
        drawn = _one_per_image(sorted(pool, key=lambda caption: _rank(seed, caption)))[:n]
    else:
        drawn = [pool[place] for place in positions(rule, len(pool), n)]
    if rule.order == "ids":
        drawn = sorted(drawn, key=lambda caption: id_order(caption.id))
    return drawn


def positions(rule: Captions, size: int, n: int) -> Sequence[int]:
    """Return the positions in the pool that a rule draws, in the order of the draw."""
    if rule.draw == "in order":
        return range(n)
    assert rule.draw == "numpy-permutation", rule.draw
    found: list[int] = np.random.RandomState(rule.seed).permutation(size)[:n].tolist()
    return found


def selection_rule(rule: Captions) -> str:
    """Describe a draw in the configuration of a run."""
    if rule.draw == "list":
        return f"published list {rule.list}"
    if rule.draw == "hash-rank" and rule.pool == "all captions":
        return SELECTION_RULE
    if rule.draw == "hash-rank":
        return f"{SELECTION_RULE}, {rule.pool}"
    listed = {"ids": "caption id", "annotations": "annotations", "images": "images"}[rule.listing]
    return f"{rule.draw}, seed {rule.seed}, {rule.pool} in order of {listed}, {rule.order} order"


def is_seeded_by_run(rule: Captions) -> bool:
    """Return whether the run's seed is the seed of the draw; published draws have their own."""
    return rule.draw in ("hash-rank", "uniform classes")


def _pool(dataset: CaptionedImages, rule: Captions) -> list[Caption]:
    needs_order = rule.listing != "ids" or rule.pool in ("first captions", "one of the first five")
    if rule.draw == "hash-rank" and rule.listing == "ids":
        needs_order = False  # our own draw: an unknown order falls back on the ids
    listed = _in_listing(dataset, rule, needs_order=needs_order)
    if rule.pool == "first captions":
        listed = _one_per_image(listed)
    elif rule.pool == "one of the first five":
        listed = _first_of_image(listed, _MOST_PER_IMAGE)
    if rule.listing == "ids" and needs_order:
        listed = sorted(listed, key=lambda caption: id_order(caption.id))
    if rule.newlines == "deleted":
        listed = [_without_newlines(caption) for caption in listed]
    return listed


def _in_listing(dataset: CaptionedImages, rule: Captions, *, needs_order: bool) -> list[Caption]:
    """Return all captions as the annotations array, the images array or the ids list them."""
    order: FileOrder | None = getattr(dataset, "file_order", None)
    if order is None:
        if needs_order:
            raise DataError(
                f"{dataset.name}: this copy doesn't have the original order and ids of the "
                "captions, which the draw depends on. Use the original annotations: evalkit data "
                "coco --archives."
            )
        return list(dataset.captions)
    by_id = {caption.id: caption for caption in dataset.captions}
    captions = [by_id[key] for key in order.captions]
    if rule.listing == "images":
        place = {image_id: number for number, image_id in enumerate(order.images)}
        captions.sort(key=lambda caption: place[caption.image_id])  # stable
    return captions


def _one_per_image(captions: Iterable[Caption]) -> list[Caption]:
    found: dict[str, Caption] = {}
    for caption in captions:
        found.setdefault(caption.image_id, caption)
    return list(found.values())


def _first_of_image(captions: Iterable[Caption], most: int) -> list[Caption]:
    counts: dict[str, int] = {}
    found = []
    for caption in captions:
        counts[caption.image_id] = counts.get(caption.image_id, 0) + 1
        if counts[caption.image_id] <= most:
            found.append(caption)
    return found


def _without_newlines(caption: Caption) -> Caption:
    text = caption.text.replace("\r", "").replace("\n", "").strip()
    return Caption(caption.id, caption.image_id, text, caption.label, caption.scene, caption.kind)


def _rank(seed: int, caption: Caption) -> bytes:
    return hashlib.sha256(f"{seed}/{caption.id}".encode()).digest()


def _listed(dataset: CaptionedImages, rule: Captions, n: int) -> list[Caption]:
    found = read_list(rule.list, require_list(rule.list))
    if n > len(found):
        raise ConfigError(f"The list {rule.list} has {len(found):,} captions, {n:,} were asked.")
    refuse_other_captions(dataset, rule.list, found)
    return found[:n]


def refuse_other_captions(dataset: CaptionedImages, name: str, listed: Sequence[Caption]) -> None:
    """Check that a list is of this data set: its images, and the captions of these.

    Raises:
        DataError: An image is not in the data set, or a caption is another's; the message says
            which, as for a list of another year.
    """
    with_image = bool(LISTS[name].image)
    known = {(c.image_id if with_image else "", _normal(c.text)) for c in dataset.captions}
    missing = [c for c in listed if (c.image_id, _normal(c.text)) not in known]
    allowed = 0 if with_image else (1 - _KNOWN_SHARE) * len(listed)
    if len(missing) > allowed:
        first = missing[0]
        of_image = f" of image {first.image_id}" if first.image_id else ""
        raise DataError(
            f"{len(missing):,} of the {len(listed):,} captions of {name} are not in "
            f"{dataset.name}, the first is {first.text[:60]!r}{of_image}. The data set has "
            "captions of another year or split; use val2014."
        )


def _normal(text: str) -> str:
    return " ".join(text.split())


__all__ = [
    "draw_captions",
    "is_seeded_by_run",
    "normal_hash",
    "positions",
    "refuse_other_captions",
    "selection_rule",
]
