"""Draws of captions: exact on an index of COCO's size, and refused where they can't be exact."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evalkit.core.errors import ConfigError, DataError, MissingDataError
from evalkit.datasets import published_lists
from evalkit.datasets.base import SELECTION_RULE, Caption, CaptionedFiles, FileOrder
from evalkit.datasets.classes import drawn_class_requests
from evalkit.datasets.draws import draw_captions, positions, selection_rule
from evalkit.datasets.published_lists import (
    LISTS,
    PublishedList,
    keep_list,
    list_path,
    normal_hash,
    read_list,
)
from evalkit.protocols.catalog import PROTOCOLS, open_protocol
from evalkit.protocols.model import Captions

NUM_IMAGES, NUM_CAPTIONS = 40_504, 202_654
MOST_SECONDS = 2.0
"""What the issue allows a draw on this index."""

POSITIONS = {
    "mlperf-5k": (
        NUM_IMAGES,
        [22325, 19285, 2874, 10158, 13552],
        "a2856a4457ed39967b80d58e551443bcd2bfa09520e1727251a187b91a4800a7",
        "290ed7226daa3c43bc148734298393be2ce4a1326650479e732c345225fe328e",
    ),
    "mosaic-10k": (
        NUM_IMAGES,
        [30892, 19745, 22642, 10371, 4318],
        "6db1a3eadd702abfb87927a9c4213ce76c30202676d4704e7b1f8b35827db769",
        "b0947b576c4bd7bf8be21d5de16c8c535522a1481ba93e0b691d1cfe137a3e31",
    ),
    "heim-30k": (
        NUM_CAPTIONS,
        [85150, 65347, 150745, 46397, 116516],
        "fa4018c9644aa66cafcc1de1c3b182d9d05f80ecfebe3aae2ebbfed0ba3b700b",
        None,
    ),
}
"""Size of the pool, first positions, and hashes as drawn and sorted, as others published them."""


def joined_hash(numbers: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, numbers)).encode()).hexdigest()


@cache
def index() -> CaptionedFiles:
    """An index of val2014's size whose orders all differ: ids, images array, annotations array."""
    rng = np.random.RandomState(7)
    image_ids = [str(14 * k + 42) for k in range(NUM_IMAGES)]
    per_image = np.full(NUM_IMAGES, 5)
    per_image[rng.choice(NUM_IMAGES, NUM_CAPTIONS - 5 * NUM_IMAGES, replace=False)] += 1
    owners = np.repeat(np.arange(NUM_IMAGES), per_image)
    owners = owners[rng.permutation(NUM_CAPTIONS)]
    ids = 3 * rng.permutation(NUM_CAPTIONS) + 38
    captions = [
        Caption(str(key), image_ids[owner], f"Caption {key} of\nimage {owner}.")
        for key, owner in zip(ids, owners, strict=True)
    ]
    images = [image_ids[place] for place in rng.permutation(NUM_IMAGES)]
    ordered = tuple(sorted(captions, key=lambda c: int(c.id)))
    files = {key: f"COCO_val2014_{int(key):012d}.jpg" for key in image_ids}
    order = FileOrder([c.id for c in captions], images)
    return CaptionedFiles("coco", Path(), ordered, files, file_order=order)


def drawn(name: str) -> list[Caption]:
    rule = open_protocol(name).captions
    return draw_captions(index(), rule, rule.count, rule.seed)


@pytest.mark.parametrize("name", POSITIONS)
def test_published_positions_are_met(name: str) -> None:
    size, first, as_drawn, as_sorted = POSITIONS[name]
    rule = open_protocol(name).captions
    found = positions(rule, size, rule.count)
    assert list(found[:5]) == first
    assert joined_hash(found) == as_drawn
    assert as_sorted is None or joined_hash(sorted(found)) == as_sorted


def test_mlperf_draws_as_its_script_does() -> None:
    """pandas itself: rows sorted by annotation id, the first of each image, sampled, sorted."""
    data = index()
    assert data.file_order is not None
    by_id = {c.id: c for c in data.captions}
    rows = [by_id[key] for key in data.file_order.captions]
    frame = pd.DataFrame(
        {"id": [int(c.id) for c in rows], "image": [c.image_id for c in rows],
         "caption": [c.text for c in rows]}
    )  # fmt: skip
    frame = frame.drop_duplicates(subset="image", keep="first").sort_values("id")
    frame = frame.sample(frac=1, random_state=2023)[:5000].sort_values("id")
    found = drawn("mlperf-5k")
    assert [int(c.id) for c in found] == frame["id"].tolist()
    assert [c.text for c in found] == [t.replace("\n", "").strip() for t in frame["caption"]]


def test_mosaic_draws_as_its_script_does() -> None:
    data = index()
    assert data.file_order is not None
    by_id = {c.id: c for c in data.captions}
    captions: dict[str, str] = {}
    for key in data.file_order.captions:
        captions.setdefault(by_id[key].image_id, by_id[key].text)
    chosen = np.random.RandomState(0).choice(list(captions), 10_000, replace=False)
    found = drawn("mosaic-10k")
    assert [c.image_id for c in found] == chosen.tolist()
    assert [c.text for c in found] == [captions[image_id] for image_id in chosen]


def test_heim_draws_as_its_runner_does() -> None:
    data = index()
    assert data.file_order is not None
    by_id = {c.id: c for c in data.captions}
    of_image: dict[str, list[Caption]] = {image_id: [] for image_id in data.file_order.images}
    for key in data.file_order.captions:
        of_image[by_id[key].image_id].append(by_id[key])
    items = [caption for captions in of_image.values() for caption in captions]
    np.random.seed(0)  # noqa: NPY002 (what HELM does)
    chosen = np.random.choice(len(items), 30_000, replace=False)  # noqa: NPY002
    assert drawn("heim-30k") == [items[place] for place in chosen]


@pytest.mark.parametrize(
    "name", [n for n in PROTOCOLS if open_protocol(n).dataset.startswith("coco")]
)
def test_each_draw_is_fast_and_of_the_stated_size(name: str) -> None:
    rule = open_protocol(name).captions
    if rule.draw == "list":
        pytest.skip("a published list, whose file is not part of evalkit")
    index()
    started = time.process_time()  # of this process alone: the machine may be busy
    found = draw_captions(index(), rule, rule.count, rule.seed)
    assert time.process_time() - started < MOST_SECONDS
    assert len({c.id for c in found}) == rule.count
    if rule.pool != "all captions":
        assert len({c.image_id for c in found}) == rule.count


@pytest.mark.parametrize(
    ("name", "sha256"),
    [
        ("imagen-30k", "04737864f038ac2c16af70bac39fa7d23d18f9b11b9c0208a7b1623c9578a76e"),
        ("gigagan-30k", "b81fa49861241d41dba3940109165068af1e0445973a8da97ad979e811ac7511"),
        ("ldm-30k", "880536ecbb0cab37916c7e38dd1c9caad2357b1af3639f0fc0ba0324d420511c"),
        ("mosaic-10k", "064d82f35afa4d7b478f312e8839ab4b5647a9483fac590061b489e24161557d"),
        ("heim-30k", "3fd55f143a79b6374a1b0d265aa0dee3e9b9a54f03ea8c60770131528e447851"),
        ("mlperf-5k", "b170716e5afbba39f28f858153c30f0cd86fe64c88e0e87cb460c7f39d91b1a7"),
    ],
)
def test_draws_on_the_index_are_pinned(name: str, sha256: str) -> None:
    assert joined_hash([int(c.id) for c in drawn(name)]) == sha256


def test_one_of_the_first_five_never_draws_a_sixth() -> None:
    data = index()
    assert data.file_order is not None
    seen: dict[str, int] = {}
    sixth = set()
    by_id = {c.id: c for c in data.captions}
    for key in data.file_order.captions:
        image_id = by_id[key].image_id
        seen[image_id] = seen.get(image_id, 0) + 1
        if seen[image_id] > 5:
            sixth.add(key)
    assert sixth
    assert not sixth & {c.id for c in drawn("gigagan-30k")}


@pytest.mark.parametrize("name", ["mosaic-10k", "heim-30k", "mlperf-5k"])
def test_a_copy_without_the_original_order_is_refused(name: str) -> None:
    rule = open_protocol(name).captions
    with pytest.raises(DataError, match="original order and ids"):
        draw_captions(replace(index(), file_order=None), rule, rule.count, rule.seed)


def test_our_own_draw_needs_no_order() -> None:
    rule = open_protocol("imagen-30k").captions
    assert draw_captions(replace(index(), file_order=None), rule, 30_000, 0) == drawn("imagen-30k")
    assert selection_rule(rule) == SELECTION_RULE


def test_too_many_captions_are_refused() -> None:
    rule = open_protocol("mlperf-5k").captions
    with pytest.raises(ConfigError, match="Choose n from 1 to 40,504"):
        draw_captions(index(), rule, 40_505, 0)


@pytest.fixture
def small_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A published list of 40 first captions of the index, in a file of its own."""
    path = tmp_path / "list.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("image_id", "text"))
        writer.writerows((c.image_id, c.text) for c in drawn("ldm-30k")[:40])
    row = PublishedList(
        where="somewhere", sha256=hashlib.sha256(path.read_bytes()).hexdigest(), count=40,
        text="text", image="image_id",
    )  # fmt: skip
    monkeypatch.setitem(published_lists.LISTS, "t2i-benchmark-30k", row)
    return path


def test_a_published_list_is_kept_and_drawn_in_its_order(small_list: Path) -> None:
    rule = open_protocol("t2i-benchmark-30k").captions
    with pytest.raises(MissingDataError, match="evalkit data coco --protocol t2i-benchmark-30k"):
        draw_captions(index(), rule, 40, 0)
    assert keep_list("t2i-benchmark-30k", small_list) == list_path("t2i-benchmark-30k")
    found = draw_captions(index(), rule, 40, 0)
    assert [c.text for c in found] == [c.text for c in drawn("ldm-30k")[:40]]
    assert found[3].id == "t2i-benchmark-30k:3"
    assert draw_captions(index(), rule, 4, 0) == found[:4]


def test_a_list_whose_hash_differs_is_refused(small_list: Path) -> None:
    small_list.write_bytes(small_list.read_bytes() + b"1,a cat\n")
    with pytest.raises(DataError, match="but the list of t2i-benchmark-30k has") as caught:
        keep_list("t2i-benchmark-30k", small_list)
    assert "\n" not in str(caught.value)
    assert not list_path("t2i-benchmark-30k").exists()


def test_captions_of_another_year_are_refused(small_list: Path) -> None:
    keep_list("t2i-benchmark-30k", small_list)
    rule = open_protocol("t2i-benchmark-30k").captions
    other = CaptionedFiles("coco", Path(), index().captions[:1000], {})
    with pytest.raises(DataError, match="captions of another year or split"):
        draw_captions(other, rule, 40, 0)


def test_a_list_without_a_published_hash_is_pinned_at_first_use(
    small_list: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = replace(LISTS["t2i-benchmark-30k"], sha256="", count=40)
    monkeypatch.setitem(published_lists.LISTS, "t2i-benchmark-30k", row)
    read_list("t2i-benchmark-30k", small_list)
    text = small_list.read_text("utf-8")
    small_list.write_text(text.replace("Caption", "caption"), "utf-8")
    with pytest.raises(DataError, match="at its first use on this machine"):
        read_list("t2i-benchmark-30k", small_list)


def test_every_list_of_a_protocol_is_known() -> None:
    for name in PROTOCOLS:
        rule = open_protocol(name).captions
        if rule.draw == "list":
            assert LISTS[rule.list].count == rule.count
            assert selection_rule(rule) == f"published list {rule.list}"


def test_the_normal_form_is_of_white_space_and_unicode() -> None:
    texts = ["A  cat\nsits.", "Cafe\u0301"]
    by_hand = hashlib.sha256("A cat sits.\nCafé\n".encode()).hexdigest()
    assert normal_hash(texts) == by_hand
    with_ids = hashlib.sha256("7\tA cat sits.\n8\tCafé\n".encode()).hexdigest()
    assert normal_hash(texts, ["7", "8"]) == with_ids


def test_classes_in_turn_are_balanced() -> None:
    labels = [r.label for r in drawn_class_requests("classes in turn", 7, num_classes=3, seed=0)]
    assert labels == [0, 1, 2, 0, 1, 2, 0]


def test_uniform_classes_are_uniform_and_follow_the_seed() -> None:
    labels = [r.label for r in drawn_class_requests("uniform classes", 6000, num_classes=6, seed=0)]
    counts = np.bincount(labels, minlength=6)
    assert ((counts - 1000) ** 2 / 1000).sum() < 20.5  # chi-squared of 5, p = 0.001
    other = drawn_class_requests("uniform classes", 6000, num_classes=6, seed=1)
    assert [r.label for r in other] != labels


def test_edm_draws_the_class_after_the_latents() -> None:
    import torch

    found = drawn_class_requests("edm classes", 3, num_classes=10, seed=50_000, size_px=32)
    for number, request in enumerate(found):
        generator = torch.Generator().manual_seed(50_000 + number)
        torch.randn([3, 32, 32], generator=generator)
        assert request.label == int(torch.randint(10, size=[1], generator=generator))


def test_rules_of_draws_are_checked() -> None:
    rule = open_protocol("mlperf-5k").captions
    assert isinstance(rule, Captions)
    assert "seed 2023" in selection_rule(rule)
