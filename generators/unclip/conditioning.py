"""A frozen CLIP's reading of captions and images, in the units of unCLIP's networks.

CLIP's embeddings have length 1. The paper multiplies them by 17.2, so that their variance is that
of ImageNet's pixels in [-1, 1] (appendix C); with its 1,024 numbers that is 0.29 each. For another
width the same variance needs 17.2 sqrt(width / 1024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from generators.clip.model import Clip
from generators.tokenizer import BytePairTokenizer, tokenizer_of
from generators.weights.zoo import zoo_weights

PAPER_SCALE = 17.2
PAPER_EMBED_DIM = 1024
CLIP_NAME = "clip-tiny"
"""The CLIP of the tiny models, in the zoo; never the one that scores."""


def embedding_scale(embed_dim: int) -> float:
    """Return the factor that an embedding of length 1 is multiplied by.

    >>> round(embedding_scale(1024), 2), round(embedding_scale(256), 2)
    (17.2, 8.6)
    """
    return PAPER_SCALE * math.sqrt(embed_dim / PAPER_EMBED_DIM)


@dataclass(frozen=True, eq=False)
class CaptionReading:
    """CLIP's reading of a batch of captions, the input of a prior."""

    states: Float[Tensor, "batch length text_width"]
    """Last states of CLIP's text tower."""
    kept: Bool[Tensor, "batch length"]
    """False on padding."""
    embedding: Float[Tensor, "batch embed_dim"]
    """CLIP's text embedding, of length 1."""
    truncated: tuple[bool, ...]

    def select(self, rows: Sequence[int]) -> CaptionReading:
        """Return the readings of some captions, in the order of `rows`."""
        index = torch.tensor(list(rows), dtype=torch.long, device=self.states.device)
        cut = tuple(self.truncated[row] for row in rows)
        return CaptionReading(self.states[index], self.kept[index], self.embedding[index], cut)

    @staticmethod
    def cat(first: CaptionReading, second: CaptionReading) -> CaptionReading:
        """Join two batches, such as the conditional and the unconditional half."""
        return CaptionReading(
            torch.cat([first.states, second.states]),
            torch.cat([first.kept, second.kept]),
            torch.cat([first.embedding, second.embedding]),
            first.truncated + second.truncated,
        )


class FrozenClip:
    """A CLIP that is read and never trained; on purpose no module of the networks that read it."""

    def __init__(self, network: Clip, tokenizer: BytePairTokenizer, *, name: str, sha256: str):
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.sha256 = sha256
        self.embed_dim = network.config.embed_dim
        self.scale = embedding_scale(self.embed_dim)
        """Of the embeddings that the networks see."""

    @classmethod
    def from_zoo(cls, path: Path | None = None) -> FrozenClip:
        """Load `clip-tiny`, or a file of `evalkit train` in its place."""
        weights = zoo_weights(CLIP_NAME, path)
        network = weights.network(Clip, CLIP_NAME)
        return cls(network, tokenizer_of(weights), name=CLIP_NAME, sha256=weights.sha256)

    def to(self, device: torch.device | str) -> FrozenClip:
        """Move the network to a device; return self."""
        self.network.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def read_captions(self, captions: Sequence[str]) -> CaptionReading:
        """Run the text tower, once for each distinct caption, in float32."""
        unique = list(dict.fromkeys(captions))
        tokens = self.tokenizer.pad(unique, self.network.config.context_length)
        ids, kept = tokens.ids.to(self.device), tokens.mask.to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            states, embedding = self.network.read_text(ids, kept)
        reading = CaptionReading(states, kept, embedding, tuple(tokens.truncated))
        row = {caption: index for index, caption in enumerate(unique)}
        return reading.select([row[caption] for caption in captions])

    @torch.no_grad()
    def embed_images(
        self, images: Float[Tensor, "batch 3 size size"]
    ) -> Float[Tensor, "batch embed_dim"]:
        """Embed images in [-1, 1]; embeddings are float32 of length 1."""
        with torch.autocast(self.device.type, enabled=False):
            return self.network.encode_image(images.to(self.device).float())
