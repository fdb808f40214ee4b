"""Transformer of pre-norm blocks: GLIDE's text encoder, and with a mask unCLIP's priors.

Without a mask every position is in the softmax, padding too: GLIDE gives padded positions learned
embeddings instead of masking them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from generators.nn.attention import merge_heads, split_heads
from generators.nn.normalization import LayerNorm

INIT_SCALE = 0.25
"""Initial weights are normal with deviation 0.25 / sqrt(fan in), as in GLIDE's code."""


class MultiheadAttention(nn.Module):
    """Self-attention over tokens, q, k and v laid out head by head."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.c_qkv = _linear(width, 3 * width)
        self.c_proj = _linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        q, k, v = split_heads(self.c_qkv(x), self.heads, parts=3, new_order=False)
        return self.c_proj(merge_heads(F.scaled_dot_product_attention(q, k, v, mask)))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_fc = _linear(width, 4 * width)
        self.c_proj = _linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        return self.c_proj(F.gelu(self.c_fc(x)))


class ResidualAttentionBlock(nn.Module):
    """Attention, then the MLP, each behind a layer norm and beside a skip."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(width)
        self.attn = MultiheadAttention(width, heads)
        self.ln_2 = LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, L, W) to (B, L, W)."""
        x = x + self.attn(self.ln_1(x), mask)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks.

    Args:
        width: Width of a token.
        layers: Number of blocks.
        heads: Heads a block; divides the width.
    """

    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(width, heads) for _ in range(layers))

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        mask: Bool[Tensor, "#batch 1 length length"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Apply the blocks; `mask` is True where a position (row) attends to another (column)."""
        for block in self.resblocks:
            x = block(x, mask)
        return x


def causal_mask(kept: Bool[Tensor, "batch length"]) -> Bool[Tensor, "batch 1 length length"]:
    """Build the causal mask: each position attends to itself and to kept ones before it.

    A position always sees itself, so that no row is empty (a softmax over nothing is NaN).

    Args:
        kept: False on padding.

    >>> causal_mask(torch.tensor([[True, False, True]]))[0, 0].int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 0, 1]]
    """
    length = kept.shape[1]
    before = torch.ones(length, length, dtype=torch.bool, device=kept.device).tril()
    itself = torch.eye(length, dtype=torch.bool, device=kept.device)
    return ((before & kept[:, None, :]) | itself)[:, None]


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    linear = nn.Linear(fan_in, fan_out)
    nn.init.normal_(linear.weight, std=INIT_SCALE / math.sqrt(fan_in))
    nn.init.zeros_(linear.bias)
    return linear
