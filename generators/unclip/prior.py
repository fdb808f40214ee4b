"""unCLIP's diffusion prior (Ramesh et al. 2022, section 2.2 and appendix C).

A causal transformer reads one sequence: the caption's states, CLIP's text embedding, the timestep,
the noisy image embedding z_t and a learned query, at whose place it predicts the clean embedding
z_0. The loss is the plain squared error of z_0. Embeddings z are CLIP's times `embedding_scale`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.embeddings import cos_sin_embedding
from generators.nn.normalization import LayerNorm
from generators.nn.precision import in_float32, kept_in_float32
from generators.nn.settings import config_from_flat
from generators.nn.transformer import Transformer, causal_mask
from generators.unclip.conditioning import CaptionReading, embedding_scale

NEW_STD = 0.02
"""Deviation of new positions and queries."""
BEHIND_THE_CAPTION = 4
"""Text embedding, timestep, noisy image embedding, query."""


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Sizes of a diffusion prior."""

    embed_dim: int
    """Width of CLIP's space."""
    text_width: int
    """Width of CLIP's text states."""
    text_ctx: int
    """Number of text states, padding included."""
    width: int
    layers: int
    heads: int

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> PriorConfig:
        """Read settings as TOML has them.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        return config_from_flat(cls, settings, "a diffusion prior")

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ArchitectureError(f"width {self.width} is not a multiple of heads {self.heads}.")


class DiffusionPrior(nn.Module):
    """Predicts the clean image embedding from a noisy one and the caption."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = embedding_scale(config.embed_dim)
        width, length = config.width, config.text_ctx + BEHIND_THE_CAPTION
        self.text_states = nn.Linear(config.text_width, width)
        self.text_embedding = nn.Linear(config.embed_dim, width)
        self.timestep = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.image_embedding = nn.Linear(config.embed_dim, width)
        self.query = nn.Parameter(torch.randn(width) * NEW_STD)
        self.positions = nn.Parameter(torch.randn(length, width) * NEW_STD)
        self.transformer = Transformer(width, config.layers, config.heads)
        self.final_ln = LayerNorm(width)
        self.out = kept_in_float32(nn.Linear(width, config.embed_dim))

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DiffusionPrior:
        """Build the network from flat settings; see `PriorConfig.from_flat`."""
        return cls(PriorConfig.from_flat(settings))

    def forward(
        self,
        z_t: Float[Tensor, "batch embed_dim"],
        t: Shaped[Tensor, " batch"],
        caption: CaptionReading,
    ) -> Float[Tensor, "batch embed_dim"]:
        """Predict z_0.

        Args:
            z_t: Noisy embeddings, scaled.
            t: Timesteps.
            caption: What CLIP says of the captions; its embedding is scaled in here.
        """
        states = self.text_states(caption.states)  # (B, L, W)
        behind = [
            self.text_embedding(caption.embedding * self.scale),
            self.timestep(cos_sin_embedding(t, self.config.width).to(states.dtype)),
            self.image_embedding(z_t),
            self.query.expand(len(z_t), -1),
        ]
        sequence = torch.cat([states, torch.stack(behind, dim=1)], dim=1)  # (B, L + 4, W)
        always = caption.kept.new_ones(len(z_t), BEHIND_THE_CAPTION)
        mask = causal_mask(torch.cat([caption.kept, always], dim=1))
        hidden = self.transformer(sequence + self.positions, mask)
        return in_float32(self.out, self.final_ln(hidden[:, -1]))
