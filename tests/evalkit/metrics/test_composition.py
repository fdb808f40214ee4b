"""Composition by hand, on drawn images, and its intervals against other implementations."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import binomtest

from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.core.results import ResultRecord
from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.detector import Detection
from evalkit.datasets.shapes.scene import Background, Relation, Scene, SceneObject
from evalkit.metrics.composition import (
    Composition,
    SceneCheck,
    check,
    compare,
    read_relation,
    wilson_interval,
)

BACKGROUND = Background("gray", "solid", "vertical", 0)
LEFT, RIGHT, BELOW = (5.0, 20.0), (40.0, 20.0), (5.0, 45.0)


def wanted(*items: tuple[str, str], relation: str | None = None) -> Scene:
    objects = tuple(
        SceneObject(shape, colour, "small", (x, y, x + 15, y + 15))
        for (shape, colour), (x, y) in zip(items, (LEFT, RIGHT, BELOW), strict=False)
    )
    relations = (Relation(0, relation, 1),) if relation else ()
    return Scene("relation" if relation else "several", objects, relations, BACKGROUND, False)


def seen(shape: str, colour: str, at: tuple[float, float], size: str = "small") -> Detection:
    return Detection(shape, colour, size, (at[0], at[1], at[0] + 15, at[1] + 15), 150.0, 0.9)


RED_RING, BLUE_STAR = ("ring", "red"), ("star", "blue")


def test_all_found_by_hand():
    scene = wanted(RED_RING, BLUE_STAR, relation="left of")
    found = [seen(*BLUE_STAR, RIGHT), seen(*RED_RING, LEFT)]
    assert compare(found, scene) == SceneCheck(
        objects=2,
        objects_found=2,
        attributes=4,
        attributes_found=4,
        relations=1,
        relations_found=1,
        pairs_found=1,
        exact=1,
    )


def test_swapped_colours_by_hand():
    """A blue ring and a red star: no pair is right, yet each object has one attribute of two."""
    scene = wanted(RED_RING, BLUE_STAR, relation="left of")
    result = compare([seen("ring", "blue", LEFT), seen("star", "red", RIGHT)], scene)
    assert (result.objects_found, result.attributes_found, result.relations_found) == (0, 2, 0)
    assert (result.pairs_found, result.exact) == (0, 0)


def test_right_objects_in_the_wrong_order():
    scene = wanted(RED_RING, BLUE_STAR, relation="left of")
    result = compare([seen(*BLUE_STAR, LEFT), seen(*RED_RING, RIGHT)], scene)
    assert (result.objects_found, result.relations_found) == (2, 0)
    assert (result.pairs_found, result.exact) == (1, 0)


def test_counts_by_hand():
    """Three rings asked for. Two, or four: the pair is there, but the image is not exact."""
    scene = wanted(RED_RING, RED_RING, RED_RING)
    for number, found in ((0, 0), (2, 2), (3, 3), (4, 3)):
        result = compare([seen(*RED_RING, LEFT)] * number, scene)
        assert (result.objects, result.objects_found) == (3, found)
        assert (result.pairs_found, result.exact) == (int(number > 0), int(number == 3))


def test_an_object_too_many_is_not_exact():
    scene = wanted(RED_RING)
    result = compare([seen(*RED_RING, LEFT), seen(*BLUE_STAR, RIGHT)], scene)
    assert (result.objects_found, result.pairs_found, result.exact) == (1, 1, 0)


def test_sizes_count_only_where_the_caption_names_them():
    scene, found = wanted(RED_RING), [seen(*RED_RING, LEFT, "large")]
    for caption, attributes in ((None, 2), ("a red ring", 2), ("A small red ring.", 3)):
        result = compare(found, scene, caption=caption)
        assert (result.attributes, result.attributes_found) == (attributes, 2)
    assert compare([seen(*RED_RING, LEFT)], scene, caption="a small red ring").attributes_found == 3


def test_the_best_matching_counts_not_the_first():
    """Greedily, the blue ring would take the wanted red ring; two attributes would be lost."""
    scene = wanted(RED_RING, ("ring", "blue"))
    result = compare([seen("ring", "blue", LEFT), seen("star", "red", RIGHT)], scene)
    assert result.attributes_found == 3


@pytest.mark.parametrize(
    ("one", "other", "relation"),
    [
        ((10.0, 30.0), (40.0, 35.0), "left of"),
        ((40.0, 35.0), (10.0, 30.0), "right of"),
        ((30.0, 10.0), (32.0, 50.0), "above"),
        ((30.0, 50.0), (32.0, 10.0), "below"),
        ((30.0, 30.0), (33.0, 32.0), None),
        ((10.0, 10.0), (30.0, 50.0), "above"),
    ],
)
def test_relations_are_read_along_the_longer_axis(
    one: tuple[float, float], other: tuple[float, float], relation: str | None
):
    assert read_relation(one, other) == relation


@settings(max_examples=50, deadline=None)
@given(*[st.floats(0.0, 64.0)] * 4)
def test_relations_are_antisymmetric(x: float, y: float, u: float, v: float):
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    relation = read_relation((x, y), (u, v))
    assert read_relation((u, v), (x, y)) == (inverse[relation] if relation else None)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["ring", "star"]), st.sampled_from(["red", "blue"]))),
    st.lists(
        st.tuples(st.sampled_from(["ring", "star"]), st.sampled_from(["red", "blue"])),
        min_size=1,
        max_size=3,
    ),
)
def test_never_more_found_than_asked_for(
    found: list[tuple[str, str]], asked: list[tuple[str, str]]
):
    result = compare([seen(*item, LEFT) for item in found], wanted(*asked))
    assert 0 <= result.objects_found <= result.objects
    assert 2 * result.objects_found <= result.attributes_found <= result.attributes
    assert result.exact <= result.pairs_found


@pytest.fixture(scope="module")
def drawn() -> tuple[list[np.ndarray], list[Scene], list[str]]:
    rendered = [render(0, "val", index) for index in range(40)]
    return (
        [image for image, _, _ in rendered],
        [scene for _, scene, _ in rendered],
        [captions[0] for _, _, captions in rendered],
    )


def by_name(records: list[ResultRecord]) -> dict[str, ResultRecord]:
    return {record.metric.removeprefix("composition-"): record for record in records}


def test_drawn_scenes_are_all_right_and_shuffled_ones_are_not(drawn):
    images, scenes, captions = drawn
    records = by_name(Composition.of(images, scenes, captions).records())
    assert set(records) == {
        "pairs", "pairs-shuffled", "exact", "objects", "attributes", "relations",
    }  # fmt: skip
    for name, record in records.items():
        assert record.n == 40
        assert record.interval is not None
        assert record.value is not None
        assert record.interval.low <= record.value <= record.interval.high
        assert record.direction == ("none" if name == "pairs-shuffled" else "higher")
        if name != "pairs-shuffled":
            assert record.value >= 0.95
            assert record.details["chance"] < 0.4
    assert records["pairs-shuffled"].value == records["pairs"].details["chance"]
    assert records["pairs-shuffled"].value < 0.15
    groups = records["pairs"].details["by_group"]
    assert groups["held out"]["n"] + groups["seen"]["n"] == 40


def test_arrays_are_per_image_and_independent_of_order(drawn):
    images, scenes, captions = drawn
    arrays = Composition.of(images, scenes, captions).counts
    backward = Composition.of(images[::-1], scenes[::-1], captions[::-1]).counts
    for name, values in arrays.items():
        assert values.shape == (40,)
        assert np.array_equal(values, backward[name][::-1])
    first = check(images[0], scenes[0], caption=captions[0])
    assert {name: values[0] for name, values in arrays.items()} == vars(first)


def test_files_bytes_and_scenes_from_annotations_do_as_well(drawn, tmp_path: Path):
    images, scenes, _ = drawn
    path = tmp_path / "image.png"
    Image.fromarray(images[0]).save(path)
    buffer = io.BytesIO()
    Image.fromarray(images[1]).save(buffer, "PNG")
    plain = Composition.of(images[:2], scenes[:2]).counts
    other = Composition.of(
        [path, buffer.getvalue()], [scene.to_json() for scene in scenes[:2]]
    ).counts
    assert all(np.array_equal(plain[name], other[name]) for name in plain)


def test_images_that_were_not_made_show_nothing(drawn):
    images, scenes, _ = drawn
    records = by_name(Composition.of([None, *images[1:4]], scenes[:4]).records())
    assert records["pairs"].value == 0.75
    assert records["pairs"].details["missing_images"] == 1


def test_each_option_matters(drawn):
    images, scenes, captions = drawn
    mixed = [images[k] if k % 3 else images[(k + 1) % 40] for k in range(40)]

    def interval(**options: object) -> object:
        return by_name(Composition.of(mixed, scenes).records(**options))["objects"].interval

    fours = [str(k // 4) for k in range(40)]
    intervals = {interval(), interval(level=0.8), interval(ids=fours)}
    assert len(intervals) == 3
    assert interval() == interval()
    shuffled = [
        by_name(Composition.of(mixed, scenes).records(seed=seed))["attributes"].details["chance"]
        for seed in (0, 1)
    ]
    assert shuffled[0] != shuffled[1]
    asked = [
        by_name(Composition.of(mixed, scenes, texts).records())["attributes"].details["asked"]
        for texts in (None, captions)
    ]
    assert asked[0] < asked[1]


def test_without_relations_there_is_no_share(drawn):
    images, scenes, _ = drawn
    single = next(k for k, scene in enumerate(scenes) if scene.kind == "single")
    records = by_name(Composition.of([images[single]], [scenes[single]]).records())
    assert records["relations"].state == "not_applicable"
    assert records["relations"].reason == "no caption asks for relations"
    assert records["pairs-shuffled"].reason == "shuffled captions need at least 2 images"
    assert "chance" not in records["pairs"].details


def test_bad_input(drawn, tmp_path: Path):
    images, scenes, captions = drawn
    with pytest.raises(NotEnoughImagesError, match="at least 1 image, got 0"):
        Composition.of([], [])
    with pytest.raises(DataError, match="2 images but 3 scenes"):
        Composition.of(images[:2], scenes[:3])
    with pytest.raises(DataError, match="2 images but 1 captions"):
        Composition.of(images[:2], scenes[:2], captions[:1])
    with pytest.raises(DataError, match=r"gone\.png"):
        Composition.of([tmp_path / "gone.png"], scenes[:1])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.data())
def test_wilson_equals_scipy(n: int, data: st.DataObject):
    hits = data.draw(st.integers(0, n))
    expected = binomtest(hits, n).proportion_ci(0.9, method="wilson")
    found = wilson_interval(hits, n, level=0.9)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
