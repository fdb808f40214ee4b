"""What captions say of each thing, as a loss on the states of its words."""

import math

import pytest
import torch

from evalkit.core.errors import ConfigError
from evalkit.core.registry import load
from generators.dalle.pipeline import text_ids
from generators.dalle.training import DalleTraining
from generators.recipes.recipe import load_recipe
from generators.tokenizer import tiny_tokenizer
from generators.training.data import Batch
from generators.training.draws import Draws
from generators.training.networks import NETWORKS
from generators.training.places import PLACES, SHARPNESS
from generators.training.things import ThingsTold

COLOURS, SHAPES = ["red", "blue", "green"], ["ring", "cross"]
TOKENIZER = tiny_tokenizer()
TOLD = ThingsTold(COLOURS, SHAPES, 16, TOKENIZER)


CAUSAL = ThingsTold(COLOURS, SHAPES, 16, TOKENIZER, causal=True)


def words(caption: str, told: ThingsTold = TOLD) -> dict[str, list[tuple[int, int]]]:
    """What is told to the end of each word, by the words' text."""
    ids = TOKENIZER.encode(caption)
    found: dict[str, list[tuple[int, int]]] = {}
    for token, kind, word in told.labels(caption):
        found.setdefault(TOKENIZER.decode(ids[: token + 1]), []).append((kind, word))
    return found


def test_both_words_of_a_thing_say_all_of_it():
    assert words("a red ring") == {"a red": [(0, 0), (1, 0)], "a red ring": [(0, 0), (1, 0)]}


def test_plurals_sizes_and_capitals():
    caption = "Two large blue crosses on a plain red background."
    ends = [text.removeprefix("two large ") for text in words(caption)]
    assert ends == ["blue", "blue crosses"]
    assert set(words(caption)["two large blue"]) == {(0, 1), (1, 1)}


def test_a_relation_gives_each_thing_its_place():
    caption = "a red ring under a blue cross"
    places = [(text.split()[-1], PLACES[word]) for text, said in words(caption).items()
              for kind, word in said if kind == 2]  # fmt: skip
    assert places == [("red", "below"), ("ring", "below"), ("blue", "above"), ("cross", "above")]


def test_a_causal_state_says_only_what_it_can_know():
    caption = "a red ring under a blue cross"
    assert words(caption, CAUSAL) == {
        "a red ring": [(0, 0), (1, 0)],
        caption: [(0, 1), (1, 1), (2, PLACES.index("above"))],
    }


@pytest.mark.parametrize(
    "caption", ["", "a ring", "red", "a red crossing", "the bored ring", "a ring, red"]
)
def test_captions_without_things_tell_nothing(caption: str):
    assert TOLD.labels(caption) == []
    assert TOLD(torch.randn(1, 16, 8), [caption]).item() == 0


def test_the_loss_by_hand():
    """No direction: guesses of 3 colours and 2 shapes. Right ones are sure, wrong ones wrong."""
    caption = "a red ring and a blue cross"
    states = torch.zeros(1, 16, 12)
    assert TOLD(states, [caption]).item() == pytest.approx(math.log(3) + math.log(2), rel=1e-5)
    starts = (0, len(COLOURS))
    for token, kind, word in TOLD.labels(caption):
        states[0, :, token] += TOLD.directions[starts[kind] + word] * 7  # any length
    sure = SHARPNESS / 2**0.5
    known = math.log1p(2 * math.exp(-sure)) + math.log1p(math.exp(-sure))
    assert TOLD(states, [caption]).item() == pytest.approx(known, abs=1e-4)
    exchanged = TOLD(states, ["a red cross and a blue ring"]).item()
    assert exchanged == pytest.approx(sure, rel=0.01)


def test_the_place_is_part_of_the_loss():
    caption, other = "a red ring left of a blue cross", "a red ring right of a blue cross"
    states = torch.zeros(1, 16, 12)
    starts = (0, len(COLOURS), len(COLOURS) + len(SHAPES))
    for token, kind, word in TOLD.labels(caption):
        states[0, :, token] += TOLD.directions[starts[kind] + word]
    wrong = TOLD(states, [other]) - TOLD(states, [caption])
    assert wrong.item() == pytest.approx(SHARPNESS / 3**0.5, rel=1e-3)


def test_the_mean_over_parts_is_that_of_the_whole():
    captions = ["a red ring", "rings", "a red ring, a blue cross and a green ring", "a blue ring"]
    states = torch.randn(4, 16, 16)
    parts = (TOLD(states[:2], captions[:2]) + TOLD(states[2:], captions[2:])) / 2
    assert TOLD(states, captions).item() == pytest.approx(parts.item(), rel=1e-5)


def test_the_states_of_the_words_get_the_gradient_and_no_rounding():
    states = torch.randn(1, 16, 12, requires_grad=True)
    loss = TOLD(states, ["a red ring"])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(TOLD(states, ["a red ring"]), loss)
    loss.backward()
    moved = states.grad[0].abs().sum(dim=0) > 0  # type: ignore[index]
    assert moved.nonzero().flatten().tolist() == sorted({t for t, *_ in TOLD.labels("a red ring")})


def test_words_beyond_the_context_are_left_out():
    caption = "a red ring and a blue cross"
    last = TOLD.labels(caption)[-1][0]
    states = torch.randn(1, 16, last)  # without the last word
    assert TOLD(states, [caption]).isfinite()


def test_narrow_states_are_refused():
    with pytest.raises(ConfigError, match="at least 9 numbers, got 8"):
        ThingsTold(COLOURS, SHAPES, 8, TOKENIZER)


def test_dropped_captions_tell_nothing_and_the_weight_counts():
    recipe = load_recipe("glide-tiny-base")
    captions = ["a small red ring left of a large blue star", "a pink heart over a cyan cross"]

    def loss(**changes: object) -> float:
        torch.manual_seed(0)
        trainee = load(NETWORKS[recipe.network])(recipe.model, {**recipe.objective, **changes})
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
        with torch.no_grad():
            return float(trainee(Batch(images, captions, torch.zeros(2), 0, Draws.seeded([1, 2]))))

    none, half, whole = (loss(bound_weight=weight) for weight in (0.0, 0.5, 1.0))
    assert none == loss(bound=None, bound_weight=None)
    assert half - none == pytest.approx((whole - none) / 2, rel=1e-3)
    assert whole - none > 1
    assert loss(bound_weight=1.0, caption_dropout=1.0) == loss(
        bound_weight=0.0, caption_dropout=1.0
    )


def test_dalle_learns_images_without_their_captions():
    """At a share of 1 no caption moves the loss; at 0, what the recipes of before trained with."""
    recipe = load_recipe("dalle-tiny-transformer")
    objective = {**recipe.objective, "bound": None, "bound_weight": None}
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def loss(captions: list[str], **changed: object) -> float:
        torch.manual_seed(0)
        trainee = DalleTraining(recipe.model, {**objective, **changed})
        with torch.no_grad():
            return float(trainee(Batch(images, captions, torch.zeros(2), 0, Draws.seeded([1, 2]))))

    these, others = ["a red ring", "a blue star"], ["two pink hearts", "a cyan cross"]
    assert loss(these, caption_dropout=1.0) == loss(others, caption_dropout=1.0)
    assert loss(these, caption_dropout=1.0) == loss(["", ""], caption_dropout=0.0)
    assert loss(these, caption_dropout=0.0) != loss(others, caption_dropout=0.0)
    mixed = [loss(these, caption_dropout=share) for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
    all_or_none = {loss(these, caption_dropout=0.0), loss(these, caption_dropout=1.0)}
    assert set(mixed) - all_or_none  # one of two captions was dropped


@pytest.mark.parametrize("changed", [{"bpe_dropout": 0.9}, {"caption_dropout": 1.0}])
def test_dalles_captions_are_told_whole_however_they_are_cut(changed: dict[str, float]):
    """What the loss adds, by hand; merges or captions that are left out move no label."""
    recipe = load_recipe("dalle-tiny-transformer")
    captions = ["a small red ring left of a large blue star", "a pink heart over a cyan cross"]
    torch.manual_seed(0)
    trainee = DalleTraining(recipe.model, {**recipe.objective, **changed})
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    things = ThingsTold(*recipe.objective["bound"], 160, TOKENIZER, causal=True)

    def loss() -> float:
        batch = Batch(images, captions, torch.zeros(2), 0, Draws.seeded([1, 2]))
        return float(trainee(batch))

    with torch.no_grad():
        states = trainee.network.text_states(text_ids(TOKENIZER, captions, 24)[0])
        told = float(things(states, captions))
        whole = loss()
        trainee.things = None
        assert whole - loss() == pytest.approx(0.1 * told, rel=1e-3)
    assert told > 1
