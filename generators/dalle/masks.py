"""Attention masks of DALL-E's transformer (Ramesh et al. 2021, appendix B.1).

The states are a start token, the caption and the image's tokens in raster order. Every state
attends to the caption so far. An image token also attends to the image tokens of its layer's
pattern:

- row: the last `grid + 1` ones, itself among them, so the furthest is the one straight above;
- column: those of its column;
- convolution: those of a square window around it, which runs over the grid's edges in raster order,
  as the row pattern does.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool
from torch import Tensor

from generators.errors import ArchitectureError

Pattern = Literal["row", "column", "convolution", "full"]
"""`full` is plain causal attention, which the paper does not use."""
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


def layer_patterns(num_layers: int) -> tuple[Pattern, ...]:
    """Return the paper's order: row, column, row, row, row, column, ...; convolution last.

    Layer i, from 1, is a column layer where (i - 2) mod 4 is 0.

    >>> layer_patterns(7)
    ('row', 'column', 'row', 'row', 'row', 'column', 'convolution')
    """
    inner: list[Pattern] = [
        "column" if (layer - 2) % 4 == 0 else "row" for layer in range(1, num_layers)
    ]
    return (*inner, "convolution")


def attention_mask(
    pattern: Pattern, *, num_text: int, grid_size: int, kernel_size: int = 11
) -> Bool[Tensor, "states states"]:
    """Build the mask of a pattern: True where a state (row) attends to another (column).

    Args:
        pattern: Of the layer.
        num_text: States before the image: the start token and the caption.
        grid_size: Image tokens along an edge.
        kernel_size: Edge of the window of the convolutional pattern, odd.

    Returns:
        On the CPU, for `num_text + grid_size ** 2` states.

    >>> attention_mask("row", num_text=1, grid_size=2).int().tolist()[-1]  # the last of 2 x 2
    [1, 0, 1, 1, 1]
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ArchitectureError(f"kernel_size must be positive and odd, got {kernel_size}.")
    state = torch.arange(num_text + grid_size**2, device="cpu")
    distance = state[:, None] - state[None]  # (L, L), in raster order
    half = kernel_size // 2
    if pattern == "row":
        near = distance <= grid_size
    elif pattern == "column":
        near = distance % grid_size == 0
    elif pattern == "convolution":
        rows = grid_size * torch.arange(half + 1, device="cpu")  # how far each row above is away
        near = ((distance[..., None] - rows).abs() <= half).any(dim=-1)
    else:
        near = torch.ones_like(distance, dtype=torch.bool)
    of_text = state[None] < num_text
    return (distance >= 0) & (near | of_text)
