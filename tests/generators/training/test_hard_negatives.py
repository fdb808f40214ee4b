"""False captions made of a caption's own words, and the loss that counts them."""

import pytest
import torch

from generators.clip.model import clip_loss
from generators.recipes.recipe import load_recipe
from generators.training.hard_negatives import MOST, HardNegatives

SHAPES = HardNegatives.from_objective(load_recipe("clip-tiny").objective)


def test_a_relation_is_reversed_and_shapes_and_sizes_change_places():
    found = SHAPES.of("A small red circle to the left of a large blue square.")
    assert found == [
        "a small red circle to the right of a large blue square.",
        "a small red square to the left of a large blue circle.",
        "a large red circle to the left of a small blue square.",
    ]


def test_every_neighbouring_pair_of_a_list_is_exchanged_once():
    assert SHAPES.of("a red circle, a blue square and a pink heart") == [
        "a red square, a blue circle and a pink heart",
        "a red circle, a blue heart and a pink square",
    ]
    assert len(SHAPES.of("a small circle, a large square, a small heart and a large star")) == MOST


@pytest.mark.parametrize("caption", ["three red stars", "a red circle", "", "a leftover ring"])
def test_captions_without_an_order_have_no_false_version(caption: str):
    assert SHAPES.of(caption) == []


def test_equal_words_are_not_exchanged():
    assert SHAPES.of("a red star over a blue star") == ["a red star under a blue star"]


def test_a_false_caption_as_near_as_the_true_one_costs_its_image_alone():
    eye = torch.eye(3)
    scale = torch.tensor(100.0).log()
    false = torch.stack([eye[:1], eye[1:2], eye[2:]])  # each image's own embedding
    none = clip_loss(eye, eye, scale)
    one = clip_loss(eye, eye, scale, None, false, torch.tensor([[True], [False], [False]]))
    every = clip_loss(eye, eye, scale, None, false)
    assert none.item() == pytest.approx(0, abs=1e-6)
    assert one.item() == pytest.approx(torch.log(torch.tensor(2.0)).item() / 6)
    assert every.item() == pytest.approx(3 * one.item())


def test_the_recipes_of_both_clips_read_the_order_of_words():
    for name in ("clip-tiny", "clip-tiny-noised"):
        assert load_recipe(name).objective["opposites"]
    assert not load_recipe("clip-tiny-judge").objective
