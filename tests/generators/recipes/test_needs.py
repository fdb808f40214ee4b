"""What the data decide about a network is true of the network."""

from __future__ import annotations

import pytest
import torch

from generators.glide.model import GlideConfig
from generators.glide.presets import RELEASED_BASE, RELEASED_UPSAMPLER
from generators.recipes.needs import NEEDS, Needs, needs_of
from generators.recipes.recipe import list_recipes, load_recipe
from generators.training.networks import NETWORKS
from generators.weights.networks import build_network


def test_every_network_has_a_row() -> None:
    assert set(NEEDS) == set(NETWORKS)
    assert needs_of("of another package") == Needs()


@pytest.mark.parametrize("name", list_recipes())
def test_tokens_and_classes_have_a_row_each_in_the_weights(name: str) -> None:
    recipe = load_recipe(name)
    needs = needs_of(recipe.network)
    counted = {needs.vocabulary: (needs.tokens,), needs.classes: needs.of_classes}
    settings = {setting: keys for setting, keys in counted.items() if setting in recipe.model}
    if not settings and not needs.parts:
        return
    with torch.device("meta"):
        state = build_network(recipe.network, recipe.model).state_dict()
    for setting, keys in settings.items():
        assert all(len(state[key]) == recipe.model[setting] for key in keys)
    if needs.parts and needs.reads_captions(recipe.model):
        inside = [key for key in state if key.startswith(needs.parts["text"])]
        assert 0 < len(inside) < len(state)
        assert not any(key.startswith(("input_blocks", "output_blocks", "time_")) for key in inside)


def test_the_recipes_of_released_networks_have_their_sizes() -> None:
    for part, config in (("base", RELEASED_BASE), ("upsampler", RELEASED_UPSAMPLER)):
        recipe = load_recipe(f"glide-released-{part}")
        assert GlideConfig.from_flat(recipe.model) == config
        assert recipe.start_from == "glide:released"
        assert recipe.data.vocabulary == "gpt2"
        assert recipe.data.image_px == config.unet.image_size
