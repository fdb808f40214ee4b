"""Captions: true, different, complete, and of few words."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.datasets.shapes.captions import mentions, write_captions
from evalkit.datasets.shapes.scene import (
    Background,
    Dice,
    Relation,
    Scene,
    SceneObject,
    sample_scene,
)

BACKGROUND = Background("gray", "stripes", "vertical", 1)
BLUE_RING = SceneObject("ring", "blue", "small", (5.0, 20.0, 20.0, 35.0))
ORANGE_CROSS = SceneObject("cross", "orange", "large", (30.0, 18.0, 58.0, 46.0))
COUNTS = {1: "one", 2: "two", 3: "three", 4: "four"}


def words(caption: str) -> list[str]:
    return caption.lower().rstrip(".").replace(",", "").split()


def all_captions(scene: Scene) -> set[str]:
    """Everything that can be said, over many throws."""
    throws = [write_captions(scene, Dice(k)) for k in range(60)]
    return {caption.lower().rstrip(".") for captions in throws for caption in captions}


def test_relations_by_hand():
    scene = Scene(
        "relation", (BLUE_RING, ORANGE_CROSS), (Relation(0, "left of", 1),), BACKGROUND, False
    )
    assert all_captions(scene) == {
        "a blue ring left of an orange cross",
        "a blue ring to the left of an orange cross",
        "an orange cross right of a blue ring",
        "an orange cross to the right of a blue ring",
        "a picture of a blue ring left of an orange cross",
        "there is a blue ring to the left of an orange cross",
        "an image of an orange cross right of a blue ring",
        "a small blue ring left of a large orange cross",
        "a large orange cross right of a small blue ring",
        "a blue ring left of an orange cross on a striped gray background",
    }


def test_counts_by_hand():
    crosses = (ORANGE_CROSS,) * 3
    texts = all_captions(Scene("count", crosses, (), BACKGROUND, False))
    assert "three orange crosses" in texts
    assert "there are three orange crosses" in texts
    assert "three large orange crosses on a striped gray background" in texts
    assert all("three" in text and "orange crosses" in text for text in texts)


def test_sizes_and_background_are_noticed():
    assert mentions("A small blue ring on a striped gray background.") == {"size", "background"}
    assert mentions("a blue ring") == frozenset()
    assert mentions("A LARGE ring") == {"size"}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**40), st.sampled_from(["train", "val"]))
def test_five_different_captions_name_every_object(seed: int, split: str):
    scene = sample_scene(seed, split, 0)
    captions = write_captions(scene, Dice(seed))
    assert len(captions) == len(set(captions)) == 5
    assert len({caption.lower().rstrip(".") for caption in captions}) == 5
    for caption in captions:
        said = words(caption)
        assert len(said) <= 20
        for item in scene.objects:
            assert item.colour in said
            assert item.shape in said or f"{item.shape}s" in said or f"{item.shape}es" in said
        if "size" in mentions(caption):
            assert all(item.size in said for item in scene.objects)
        if scene.kind == "count":
            assert COUNTS[len(scene.objects)] in said
        if scene.relations:
            assert {"left", "right", "above", "below", "over", "under"} & set(said)


@pytest.mark.parametrize("relation", ["left of", "right of", "above", "below"])
def test_relation_captions_agree_with_the_drawing(relation: str):
    """Read each caption back: "X rel Y" must hold for the objects as they lie."""
    read = {"left": "left of", "right": "right of", "above": "above", "over": "above"}
    read |= {"below": "below", "under": "below"}
    inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    scene = Scene(
        "relation", (BLUE_RING, ORANGE_CROSS), (Relation(0, relation, 1),), BACKGROUND, False
    )
    for text in all_captions(scene):
        said = next(read[word] for word in words(text) if word in read)
        ring_first = text.index("ring") < text.index("cross")
        assert said == (relation if ring_first else inverse[relation])


def test_the_vocabulary_is_closed_and_small():
    vocabulary = set()
    for index in range(600):
        scene = sample_scene(1, "val", index)
        vocabulary |= {w for c in write_captions(scene, Dice(index)) for w in words(c)}
    assert len(vocabulary) <= 80
