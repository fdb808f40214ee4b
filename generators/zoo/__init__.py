"""The tiny trained models that ship with evalkit, and the vocabulary that they share.

Each network is a file of fp16 safetensors whose metadata holds the recipe that made it; the cards
beside them say on which data, for how long and with which scores.
"""

from __future__ import annotations

import functools
from pathlib import Path

from generators.glide.tokenizer import BytePairTokenizer

ZOO = Path(__file__).parent


@functools.cache
def tiny_tokenizer() -> BytePairTokenizer:
    """The byte-pair vocabulary learned from captions of shapes."""
    return BytePairTokenizer.from_files(ZOO / "vocabulary.json", ZOO / "vocabulary.bpe")
