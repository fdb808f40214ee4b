"""Makes the byte-pair vocabulary that the tiny models share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from evalkit.core.files import writing
from evalkit.core.results import write_atomically
from generators.tokenizer import train_merges, vocabulary

NUM_MERGES = 640
FILES = ("vocabulary.json", "vocabulary.bpe")
"""Ids of the tokens, and merges in the order of their rank."""


def write_vocabulary(captions: Sequence[str], folder: Path, *, num_merges: int = NUM_MERGES) -> int:
    """Learn merges from captions and write `FILES` into a folder.

    Args:
        captions: What is read; case does not count.
        folder: Created if needed; files of these names are replaced.
        num_merges: Most merges to learn; fewer where every word has become one token.

    Returns:
        The number of tokens.
    """
    merges = train_merges(captions, num_merges)
    tokens = vocabulary(merges)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in merges)]
    ids, ranks = (folder / name for name in FILES)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomically(ranks, ("\n".join(lines) + "\n").encode())
    write_atomically(ids, json.dumps(tokens, ensure_ascii=False).encode())
    return len(tokens)
