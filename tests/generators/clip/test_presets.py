"""The published CLIPs have the published sizes (docs/models/clip.md derives them)."""

import pytest
import torch

from generators.clip.model import Clip
from generators.clip.presets import PRESETS

DERIVED = {
    "ViT-B/32": 151_277_313,
    "ViT-B/16": 149_620_737,
    "ViT-L/14": 427_616_513,
}
"""OpenAI's own state dicts have as many elements."""


@pytest.mark.parametrize("name", list(PRESETS))
def test_parameters_by_the_formula_of_the_docs(name):
    config = PRESETS[name]
    with torch.device("meta"):
        built = sum(p.numel() for p in Clip(config).parameters())
    wide, narrow = config.vision_width, config.text_width
    patches = (config.image_size // config.patch_size) ** 2
    image = config.vision_layers * (12 * wide**2 + 13 * wide)
    image += 3 * config.patch_size**2 * wide + (patches + 6) * wide + wide * config.embed_dim
    text = config.text_layers * (12 * narrow**2 + 13 * narrow)
    text += (config.vocab_size + config.context_length + 2) * narrow + narrow * config.embed_dim
    assert built == image + text + 1
    assert built == DERIVED.get(name, built)
