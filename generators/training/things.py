"""What belongs to one thing of a caption, told to the states of the thing's own words.

A diffusion network that looks up a caption's words needs the state of "circle" to say that the
circle is red, or it draws the right shapes in the wrong colours: diffusion's loss teaches its text
encoder the words at once and what belongs together hardly ever. Here the captions say it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from evalkit.core.errors import ConfigError
from generators.tokenizer import BytePairTokenizer
from generators.training.bindings import pairs_in
from generators.training.places import PLACES, SHARPNESS, places_of

SEED = 2


class ThingsTold(nn.Module):
    """The loss of reading a thing's adjective, noun and place from the states of both its words.

    Every adjective, noun and place has a direction, all at right angles and fixed. A word's state
    is that of its last token.

    Args:
        adjectives: Such as the colours.
        nouns: Such as the shapes, in the singular; a plural in -s or -es is read, too.
        width: Of the states, at least the number of directions.
        tokenizer: Of the captions.
        causal: A state knows only what stands before it, so that of a noun says its thing, and the
            place only of the second one; by default both words say all.

    Raises:
        ConfigError: The states are not wide enough.
    """

    directions: Tensor

    def __init__(
        self,
        adjectives: Sequence[str],
        nouns: Sequence[str],
        width: int,
        tokenizer: BytePairTokenizer,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.causal = causal
        self.adjectives, self.nouns = list(adjectives), list(nouns)
        self.tokenizer = tokenizer
        self._thing = pairs_in(adjectives, nouns)
        self.sizes = [len(self.adjectives), len(self.nouns), len(PLACES)]
        if width < sum(self.sizes):
            raise ConfigError(
                f"Telling the words of objective.bound needs states of at least "
                f"{sum(self.sizes)} numbers, got {width}. Give fewer words."
            )
        drawn = torch.randn(width, sum(self.sizes), generator=torch.Generator().manual_seed(SEED))
        self.register_buffer("directions", torch.linalg.qr(drawn)[0].t(), persistent=False)

    @classmethod
    def from_objective(
        cls,
        objective: Mapping[str, Any],
        width: int,
        tokenizer: BytePairTokenizer,
        *,
        causal: bool = False,
    ) -> ThingsTold | None:
        """Read `bound`, adjectives and nouns, of a recipe's objective; None: nothing is told."""
        if not objective.get("bound"):
            return None
        adjectives, nouns = objective["bound"]
        return cls(adjectives, nouns, width, tokenizer, causal=causal)

    def labels(self, caption: str) -> list[tuple[int, int, int]]:
        """Return (token, kind, word) for each word of each thing: what its state has to say.

        Kinds: 0 the adjective, 1 the noun, 2 the place, which only two things of a relation have.
        """
        caption = caption.lower()
        things = list(self._thing.finditer(caption))
        places = places_of(caption) if len(things) == 2 else None
        found = []
        for number, thing in enumerate(things):
            said = [(0, self.adjectives.index(thing[1])), (1, self.nouns.index(thing[2]))]
            if places and (number or not self.causal):
                said.append((2, places[number]))
            for end in (thing.end(),) if self.causal else (thing.end(1), thing.end()):
                token = len(self.tokenizer.encode(caption[:end])) - 1
                found += [(token, kind, word) for kind, word in said]
        return found

    def forward(
        self, states: Float[Tensor, "batch width length"], captions: Sequence[str]
    ) -> Float[Tensor, ""]:
        """Return the mean over captions of their words' mean cross-entropies, the kinds added.

        A caption without things counts as 0: the mean over parts of a batch is that of the batch.
        """
        length = states.shape[2]
        told = []
        for row, caption in enumerate(captions):
            labels = [label for label in self.labels(caption) if label[0] < length]
            kinds = [kind for _, kind, _ in labels]
            told += [(row, *label, 1 / kinds.count(label[1])) for label in labels]
        with torch.autocast(states.device.type, enabled=False):
            read = F.normalize(states.float().transpose(1, 2), dim=-1)
            loss = states.float().sum() * 0
            for kind, directions in enumerate(self.directions.split(self.sizes)):
                of_kind = [[row, token, word] for row, token, k, word, _ in told if k == kind]
                if of_kind:
                    index = torch.tensor(of_kind).to(states.device, non_blocking=True)
                    share = torch.tensor([share for *_, k, _, share in told if k == kind])
                    rows, tokens, right = index.t()
                    logits = SHARPNESS * read[rows, tokens] @ directions.t()
                    errors = F.cross_entropy(logits, right, reduction="none")
                    shares = share.to(states.device, non_blocking=True)
                    loss = loss + (errors * shares).sum() / len(captions)
        return loss
