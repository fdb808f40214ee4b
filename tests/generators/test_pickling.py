"""Generators pickle: processes are spawned with them, and pickling changes no pixel."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from generators.base import Request, resolve_settings
from generators.catalog import MODELS, load_generator
from generators.tokenizer import tiny_tokenizer

TINY = [name for name in MODELS if name.partition(":")[2].startswith("tiny")]


@pytest.mark.parametrize("name", TINY)
def test_every_tiny_generator_pickles(name: str) -> None:
    generator = load_generator(name)
    again = pickle.loads(pickle.dumps(generator))
    assert again.spec == generator.spec


def test_a_pickled_generator_makes_the_same_image() -> None:
    generator = load_generator("ddpm:tiny")
    again = pickle.loads(pickle.dumps(generator))
    settings = resolve_settings(generator.spec, steps="2")
    images = [
        one.generate([Request(prompt=None, label=None, seed=3)], settings)[0].image
        for one in (generator, again)
    ]
    np.testing.assert_array_equal(*images)


def test_a_tokenizer_forgets_its_words_and_knows_the_same() -> None:
    tokenizer = tiny_tokenizer()
    tokens = tokenizer.encode("a red circle")
    again = pickle.loads(pickle.dumps(tokenizer))
    assert not again._known_words
    assert again.encode("a red circle") == tokens
