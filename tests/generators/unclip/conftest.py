"""A small CLIP with random weights, and what it says of three captions."""

import pytest

from generators.clip.model import Clip, ClipConfig
from generators.tokenizer import tiny_tokenizer
from generators.unclip.conditioning import FrozenClip

CAPTIONS = ["a red circle", "a small blue square left of a red circle", "a red circle"]


@pytest.fixture(scope="session")
def clip(randomised):
    config = ClipConfig(
        image_size=16,
        patch_size=8,
        vision_width=32,
        vision_layers=1,
        vision_heads=2,
        vocab_size=444,
        context_length=12,
        text_width=32,
        text_layers=1,
        text_heads=2,
        embed_dim=16,
    )
    return FrozenClip(randomised(Clip(config)), tiny_tokenizer(), name="clip-tiny", sha256="a" * 64)


@pytest.fixture(scope="session")
def caption(clip):
    return clip.read_captions(CAPTIONS)


@pytest.fixture(scope="session")
def empty(clip):
    return clip.read_captions([""] * len(CAPTIONS))
