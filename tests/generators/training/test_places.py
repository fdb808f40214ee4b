"""What captions say of places, as a loss on embeddings."""

import itertools
import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from evalkit.core.errors import ConfigError
from evalkit.core.registry import load
from generators.recipes.objectives import check_objective
from generators.recipes.recipe import load_recipe
from generators.training.data import Batch
from generators.training.draws import Draws
from generators.training.networks import NETWORKS
from generators.training.places import SHARPNESS, PlacesTold

COLOURS, SHAPES = ["red", "blue", "green"], ["ring", "star"]
TOLD = PlacesTold([COLOURS, SHAPES], 32)


@pytest.mark.parametrize(
    ("caption", "places"),
    [
        ("a red ring left of a blue star", (0, 1)),
        ("A red ring to the right of a blue star.", (1, 0)),
        ("there is a red ring above a blue star", (2, 3)),
        ("a small red ring over a large blue star", (2, 3)),
        ("a red ring below a blue star on a plain white background", (3, 2)),
        ("a red ring under a blue star", (3, 2)),
    ],
)
def test_both_things_of_a_relation_have_a_place(caption: str, places: tuple[int, int]):
    first, second = places
    assert TOLD.labels(caption) == [(0, first, 0), (0, second, 1), (1, first, 0), (1, second, 1)]


@pytest.mark.parametrize(
    "caption",
    ["", "a red ring", "three red rings", "a red ring, a blue star and a green ring",
     "a ring above a star", "a red ring above a blue star left of a green ring",
     "the leftover red ring, a blue star"],
)  # fmt: skip
def test_other_captions_tell_nothing(caption: str):
    assert TOLD.labels(caption) == []
    assert TOLD(torch.randn(1, 32), [caption]).item() == 0


def test_the_same_statement_from_either_side_has_the_same_labels():
    one = TOLD.labels("a red ring left of a blue star")
    other = TOLD.labels("a blue star right of a red ring")
    assert sorted(one) == sorted(other)
    assert sorted(one) != sorted(TOLD.labels("a blue star left of a red ring"))


def test_the_loss_by_hand():
    """An embedding of no direction guesses: ln 3 and ln 2; its own directions make it sure."""
    caption = "a red ring left of a blue star"
    blank = TOLD(torch.zeros(1, 32), [caption]).item()
    assert blank == pytest.approx((math.log(3) + math.log(2)) / 2)
    rows = [place * len(COLOURS) + word for kind, place, word in TOLD.labels(caption) if kind == 0]
    rows += [12 + place * 2 + word for kind, place, word in TOLD.labels(caption) if kind == 1]
    known = TOLD.directions[rows].sum(0, keepdim=True) / 2  # length 1: four at right angles
    assert known.norm().item() == pytest.approx(1, abs=1e-5)
    sure = SHARPNESS / 2
    expected = (math.log1p(2 * math.exp(-sure)) + math.log1p(math.exp(-sure))) / 2
    assert TOLD(known, [caption]).item() == pytest.approx(expected, rel=1e-3)
    swapped = TOLD(known, ["a blue star left of a red ring"]).item()
    assert swapped == pytest.approx(sure, rel=0.01)


def test_captions_without_a_relation_don_t_dilute_the_others():
    drawn = torch.randn(3, 32)
    alone = TOLD(drawn[1:2], ["a red ring under a blue star"])
    among = TOLD(drawn, ["a red ring", "a red ring under a blue star", "two green stars"])
    assert among.item() == pytest.approx(alone.item(), rel=1e-6)


def test_directions_are_fixed_at_right_angles_and_not_in_the_weights():
    again = PlacesTold([COLOURS, SHAPES], 32)
    assert torch.equal(again.directions, TOLD.directions)
    gram = TOLD.directions @ TOLD.directions.t()
    assert torch.allclose(gram, torch.eye(20), atol=1e-5)
    assert not TOLD.state_dict()


def test_a_recipe_says_which_words_are_told():
    told = PlacesTold.from_objective(load_recipe("clip-tiny").objective, 128)
    assert told is not None
    assert len(told.labels("a pink heart over a cyan cross")) == 4
    assert PlacesTold.from_objective({}, 128) is None


def test_more_words_than_directions_are_refused():
    with pytest.raises(ConfigError, match="at least 20 numbers"):
        PlacesTold([COLOURS, SHAPES], 19)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        *itertools.product(["clip-tiny", "clip-tiny-noised"], ["exchanged", "opposites", "told"]),
        ("clip-tiny", "bound"),
    ],
)
def test_each_key_of_a_recipe_adds_to_the_loss(name: str, key: str):
    recipe = load_recipe(name)

    def loss(objective: dict[str, Any]) -> float:
        torch.manual_seed(0)
        trainee = load(NETWORKS[recipe.network])(recipe.model, objective)
        captions = ["a small red ring left of a large blue star", "a pink heart over a cyan cross"]
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
        with torch.no_grad():
            return float(trainee(Batch(images, captions, torch.zeros(2), 0, Draws.seeded([1, 2]))))

    whole = dict(recipe.objective)
    without = {k: v for k, v in whole.items() if k != key}
    assert loss(whole) > loss(without) + 0.01


@pytest.mark.parametrize("words", [[[]], [["Red", "Blue"]]])
def test_words_that_match_no_caption_are_refused(words: list[list[str]]):
    with pytest.raises(ValidationError):
        check_objective("clip", {"told": words})
