"""Makes the byte-pair vocabulary that the tiny models share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evalkit.core.results import write_atomically
from generators.tokenizer import train_merges, vocabulary

NUM_MERGES = 640


def write_vocabulary(captions: Sequence[str], folder: Path) -> int:
    """Learn merges from captions and write `vocabulary.json` and `vocabulary.bpe`.

    Returns:
        The number of tokens.
    """
    merges = train_merges(captions, NUM_MERGES)
    tokens = vocabulary(merges)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    write_atomically(folder / "vocabulary.bpe", ("\n".join(lines) + "\n").encode())
    write_atomically(folder / "vocabulary.json", json.dumps(tokens, ensure_ascii=False).encode())
    return len(tokens)
