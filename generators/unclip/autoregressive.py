"""unCLIP's autoregressive prior (Ramesh et al. 2022, section 2.2).

The image embedding becomes a short sequence of codes: its principal components, ordered by
variance, each rounded to one of a number of buckets. A causal transformer predicts them one by one
behind a prefix of the caption's states, CLIP's text embedding and a token for how well image and
caption agree (the quantised product z_i . z_t); when sampling, it is drawn from its upper half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from evalkit.core.errors import ConfigError
from evalkit.core.progress import advance
from generators.errors import ArchitectureError
from generators.finite import StageWatch
from generators.nn.normalization import LayerNorm
from generators.nn.precision import in_float32, kept_in_float32
from generators.nn.settings import config_from_flat
from generators.nn.transformer import Transformer, causal_mask
from generators.unclip.conditioning import CaptionReading, embedding_scale

NEW_STD = 0.02
OUTSIDE = 0.001
"""Share of the embeddings, at either end, outside the buckets' range."""


@dataclass(frozen=True, kw_only=True)
class AutoregressivePriorConfig:
    """Sizes of an autoregressive prior."""

    embed_dim: int
    text_width: int
    text_ctx: int
    num_components: int
    """Principal components that are kept (the paper: 319 of 1,024)."""
    num_buckets: int
    """Values of one code (the paper: 1,024)."""
    num_agreements: int
    """Values of the token for z_i . z_t, equally frequent in training; even."""
    width: int
    layers: int
    heads: int

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> AutoregressivePriorConfig:
        """Read settings as TOML has them.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        return config_from_flat(cls, settings, "an autoregressive prior")

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArchitectureError(f"width {self.width} is not a multiple of heads {self.heads}.")
        if self.num_components > self.embed_dim:
            raise ArchitectureError(
                f"num_components must be at most embed_dim ({self.embed_dim}), "
                f"got {self.num_components}."
            )
        if self.num_agreements < 2 or self.num_agreements % 2:
            raise ArchitectureError(
                f"num_agreements must be even and at least 2, got {self.num_agreements}."
            )


class EmbeddingCodes(nn.Module):
    """Principal components of embeddings, rounded to buckets, and back; fitted, not trained."""

    mean: Tensor
    basis: Tensor
    low: Tensor
    high: Tensor
    agreement_edges: Tensor

    def __init__(self, config: AutoregressivePriorConfig) -> None:
        super().__init__()
        self.num_buckets = config.num_buckets
        size, count = config.embed_dim, config.num_components
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.eye(size)[:count])
        self.register_buffer("low", -torch.ones(count))
        self.register_buffer("high", torch.ones(count))
        self.register_buffer("agreement_edges", torch.zeros(config.num_agreements - 1))

    @torch.no_grad()
    def fit(
        self,
        embeddings: Float[Tensor, "images embed_dim"],
        agreements: Float[Tensor, " images"],
    ) -> None:
        """Fit axes, ranges and quantiles to training data.

        Args:
            embeddings: Scaled image embeddings, more than there are components.
            agreements: Cosine of each with its caption's embedding.

        Raises:
            ConfigError: Too few embeddings for the components.
        """
        if len(embeddings) <= len(self.basis):
            raise ConfigError(
                f"Need more images than components ({len(self.basis)}), got {len(embeddings)}. "
                "Draw more, or lower num_components."
            )
        count = len(self.basis)
        centre = embeddings.double().mean(dim=0)
        axes = torch.linalg.svd(embeddings.double() - centre, full_matrices=False).Vh[:count]
        largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
        self.mean.copy_(centre)
        self.basis.copy_(axes * largest.sign())  # the sign of an axis is a convention
        shares = torch.tensor([OUTSIDE, 1 - OUTSIDE])
        low, high = torch.quantile(self.components(embeddings).float(), shares, dim=0)
        self.low.copy_(low)
        self.high.copy_(high)
        inner = torch.linspace(0, 1, len(self.agreement_edges) + 2)[1:-1]
        self.agreement_edges.copy_(torch.quantile(agreements.float(), inner))

    def components(
        self, embeddings: Float[Tensor, "batch embed_dim"]
    ) -> Float[Tensor, "batch components"]:
        """Return the coordinates along the axes."""
        return (embeddings - self.mean) @ self.basis.t()

    def encode(
        self, embeddings: Float[Tensor, "batch embed_dim"]
    ) -> Int[Tensor, "batch components"]:
        """Return codes 0 to num_buckets - 1; values outside the range get the nearest one."""
        share = (self.components(embeddings) - self.low) / (self.high - self.low)
        return (share * self.num_buckets).floor().clamp(0, self.num_buckets - 1).long()

    def decode(self, codes: Int[Tensor, "batch components"]) -> Float[Tensor, "batch embed_dim"]:
        """Return the embeddings at the middle of each bucket."""
        share = (codes + 0.5) / self.num_buckets
        return self.mean + (self.low + share * (self.high - self.low)) @ self.basis

    def agreement(self, cosines: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return the token of a cosine of image and caption, 0 the worst."""
        return torch.bucketize(cosines.contiguous(), self.agreement_edges)


class AutoregressivePrior(nn.Module):
    """Predicts the codes of an image embedding, each from the caption and the codes before."""

    def __init__(self, config: AutoregressivePriorConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = embedding_scale(config.embed_dim)
        width = config.width
        self.codes = EmbeddingCodes(config)
        self.text_states = nn.Linear(config.text_width, width)
        self.text_embedding = nn.Linear(config.embed_dim, width)
        self.agreement = nn.Embedding(config.num_agreements, width)
        self.code = nn.Embedding(config.num_buckets, width)
        length = config.text_ctx + 2 + config.num_components - 1  # the last code is never read
        self.positions = nn.Parameter(torch.randn(length, width) * NEW_STD)
        self.transformer = Transformer(width, config.layers, config.heads)
        self.final_ln = LayerNorm(width)
        self.out = kept_in_float32(nn.Linear(width, config.num_buckets))
        for embedding in (self.agreement, self.code):
            nn.init.normal_(embedding.weight, std=NEW_STD)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> AutoregressivePrior:
        """Build the network from flat settings; see `AutoregressivePriorConfig.from_flat`."""
        return cls(AutoregressivePriorConfig.from_flat(settings))

    def forward(
        self,
        codes: Int[Tensor, "batch known"],
        agreement: Int[Tensor, " batch"],
        caption: CaptionReading,
    ) -> Float[Tensor, "batch next buckets"]:
        """Return the logits of the first code, and of the one after each given code.

        Args:
            codes: The codes known so far, at most all but the last; may be none.
            agreement: Tokens for z_i . z_t.
            caption: What CLIP says of the captions.
        """
        prefix = torch.stack(
            [self.text_embedding(caption.embedding * self.scale), self.agreement(agreement)], dim=1
        )
        parts = [self.text_states(caption.states), prefix, self.code(codes)]
        sequence = torch.cat(parts, dim=1)  # (B, L + 2 + K, W)
        always = caption.kept.new_ones(len(codes), 2 + codes.shape[1])
        mask = causal_mask(torch.cat([caption.kept, always], dim=1))
        hidden = self.transformer(sequence + self.positions[: sequence.shape[1]], mask)
        start = caption.states.shape[1] + 1  # the agreement's place predicts the first code
        return in_float32(self.out, self.final_ln(hidden[:, start:]))

    def loss(
        self,
        embeddings: Float[Tensor, "batch embed_dim"],
        cosines: Float[Tensor, " batch"],
        caption: CaptionReading,
    ) -> Float[Tensor, " batch"]:
        """Compute the mean cross-entropy of the codes, in nats per code.

        Args:
            embeddings: Scaled image embeddings.
            cosines: Of each with the embedding of its own caption, dropped or not.
            caption: The caption's reading; the empty caption's where the caption is dropped.
        """
        codes = self.codes.encode(embeddings)
        logits = self(codes[:, :-1], self.codes.agreement(cosines), caption)
        each = F.cross_entropy(logits.float().transpose(1, 2), codes, reduction="none")
        return each.mean(dim=1)


@torch.no_grad()
def sample_codes(
    network: AutoregressivePrior,
    caption: CaptionReading,
    rngs: Sequence[torch.Generator],
    *,
    empty: CaptionReading | None = None,
    guidance_scale: float = 1.0,
    temperature: float = 1.0,
    watch: StageWatch | None = None,
) -> Float[Tensor, "batch embed_dim"]:
    """Sample image embeddings code by code.

    Guidance moves logits, l_u + s (l_c - l_u). The agreement token is drawn evenly from its upper
    half: the half of the training pairs that agree best.

    Args:
        network: The prior.
        caption: The batch's.
        rngs: One per image, on the CPU.
        empty: The empty caption's, of the batch's size; needed where the guidance isn't 1.
        guidance_scale: s; 1 is off.
        temperature: Divides the logits; 0 takes the likeliest code.
        watch: Looks at the logits; images whose logits are not finite go on with equal ones.

    Returns:
        Scaled embeddings, not yet of a fixed length.
    """
    half = network.config.num_agreements // 2
    drawn = [half + int(torch.randint(half, (1,), generator=g)) for g in rngs]
    device = caption.states.device
    agreement = torch.tensor(drawn, device=device)
    codes = torch.empty(len(drawn), 0, dtype=torch.long, device=device)
    guided = empty is not None and guidance_scale != 1.0
    for place in range(network.config.num_components):
        if guided:
            assert empty is not None
            both = CaptionReading.cat(caption, empty)
            logits = network(codes.repeat(2, 1), agreement.repeat(2), both)[:, -1].float()
            with_caption, without = logits.chunk(2)
            logits = without + guidance_scale * (with_caption - without)
        else:
            logits = network(codes, agreement, caption)[:, -1].float()
        if watch is not None:
            logits = watch.mend(logits)
        codes = torch.cat([codes, _draw(logits, temperature, rngs)[:, None]], dim=1)
        advance(place + 1, network.config.num_components)
    return network.codes.decode(codes)


def _draw(logits: Tensor, temperature: float, rngs: Sequence[torch.Generator]) -> Tensor:
    if temperature == 0:
        return logits.argmax(dim=1)
    shares = (logits / temperature).softmax(dim=1).cpu()
    rows = [torch.multinomial(row, 1, generator=g) for row, g in zip(shares, rngs, strict=True)]
    return torch.cat(rows).to(logits.device)
