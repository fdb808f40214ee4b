"""What a caption says of places, told to both towers of a CLIP by fixed directions of its space.

To know which thing is left takes the order of the names and the relation together. A contrastive
loss hardly teaches that at first: each tower gets a gradient only where the other one knows it.
Here a caption's own words say it to both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from evalkit.core.errors import ConfigError
from generators.training.hard_negatives import any_of

PLACES = ("left", "right", "above", "below")
_PLACES_OF = {
    "left of": (0, 1), "right of": (1, 0),
    "above": (2, 3), "over": (2, 3), "below": (3, 2), "under": (3, 2),
}  # fmt: skip
_RELATION = any_of(_PLACES_OF)
SHARPNESS = 20.0
"""Cosines are multiplied by it."""
SEED = 0


def places_of(caption: str) -> tuple[int, int] | None:
    """Return the places of the two things of a lower-case caption; None: not one relation.

    >>> [PLACES[place] for place in places_of("a red ring under a blue star")]
    ['below', 'above']
    """
    relation = _RELATION.findall(caption)
    return _PLACES_OF[relation[0]] if len(relation) == 1 else None


class PlacesTold(nn.Module):
    """The loss of reading, from an embedding, which word of each kind stands in which place.

    Every (kind, place, word) has a direction, all at right angles and fixed; the words of a kind
    are the classes. Captions without a relation of two things count nothing.

    Args:
        kinds: Words of each kind, such as the colours and the shapes; a caption names one of each
            kind for each thing.
        embed_dim: Width of the embeddings, at least 4 times the number of words.

    Raises:
        ConfigError: It is smaller.
    """

    directions: Tensor

    def __init__(self, kinds: Sequence[Sequence[str]], embed_dim: int) -> None:
        super().__init__()
        self.kinds = [list(words) for words in kinds]
        self._patterns = [any_of(words) for words in self.kinds]
        count = len(PLACES) * sum(map(len, self.kinds))
        if embed_dim < count:
            raise ConfigError(
                f"Telling {count // len(PLACES)} words needs embeddings of at least {count} "
                f"numbers (model.embed_dim), got {embed_dim}. Tell fewer in objective.told."
            )
        drawn = torch.randn(embed_dim, count, generator=torch.Generator().manual_seed(SEED))
        self.register_buffer("directions", torch.linalg.qr(drawn)[0].t(), persistent=False)

    @classmethod
    def from_objective(cls, objective: Mapping[str, Any], embed_dim: int) -> PlacesTold | None:
        """Read `told`, words of each kind, of a recipe's objective; None: nothing is told."""
        told = objective.get("told")
        return cls(told, embed_dim) if told else None

    def labels(self, caption: str) -> list[tuple[int, int, int]]:
        """Return (kind, place, word) of both things of a caption; empty where it has no relation.

        >>> PlacesTold([["red", "blue"]], 8).labels("a red ring under a blue star")
        [(0, 3, 0), (0, 2, 1)]
        """
        caption = caption.lower()
        places = places_of(caption)
        found = [pattern.findall(caption) for pattern in self._patterns]
        if places is None or any(len(words) != 2 for words in found):
            return []
        return [
            (kind, place, self.kinds[kind].index(word))
            for kind, words in enumerate(found)
            for place, word in zip(places, words, strict=True)
        ]

    def forward(
        self, embeddings: Float[Tensor, "batch embed"], captions: Sequence[str]
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy, in nats per word; 0 if no caption has a relation."""
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = SHARPNESS * embeddings.float() @ self.directions.t()  # (B, all words)
        told = [(row, *label) for row, text in enumerate(captions) for label in self.labels(text)]
        losses, start = [], 0
        for kind, words in enumerate(self.kinds):
            of_kind = [(row, place, word) for row, k, place, word in told if k == kind]
            end = start + len(PLACES) * len(words)
            if of_kind:
                index = torch.tensor(of_kind).to(logits.device, non_blocking=True)
                rows, places, right = index.t()
                choices = logits[:, start:end].unflatten(1, (len(PLACES), len(words)))
                losses.append(F.cross_entropy(choices[rows, places], right))
            start = end
        return torch.stack(losses).mean() if losses else logits.sum() * 0
