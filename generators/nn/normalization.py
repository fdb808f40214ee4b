"""Normalisation as in the released networks: in float32 for any input type."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

NUM_GROUPS = 32


class GroupNorm(nn.GroupNorm):
    """Group normalisation over 32 groups, statistics in float32, output in the input's type."""

    def __init__(self, channels: int, *, eps: float = 1e-5) -> None:
        super().__init__(NUM_GROUPS, channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32; shape and type stay those of `x`."""
        return F.group_norm(
            x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps
        ).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with statistics in float32, output in the input's type."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise in float32; shape and type stay those of `x`."""
        return F.layer_norm(
            x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps
        ).to(x.dtype)
