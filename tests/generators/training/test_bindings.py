"""Which noun a caption puts behind which adjective, as a loss on embeddings."""

import math

import pytest
import torch
from pydantic import ValidationError

from evalkit.core.errors import ConfigError
from evalkit.core.registry import load
from generators.clip.training import told_to_both
from generators.recipes.objectives import check_objective
from generators.recipes.recipe import load_recipe
from generators.training.bindings import BindingsTold
from generators.training.data import Batch
from generators.training.draws import Draws
from generators.training.networks import NETWORKS
from generators.training.places import SHARPNESS, PlacesTold

COLOURS, SHAPES = ["red", "blue", "green"], ["ring", "cross"]
TOLD = BindingsTold(COLOURS, SHAPES, 16)


@pytest.mark.parametrize(
    ("caption", "pairs"),
    [
        ("A red ring.", [(0, 0)]),
        ("four small blue crosses on a plain red background", [(1, 1)]),
        ("a red ring, a large blue cross and a green ring", [(0, 0), (1, 1), (2, 0)]),
        ("two red rings above a red cross", []),
        ("a red ring left of a red ring and a blue ring", [(1, 0)]),
        ("a ring", []),
        ("a red crossing and a blue ringed star", []),
        ("", []),
    ],
)
def test_pairs_of_a_caption(caption: str, pairs: list[tuple[int, int]]):
    assert TOLD.labels(caption) == pairs


def test_the_loss_by_hand():
    """No direction: a guess, ln 2. The right directions are sure, and wrong for the exchange."""
    caption, exchanged = "a red ring and a blue cross", "a red cross and a blue ring"
    assert TOLD(torch.zeros(1, 16), [caption]).item() == pytest.approx(math.log(2))
    rows = [colour * len(SHAPES) + shape for colour, shape in TOLD.labels(caption)]
    known = TOLD.directions[rows].sum(0, keepdim=True) / 2**0.5
    sure = SHARPNESS / 2**0.5
    assert TOLD(known, [caption]).item() == pytest.approx(math.log1p(math.exp(-sure)), abs=1e-5)
    assert TOLD(known, [exchanged]).item() == pytest.approx(sure, rel=1e-3)


def test_captions_without_pairs_don_t_dilute_the_others():
    drawn = torch.randn(3, 16)
    alone = TOLD(drawn[1:2], ["a red ring"])
    among = TOLD(drawn, ["a ring", "a red ring", "shapes"])
    assert among.item() == pytest.approx(alone.item(), rel=1e-6)
    assert TOLD(drawn, ["a ring", "", "shapes"]).item() == 0


@pytest.mark.parametrize("telling", [TOLD, PlacesTold([COLOURS, SHAPES], 32)])
def test_embeddings_get_the_gradient_and_no_rounding(telling: BindingsTold | PlacesTold):
    count = 16  # one may happen to be right already, and then gets no gradient
    embeddings = torch.randn(count, telling.directions.shape[1], requires_grad=True)
    caption = ["a red ring left of a blue cross"] * count
    loss = telling(embeddings, caption)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(telling(embeddings, caption), loss)
    loss.backward()
    assert embeddings.grad is not None
    assert embeddings.grad.abs().sum() > 0.1


@pytest.mark.parametrize("name", ["clip-tiny", "clip-tiny-noised"])
def test_both_towers_learn_from_what_is_told(name: str):
    """Without a contrast of their own, one caption moves both towers only by what is told."""
    recipe = load_recipe(name)
    objective = {k: recipe.objective[k] for k in ("schedule", "told") if k in recipe.objective}
    trainee = load(NETWORKS[recipe.network])(recipe.model, objective)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    captions = ["a red ring left of a blue cross"]
    trainee(Batch(images, captions, torch.zeros(1), 0, Draws.seeded([1]))).backward()
    network = trainee.network
    for weights in (network.visual.conv1.weight, network.token_embedding.weight):
        assert weights.grad.abs().sum() > 0


def test_directions_are_fixed_and_at_right_angles_to_those_of_places():
    places = PlacesTold([COLOURS, SHAPES], 32)
    bindings, again = (BindingsTold(COLOURS, SHAPES, 32, places.directions) for _ in range(2))
    assert torch.equal(bindings.directions, again.directions)
    every = torch.cat([places.directions, bindings.directions])
    assert torch.allclose(every @ every.t(), torch.eye(26), atol=1e-5)
    assert not bindings.state_dict()


def test_more_pairs_than_directions_are_refused():
    with pytest.raises(ConfigError, match="at least 26 numbers"):
        BindingsTold(COLOURS, SHAPES, 25, PlacesTold([COLOURS, SHAPES], 25).directions)


def test_a_recipe_says_what_is_told():
    objective = load_recipe("clip-tiny").objective
    assert [type(part) for part in told_to_both(objective, 128)] == [PlacesTold, BindingsTold]
    assert len(told_to_both({}, 128)) == 0
    (only,) = told_to_both({"bound": [COLOURS, SHAPES]}, 16)
    assert torch.equal(only.directions, TOLD.directions)


@pytest.mark.parametrize(
    "words",
    [[["red", "blue"]], [["red", "blue"]] * 3, [["Red", "blue"], ["ring", "star"]],
     [["red", "blue"], ["ring"]], [["red", "red"], ["ring", "star"]]],
)  # fmt: skip
def test_what_is_no_pair_of_lists_is_refused(words: list[list[str]]):
    with pytest.raises(ValidationError):
        check_objective("clip", {"bound": words})


@pytest.mark.parametrize("alone", [{"bound": [COLOURS, SHAPES]}, {"bound_weight": 0.1}])
def test_the_weight_and_the_words_belong_together(alone: dict[str, object]):
    given = {"schedule": "cosine", "caption_dropout": 0.1}
    check_objective("glide-base", {**given, "bound": [COLOURS, SHAPES], "bound_weight": 0.1})
    with pytest.raises(ValidationError, match="belong together"):
        check_objective("glide-base", {**given, **alone})
