"""Sides, orders and hands: balanced to within one, the same for the same seed."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from drawbench.study.assignment import (
    OpenSlot,
    choose_slots,
    comparison_index,
    deal,
    dice,
    image_order,
    insert_checks,
    presentation_order,
    side_table,
)

counts = st.integers(min_value=1, max_value=40)
seeds = st.integers(min_value=0, max_value=2**31)


@given(seed=seeds, num_items=counts, num_slots=counts)
def test_sides_are_balanced_for_each_rater_and_each_item(
    seed: int, num_items: int, num_slots: int
) -> None:
    table = side_table(seed, "block", num_items=num_items, num_slots=num_slots)
    assert len(table) == num_slots
    for row in table:
        assert abs(2 * sum(row) - num_items) <= 1
    for item in range(num_items):
        assert abs(2 * sum(row[item] for row in table) - num_slots) <= 1


def test_sides_differ_between_seeds_blocks_and_pairs_of_slots() -> None:
    one = side_table(0, "x", num_items=20, num_slots=4)
    assert one == side_table(0, "x", num_items=20, num_slots=4)
    assert one != side_table(1, "x", num_items=20, num_slots=4)
    assert one != side_table(0, "y", num_items=20, num_slots=4)
    assert one[0] != one[2]


def test_sides_are_not_predictable_from_the_item_alone() -> None:
    """Over 400 seeds, an item's first side is a fair coin to within 4 standard deviations."""
    heads = sum(side_table(s, "x", num_items=7, num_slots=1)[0][3] for s in range(400))
    assert abs(heads - 200) < 40


@given(seed=seeds, num_images=st.integers(min_value=1, max_value=16))
def test_every_image_stands_once_at_every_place(seed: int, num_images: int) -> None:
    orders = [
        image_order(seed, "i", slot=slot, side="a", num_images=num_images)
        for slot in range(num_images)
    ]
    for order in orders:
        assert sorted(order) == list(range(num_images))
    for place in range(num_images):
        assert sorted(order[place] for order in orders) == list(range(num_images))


@given(num_prompts=counts, num_pairs=st.integers(min_value=1, max_value=10))
def test_each_pair_is_rated_once_on_each_prompt_over_all_groups(
    num_prompts: int, num_pairs: int
) -> None:
    seen = Counter(
        (prompt, comparison_index(prompt, group, num_pairs))
        for prompt in range(num_prompts)
        for group in range(num_pairs)
    )
    assert set(seen.values()) == {1}
    assert len(seen) == num_prompts * num_pairs
    by_pair = Counter(comparison_index(p, 0, num_pairs) for p in range(num_prompts))
    assert max(by_pair.values()) - min(by_pair[k] for k in range(num_pairs)) <= 1


@given(
    seed=seeds,
    categories=st.lists(st.sampled_from("abc"), min_size=1, max_size=60),
    num_hands=st.integers(min_value=1, max_value=7),
)
def test_hands_share_out_every_category_evenly(
    seed: int, categories: list[str], num_hands: int
) -> None:
    hands = deal([(c, i) for i, c in enumerate(categories)], num_hands, seed)
    assert sorted(i for hand in hands for i in hand) == list(range(len(categories)))
    for category in set(categories):
        sizes = [sum(categories[i] == category for i in hand) for hand in hands]
        assert max(sizes) - min(sizes) <= 1
    assert max(map(len, hands)) - min(map(len, hands)) <= 1


@given(seed=seeds, rater=st.integers(min_value=1, max_value=999), size=counts)
def test_orders_are_permutations_that_raters_do_not_share(seed: int, rater: int, size: int) -> None:
    keys = list(range(size))
    order = presentation_order(seed, rater, keys)
    assert sorted(order) == keys
    assert order == presentation_order(seed, rater, keys)
    if size > 10:
        assert order != presentation_order(seed, rater + 1, keys)


@given(seed=seeds, size=counts, num_checks=st.integers(min_value=0, max_value=6))
def test_checks_are_all_there_and_never_first(seed: int, size: int, num_checks: int) -> None:
    items, checks = [f"i{k}" for k in range(size)], [f"c{k}" for k in range(num_checks)]
    mixed = insert_checks(seed, 1, items, checks)
    assert [entry for entry in mixed if entry in items] == items
    assert sorted(entry for entry in mixed if entry in checks) == sorted(checks)
    assert mixed[0] == items[0]


def _open(block: str, *counts_by_slot: int) -> list[OpenSlot]:
    return [
        OpenSlot(block=block, slot=slot, num_open=count)
        for slot, count in enumerate(counts_by_slot)
        if count
    ]


def test_the_block_that_is_furthest_behind_comes_first() -> None:
    slots = [*_open("full", 0, 0, 4), *_open("behind", 0, 3, 3)]
    sizes = {"full": 4, "behind": 3}
    for rater in range(20):
        choice = choose_slots(slots, sizes, num_slots=3, seed=0, rater=rater)
        assert choice == ("behind", [1])


def test_a_fresh_slot_is_taken_whole_before_leftovers_are_gathered() -> None:
    slots = _open("x", 2, 0, 5, 1)
    assert choose_slots(slots, {"x": 5}, num_slots=4, seed=0, rater=1) == ("x", [2])
    leftovers = _open("x", 2, 0, 3, 1)
    assert choose_slots(leftovers, {"x": 5}, num_slots=4, seed=0, rater=1) == ("x", [0, 2, 3])


def test_nothing_open_and_wishes_for_a_block() -> None:
    assert choose_slots([], {"x": 1}, num_slots=1, seed=0, rater=1) is None
    slots = [*_open("x", 1), *_open("y", 1)]
    sizes = {"x": 1, "y": 1}
    chosen = choose_slots(slots, sizes, num_slots=1, seed=0, rater=1, only_block="y")
    assert chosen == ("y", [0])
    taken = {choose_slots(slots, sizes, num_slots=1, seed=0, rater=r)[0] for r in range(30)}  # type: ignore[index]
    assert taken == {"x", "y"}


def test_dice_differ_by_label_and_not_by_machine() -> None:
    assert dice(0, "a").random() != dice(0, "b").random()
    assert dice(7, "sides", 3).random() == 0.7359981644929972
