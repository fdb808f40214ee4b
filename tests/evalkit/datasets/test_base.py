"""Drawing captions by seed, and the ids and hashes around it."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.errors import ConfigError, DataError
from evalkit.datasets.base import (
    Caption,
    CaptionedFiles,
    CaptionedImages,
    check_inside,
    hash_captions,
    id_order,
    select_captions,
)


def dataset(count: int) -> CaptionedFiles:
    captions = tuple(Caption(str(k), str(k // 5), f"text {k}") for k in range(count))
    files = {str(k): f"{k}.png" for k in range((count + 4) // 5)}
    return CaptionedFiles("numbers", Path("images"), captions, files)


def test_selection_by_hand():
    """The smallest hashes of "seed/id", computed here once more in the plainest way."""
    hashes = {str(k): hashlib.sha256(f"7/{k}".encode()).hexdigest() for k in range(50)}
    expected = sorted(hashes, key=lambda k: hashes[k])[:10]
    assert [caption.id for caption in select_captions(dataset(50), 10, 7)] == expected


def test_selection_is_pinned_across_versions():
    assert [c.id for c in select_captions(dataset(1000), 5, 0)] == [
        "486",
        "16",
        "969",
        "771",
        "325",
    ]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(0, 2**63), st.data())
def test_selection_has_no_repeats_and_a_smaller_one_is_its_beginning(
    count: int, seed: int, data: st.DataObject
):
    n = data.draw(st.integers(1, count))
    chosen = select_captions(dataset(count), n, seed)
    assert len({caption.id for caption in chosen}) == n
    assert select_captions(dataset(count), count, seed)[:n] == chosen


def test_selection_does_not_depend_on_the_order_in_the_file():
    forward = dataset(30)
    backward = CaptionedFiles("n", Path(), forward.captions[::-1], forward.image_files)
    assert select_captions(forward, 9, 1) == select_captions(backward, 9, 1)
    assert forward.captions_sha256 == backward.captions_sha256


def test_every_caption_is_equally_likely():
    """Each of 10 captions in 3 of 10 draws: 400 seeds give 120, standard deviation 9.2."""
    counts = [0] * 10
    for seed in range(400):
        for caption in select_captions(dataset(10), 3, seed):
            counts[int(caption.id)] += 1
    assert all(120 - 4 * 9.2 < count < 120 + 4 * 9.2 for count in counts)


def test_seed_matters():
    assert select_captions(dataset(50), 10, 0) != select_captions(dataset(50), 10, 1)


@pytest.mark.parametrize("n", [0, -1, 51])
def test_more_captions_than_there_are(n: int):
    with pytest.raises(ConfigError, match=f"draw {n} captions from numbers, which has 50"):
        select_captions(dataset(50), n, 0)


def test_hash_by_hand_and_each_field_matters():
    captions = [Caption("2", "1", "é"), Caption("10", "1", "b")]
    lines = ['["2", "1", "é"]\n', '["10", "1", "b"]\n']
    assert hash_captions(captions) == hashlib.sha256("".join(lines).encode()).hexdigest()
    variants = [("3", "1", "é"), ("2", "2", "é"), ("2", "1", "e")]
    hashes = {hash_captions([Caption(*v), captions[1]]) for v in variants}
    assert len(hashes | {hash_captions(captions)}) == 4


def test_ids_are_ordered_by_value():
    assert sorted(["b", "10", "9", "a", "²"], key=id_order) == ["9", "10", "a", "b", "²"]


def test_files_implement_the_protocol():
    files = dataset(12)
    assert isinstance(files, CaptionedImages)
    assert files.image_ids == ("0", "1", "2")
    assert files.image_path("2") == Path("images/2.png")
    with pytest.raises(DataError, match="'9'"):
        files.image_path("9")


def test_captions_can_be_written_as_json():
    assert json.dumps(vars(Caption("1", "2", "t", 3, {"a": 1})))


@pytest.mark.parametrize(
    "name",
    [
        "../x.png",
        "a/../../x",
        "/etc/x.png",
        "C:\\x.png",
        "C:x",
        "\\\\host\\x",
        "a\\..\\x",
        "",
        "a\0b",
    ],
)
def test_paths_that_leave_their_folder(name: str):
    with pytest.raises(DataError, match=r"^here: .*relative path"):
        check_inside(name, where="here")


@pytest.mark.parametrize("name", ["x.png", "a/b/x.png", "..x.png", "a..b/x.png"])
def test_paths_that_stay(name: str):
    assert check_inside(name, where="here") == name
