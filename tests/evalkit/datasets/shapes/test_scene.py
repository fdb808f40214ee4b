"""Scenes: reproducible, well placed, and split so that nothing is in both halves."""

import hashlib
import json
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.errors import ConfigError
from evalkit.datasets.shapes.scene import (
    COLOUR_NAMES,
    GAP_PX,
    HELD_OUT_PAIRS,
    INVERSE,
    RELATIONS,
    SHAPES,
    SIZE_JITTER_PX,
    SIZES_PX,
    Background,
    Dice,
    Relation,
    Scene,
    SceneObject,
    is_held_out,
    sample_scene,
    split_of,
)

SPLITS = ("train", "val")
NUM_SCENES = 400


@pytest.fixture(scope="module")
def scenes() -> dict[str, list[Scene]]:
    return {split: [sample_scene(0, split, i) for i in range(NUM_SCENES)] for split in SPLITS}


def numbers():
    """What `sample_scene` takes; drawn in the test, as strategies may not call the type checker."""
    return st.tuples(st.integers(0, 2**40), st.sampled_from(SPLITS), st.integers(0))


def test_the_dice_are_pinned():
    """Data sets on disk depend on these draws; a change of them must raise `shapes.VERSION`."""
    dice = Dice("shapes", 0, "train", 0)
    assert [dice.below(1000) for _ in range(5)] == [827, 159, 502, 8, 975]


def test_scenes_are_pinned():
    """Trained checkpoints and their scores belong to these scenes."""
    digest = hashlib.sha256()
    for split, index in product(SPLITS, range(50)):
        digest.update(json.dumps(sample_scene(0, split, index).to_json()).encode())
    assert digest.hexdigest()[:16] == "1ec9584fc6931d4b"


def test_weighted_choice_follows_the_weights():
    dice = Dice("weights")
    drawn = [dice.weighted({"a": 3.0, "b": 1.0}) for _ in range(2000)]
    assert 0.71 < drawn.count("a") / 2000 < 0.79  # 4 standard errors around 0.75


@settings(max_examples=60, deadline=None)
@given(numbers())
def test_objects_lie_inside_and_apart(chosen: tuple[int, str, int]):
    scene = sample_scene(*chosen)
    for item in scene.objects:
        left, top, right, bottom = item.box
        assert 1 <= left < right <= 63
        assert 1 <= top < bottom <= 63
        assert right - left == bottom - top
        assert abs(right - left - SIZES_PX[item.size]) <= SIZE_JITTER_PX
        assert all(value * 4 == round(value * 4) for value in item.box)
    for one, other in combinations(scene.objects, 2):
        gaps = (
            other.box[0] - one.box[2],
            one.box[0] - other.box[2],
            other.box[1] - one.box[3],
            one.box[1] - other.box[3],
        )
        assert max(gaps) >= GAP_PX


@settings(max_examples=60, deadline=None)
@given(numbers())
def test_relations_are_true_by_a_clear_margin(chosen: tuple[int, str, int]):
    scene = sample_scene(*chosen)
    assert (scene.kind == "relation") == bool(scene.relations)
    for relation in scene.relations:
        one, other = scene.objects[relation.subject], scene.objects[relation.object]
        dx, dy = one.centre[0] - other.centre[0], one.centre[1] - other.centre[1]
        along, across = (dx, dy) if relation.relation in ("left of", "right of") else (dy, dx)
        direction = -1 if relation.relation in ("left of", "above") else 1
        assert direction * along >= 18
        assert abs(across) <= 8.5


@settings(max_examples=60, deadline=None)
@given(numbers())
def test_objects_can_be_told_apart_or_are_all_alike(chosen: tuple[int, str, int]):
    scene = sample_scene(*chosen)
    colours = [item.colour for item in scene.objects]
    if scene.kind == "count":
        assert len({(item.shape, item.colour) for item in scene.objects}) == 1
        assert 2 <= len(colours) <= 4
    else:
        assert len(set(colours)) == len(colours)


@settings(max_examples=60, deadline=None)
@given(numbers())
def test_json_round_trip(chosen: tuple[int, str, int]):
    scene = sample_scene(*chosen)
    assert Scene.from_json(json.loads(json.dumps(scene.to_json()))) == scene


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(SPLITS), st.integers(0, 10**6))
def test_a_scene_depends_on_its_three_numbers_alone(seed: int, split: str, index: int):
    first = sample_scene(seed, split, index)
    assert sample_scene(seed, split, index) == first
    assert sample_scene(seed + 1, split, index) != first
    assert sample_scene(seed, split, index + 1) != first


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(SPLITS), st.integers(0))
def test_splits_are_disjoint_by_construction(seed: int, split: str, index: int):
    """`split_of` is a function of the scene alone, so one scene can't be of two splits."""
    scene = sample_scene(seed, split, index)
    assert split_of(scene) == split
    assert split_of(Scene.from_json(scene.to_json())) == split


def test_training_has_no_held_out_combination(scenes: dict[str, list[Scene]]):
    for scene in scenes["train"]:
        assert not scene.held_out
        assert not any((item.shape, item.colour) in HELD_OUT_PAIRS for item in scene.objects)
    shares = sum(scene.held_out for scene in scenes["val"]) / NUM_SCENES
    assert 0.4 < shares < 0.6


def test_training_shows_every_shape_and_colour_and_no_held_out_pair(
    scenes: dict[str, list[Scene]],
):
    seen = {(item.shape, item.colour) for scene in scenes["train"] for item in scene.objects}
    assert {shape for shape, _ in seen} == set(SHAPES)
    assert {colour for _, colour in seen} == set(COLOUR_NAMES)
    assert seen == set(product(SHAPES, COLOUR_NAMES)) - HELD_OUT_PAIRS


def test_held_out_pairs_cover_all_shapes_and_each_colour_once():
    assert sorted(colour for _, colour in HELD_OUT_PAIRS) == sorted(COLOUR_NAMES)
    assert {shape for shape, _ in HELD_OUT_PAIRS} == set(SHAPES)


def test_relations_are_held_out_from_either_side():
    """An eighth of (shape, colour, relation), and no pair loses more than one relation."""

    def held(relation: str, one: tuple[str, str], other: tuple[str, str]) -> bool:
        boxes = ((1.0, 1.0, 16.0, 16.0), (40.0, 1.0, 55.0, 16.0))
        objects = [SceneObject(*p, "small", b) for p, b in zip((one, other), boxes, strict=True)]
        return is_held_out(objects, [Relation(0, relation, 1)])

    pairs = [p for p in product(SHAPES, COLOUR_NAMES) if p not in HELD_OUT_PAIRS]
    for relation, one, other in product(RELATIONS, pairs[:12], pairs[-12:]):
        assert held(relation, one, other) == held(INVERSE[relation], other, one)
    plain = ("circle", "red")
    free = [r for r in RELATIONS if not held(r, plain, ("square", "blue"))]
    assert free  # the caption that everyone tries first is one that training may show


def test_the_background_decides_the_split_too(scenes: dict[str, list[Scene]]):
    """What is not held out is split by a hash of the whole scene, one eighth to validation."""
    base = scenes["train"][0]
    splits = [
        split_of(
            Scene(
                base.kind,
                base.objects,
                base.relations,
                Background("gray", "solid", "vertical", seed),
                held_out=False,
            )
        )
        for seed in range(800)
    ]
    assert 0.08 < splits.count("val") / 800 < 0.17


def test_kinds_follow_their_weights(scenes: dict[str, list[Scene]]):
    kinds = [scene.kind for split in SPLITS for scene in scenes[split]]
    assert 0.33 < kinds.count("single") / len(kinds) < 0.47
    assert 0.04 < kinds.count("several") / len(kinds) < 0.16


def test_label_is_the_shape_of_a_single_object(scenes: dict[str, list[Scene]]):
    for scene in scenes["train"][:100]:
        if scene.kind == "single":
            assert SHAPES[scene.label or 0] == scene.objects[0].shape
        else:
            assert scene.label is None


def test_unknown_split_is_refused():
    with pytest.raises((ConfigError, TypeError), match="test"):  # TypeError: types are checked
        sample_scene(0, "test", 0)  # type: ignore[arg-type]
