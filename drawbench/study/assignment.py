"""Who sees what, on which side, in which order: pure functions of a seed and plain counts.

A study is divided into *blocks* (a category of DrawBench, or a mixed hand of prompts). Each block
is rated `raters_per_item` times, once per *slot*, so a block of 20 items and 25 slots has 500
*cells*. A rater normally takes a complete slot of one block; items left by drop-outs are gathered
from several slots. Everything about a cell (which model comes first, the order of images in a set)
is fixed by the seed when the study is made, so the order of arrivals can't unbalance it.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def dice(seed: int, *labels: object) -> random.Random:
    """Return a random generator for one purpose, the same on every machine."""
    text = "\x1f".join([str(seed), *map(str, labels)])
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return random.Random(number)  # noqa: S311


def side_table(seed: int, block: str, *, num_items: int, num_slots: int) -> list[list[bool]]:
    """Decide whether model A comes first, by slot and item.

    Slots come in pairs that mirror each other, and within a slot half of the items are drawn at
    random. So each item shows A first in half of its slots and each slot shows A first in half of
    its items, both to within one.

    Returns:
        `table[slot][item_index]`.
    """
    table: list[list[bool]] = []
    for pair in range((num_slots + 1) // 2):
        draw = dice(seed, "sides", block, pair)
        # With an odd number of items, the larger half goes to A as often as to B.
        num_first = num_items // 2 + (num_items % 2) * draw.randrange(2)
        chosen = set(draw.sample(range(num_items), num_first))
        table.append([index in chosen for index in range(num_items)])
        table.append([index not in chosen for index in range(num_items)])
    return table[:num_slots]


def image_order(seed: int, item: str, *, slot: int, side: str, num_images: int) -> tuple[int, ...]:
    """Return the order in which one set of images is laid out.

    The first slot draws a random order and the following ones rotate it, so over `num_images`
    slots every image appears once at every position. Then a new order is drawn.

    Returns:
        Sample indices, first position first.
    """
    order = list(range(num_images))
    dice(seed, "images", item, side, slot // num_images).shuffle(order)
    turn = slot % num_images
    return tuple(order[turn:] + order[:turn])


def comparison_index(prompt_index: int, group: int, num_comparisons: int) -> int:
    """Return which comparison of a prompt a group of raters sees: a Latin square.

    With several pairs of models, group g sees pair (p + g) modulo the number of pairs on prompt p:
    each rater sees each prompt once and all pairs equally often (to within one), and over all
    groups every pair is rated on every prompt.
    """
    return (prompt_index + group) % num_comparisons


def deal(prompts: Sequence[tuple[str, T]], num_hands: int, seed: int) -> list[list[T]]:
    """Deal (category, prompt) pairs into hands that hold all categories evenly.

    Returns:
        `num_hands` lists whose lengths differ by at most one, as do their counts of each category.
    """
    by_category: dict[str, list[T]] = {}
    for category, prompt in prompts:
        by_category.setdefault(category, []).append(prompt)
    ordered: list[T] = []
    for category, members in by_category.items():
        dice(seed, "deal", category).shuffle(members)
        ordered += members
    return [ordered[hand::num_hands] for hand in range(num_hands)]


def presentation_order(seed: int, rater: int, keys: Sequence[T]) -> list[T]:
    """Return the order in which a rater sees the items, drawn for each rater."""
    order = list(keys)
    dice(seed, "order", rater).shuffle(order)
    return order


def insert_checks(seed: int, rater: int, items: Sequence[T], checks: Sequence[T]) -> list[T]:
    """Spread attention checks over a rater's items: one at random within each equal stretch.

    A check never comes first, so no rater's first page shows a degraded picture.
    """
    if not checks:
        return list(items)
    draw = dice(seed, "checks", rater)
    shuffled = list(checks)
    draw.shuffle(shuffled)
    bounds = [round(len(items) * k / len(shuffled)) for k in range(len(shuffled) + 1)]
    places = [
        draw.randint(min(low + 1, max(high, 1)), max(high, 1))
        for low, high in itertools.pairwise(bounds)
    ]
    result: list[T] = []
    for index in range(len(items) + 1):
        result += [check for check, place in zip(shuffled, places, strict=True) if place == index]
        result += items[index : index + 1]
    return result


@dataclass(frozen=True, kw_only=True)
class OpenSlot:
    """A slot of a block with items that no rater holds."""

    block: str
    slot: int
    num_open: int


def choose_slots(
    open_slots: Sequence[OpenSlot],
    block_sizes: Mapping[str, int],
    *,
    num_slots: int,
    seed: int,
    rater: int,
    only_block: str | None = None,
) -> tuple[str, list[int]] | None:
    """Choose the block for the next rater, and its slots in order of preference.

    The block that is furthest behind comes first, so that a study stopped early has balanced
    categories; ties are broken at random. In it, a slot that nobody has begun is assigned as a
    whole. Only when none is left do raters get what others left undone, so few raters get short
    hands.

    Args:
        open_slots: Slots with at least one open item.
        block_sizes: Number of items of every block.
        num_slots: Slots of every block.
        seed: The study's seed.
        rater: Running number of the rater.
        only_block: Take this block or none.

    Returns:
        The block and its slots, or None when nothing is open.
    """
    by_block: dict[str, list[OpenSlot]] = {}
    for entry in open_slots:
        if only_block in (None, entry.block):
            by_block.setdefault(entry.block, []).append(entry)
    if not by_block:
        return None
    draw = dice(seed, "block", rater)
    tie_break = {block: draw.random() for block in sorted(by_block)}

    def share_open(block: str) -> float:
        cells = block_sizes[block] * num_slots
        return sum(entry.num_open for entry in by_block[block]) / cells

    block = max(by_block, key=lambda name: (share_open(name), tie_break[name]))
    fresh = [e.slot for e in by_block[block] if e.num_open == block_sizes[block]]
    if fresh:
        return block, [min(fresh)]
    return block, sorted(entry.slot for entry in by_block[block])
