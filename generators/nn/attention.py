"""Self-attention over the pixels of a feature map, with text in front of the keys and values.

The released networks lay out the 3C channels of q, k and v in two ways. *Legacy* (GLIDE, ADM
without `use_new_attention_order`): head by head, [q k v] inside each. *New*: all q, all k, all v.
"""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from generators.nn.normalization import GroupNorm

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def split_heads(projected: Tensor, num_heads: int, *, parts: int, new_order: bool) -> Tensor:
    """Split a projection (B, T, parts * C) into (parts, B, heads, T, C / heads)."""
    batch, length, width = projected.shape
    head_width = width // (parts * num_heads)
    if new_order:
        return projected.view(batch, length, parts, num_heads, head_width).permute(2, 0, 3, 1, 4)
    return projected.view(batch, length, num_heads, parts, head_width).permute(3, 0, 2, 1, 4)


def merge_heads(attended: Tensor) -> Tensor:
    """Merge (B, heads, T, C / heads) back to (B, T, C)."""
    return attended.transpose(1, 2).flatten(2)


def pointwise(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Apply a convolution of width 1 to tokens (B, T, C): a matrix product without a copy."""
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)


class _ContextAttention(nn.Module):
    """What attention over a context shares: the context's keys and values, and the way back."""

    num_heads: int
    encoder_kv: nn.Conv1d
    proj_out: nn.Conv1d

    def project_context(
        self, context: Float[Tensor, "batch context_channels length"]
    ) -> Float[Tensor, "batch length kv"]:
        """Return the keys and values of a context; they change only with the context."""
        return pointwise(context.transpose(1, 2), self.encoder_kv)

    def _added(
        self, x: Float[Tensor, "batch channels height width"], q: Tensor, k: Tensor, v: Tensor
    ) -> Float[Tensor, "batch channels height width"]:
        """Add what each position attends to; q, k, v are (B, heads, T, C / heads)."""
        batch, channels, height, width = x.shape
        attended = merge_heads(F.scaled_dot_product_attention(q, k, v))  # (B, T, C)
        out = pointwise(attended, self.proj_out).view(batch, height, width, channels)
        return x + out.permute(0, 3, 1, 2)


class AttentionBlock(_ContextAttention):
    """Residual multi-head attention over positions (ADM section 3, GLIDE section 4.1).

    With a context, its keys and values come before those of the image, in one softmax.

    Args:
        channels: Width of the feature map.
        num_heads: Number of heads; divides `channels`.
        new_order: See the module's first lines.
        context_channels: Width of the context (text states); None: there is none.
        inner_channels: Width of all heads together; None: `channels`.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        new_order: bool = False,
        context_channels: int | None = None,
        inner_channels: int | None = None,
    ) -> None:
        super().__init__()
        inner = channels if inner_channels is None else inner_channels
        self.num_heads = num_heads
        self.new_order = new_order
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * inner, 1)
        if context_channels is not None:
            self.encoder_kv = nn.Conv1d(context_channels, 2 * inner, 1)
        self.proj_out = zeroed(nn.Conv1d(inner, channels, 1))

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        context_kv: Float[Tensor, "batch length kv"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """Attend to all positions and to the projected context; add the result."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, T, C)
        q, k, v = self._split(pointwise(tokens, self.qkv), 3)  # (B, heads, T, C / heads)
        if context_kv is not None:
            context_k, context_v = self._split(context_kv, 2)
            k = torch.cat([context_k, k], dim=2)  # (B, heads, L + T, C / heads)
            v = torch.cat([context_v, v], dim=2)
        return self._added(x, q, k, v)

    def _split(self, projected: Tensor, parts: int) -> Tensor:
        return split_heads(projected, self.num_heads, parts=parts, new_order=self.new_order)


class CrossAttentionBlock(_ContextAttention):
    """Residual attention of a feature map's positions over a context alone (Imagen, appendix B.1).

    Args:
        channels: Width of the feature map.
        num_heads: Number of heads; divides `channels`.
        context_channels: Width of the context.
    """

    def __init__(self, channels: int, *, num_heads: int, context_channels: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = GroupNorm(channels)
        self.q = nn.Conv1d(channels, channels, 1)
        self.encoder_kv = nn.Conv1d(context_channels, 2 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        context_kv: Float[Tensor, "batch length kv"],
    ) -> Float[Tensor, "batch channels height width"]:
        """Attend to the projected context; add the result."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # (B, T, C)
        q = split_heads(pointwise(tokens, self.q), self.num_heads, parts=1, new_order=True)[0]
        k, v = split_heads(context_kv, self.num_heads, parts=2, new_order=True)
        return self._added(x, q, k, v)


class AttentionPool2d(nn.Module):
    """Pools a feature map to a vector: attention of its mean over itself (CLIP, section 2.4).

    Args:
        size: Edge of the feature map.
        channels: Its width.
        head_channels: Width of one head.
        out_channels: Width of the vector.
    """

    def __init__(self, size: int, channels: int, *, head_channels: int, out_channels: int) -> None:
        super().__init__()
        self.num_heads = channels // head_channels
        self.positional_embedding = nn.Parameter(
            torch.randn(channels, size * size + 1) / channels**0.5
        )
        self.qkv_proj = nn.Conv1d(channels, 3 * channels, 1)
        self.c_proj = nn.Conv1d(channels, out_channels, 1)

    def forward(
        self, x: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, "batch out_channels"]:
        """Return what the mean token attends to; q, k, v are always in the new order."""
        tokens = x.flatten(2).transpose(1, 2)  # (B, T, C)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)  # (B, 1 + T, C)
        tokens = tokens + self.positional_embedding.t().to(tokens.dtype)
        projected = pointwise(tokens, self.qkv_proj)
        q, k, v = split_heads(projected, self.num_heads, parts=3, new_order=True)
        pooled = merge_heads(F.scaled_dot_product_attention(q[:, :, :1], k, v))  # (B, 1, C)
        return pointwise(pooled, self.c_proj)[:, 0]


def zeroed(module: ModuleT) -> ModuleT:
    """Set all parameters to zero, so that a new residual branch starts as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
