"""Which shape a caption gives to which colour, told to both towers of a CLIP.

Against captions with two shapes exchanged an embedding has to hold pairs of words, not words. As
with places (`places.py`), a contrastive loss hardly teaches that at first: each tower gets a
gradient only where the other one knows the pairs. Here the captions say them to both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from evalkit.core.errors import ConfigError
from generators.training.places import SHARPNESS

SEED = 1


def pairs_in(adjectives: Sequence[str], nouns: Sequence[str]) -> re.Pattern[str]:
    """Match an adjective and the noun behind it in a lower-case caption; a plural is read, too.

    >>> pairs_in(["red", "blue"], ["ring", "cross"]).findall("two red crosses and a blue ring")
    [('red', 'cross'), ('blue', 'ring')]
    """
    one, other = ("|".join(map(re.escape, words)) for words in (adjectives, nouns))
    return re.compile(rf"\b({one}) ({other})(?:es|s)?\b")


class BindingsTold(nn.Module):
    """The loss of reading, from an embedding, which noun stands behind each adjective.

    Every (adjective, noun) has a direction, all at right angles and fixed; the nouns are the
    classes of each adjective that a caption uses once.

    Args:
        adjectives: Such as the colours.
        nouns: Such as the shapes, in the singular; a plural in -s or -es is read, too.
        embed_dim: Width of the embeddings, at least the number of pairs and of `taken` together.
        taken: Directions (rows, orthonormal) with another meaning already.

    Raises:
        ConfigError: The embeddings are not wide enough.
    """

    directions: Tensor

    def __init__(
        self,
        adjectives: Sequence[str],
        nouns: Sequence[str],
        embed_dim: int,
        taken: Float[Tensor, "rows embed"] | None = None,
    ) -> None:
        super().__init__()
        self.adjectives, self.nouns = list(adjectives), list(nouns)
        self._pair = pairs_in(adjectives, nouns)
        taken = torch.zeros(0, embed_dim) if taken is None else taken
        count = len(adjectives) * len(nouns)
        if embed_dim < len(taken) + count:
            raise ConfigError(
                f"Telling {count} pairs of words needs embeddings of at least "
                f"{len(taken) + count} numbers (model.embed_dim), got {embed_dim}. Give fewer "
                "words in objective.bound or objective.told."
            )
        drawn = torch.randn(embed_dim, count, generator=torch.Generator().manual_seed(SEED))
        basis = torch.linalg.qr(torch.cat([taken.t(), drawn], dim=1))[0]
        self.register_buffer("directions", basis[:, len(taken) :].t(), persistent=False)

    @classmethod
    def from_objective(
        cls, objective: Mapping[str, Any], embed_dim: int, taken: Tensor | None = None
    ) -> BindingsTold | None:
        """Read `bound`, adjectives and nouns, of a recipe's objective; None: nothing is told."""
        if not objective.get("bound"):
            return None
        adjectives, nouns = objective["bound"]
        return cls(adjectives, nouns, embed_dim, taken)

    def labels(self, caption: str) -> list[tuple[int, int]]:
        """Return (adjective, noun) of each adjective that stands before one noun only.

        >>> BindingsTold(["red", "blue"], ["ring", "cross"], 4).labels("two blue crosses")
        [(1, 1)]
        >>> BindingsTold(["red"], ["ring", "cross"], 2).labels("a red ring and a red cross")
        []
        """
        found = self._pair.findall(caption.lower())
        used = [adjective for adjective, _ in found]
        return [
            (self.adjectives.index(adjective), self.nouns.index(noun))
            for adjective, noun in found
            if used.count(adjective) == 1
        ]

    def forward(
        self, embeddings: Float[Tensor, "batch embed"], captions: Sequence[str]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy, in nats per pair; 0 if no caption has a pair."""
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = SHARPNESS * embeddings.float() @ self.directions.t()  # (B, pairs)
        told = [(row, *label) for row, text in enumerate(captions) for label in self.labels(text)]
        if not told:
            return logits.sum() * 0
        rows, adjectives, right = torch.tensor(told).to(logits.device, non_blocking=True).t()
        choices = logits.unflatten(1, (len(self.adjectives), len(self.nouns)))
        return F.cross_entropy(choices[rows, adjectives], right)
