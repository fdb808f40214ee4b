"""Sinusoidal embeddings of a timestep t: the two orders in use are not interchangeable.

Both give `dim` numbers from cos(t f_i) and sin(t f_i) with f_i falling from 1 to about 1/10000.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

MAX_PERIOD = 10_000.0


def cos_sin_embedding(t: Shaped[Tensor, " batch"], dim: int) -> Float[Tensor, "batch dim"]:
    """Return cosines, then sines, f_i = 10000^(-i / half) (Improved DDPM, ADM, GLIDE).

    Args:
        t: Timesteps, integers or (rescaled) floats.
        dim: Width; an odd one ends in a zero.
    """
    half = dim // 2
    angles = _angles(t, half, half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


def sin_cos_embedding(t: Shaped[Tensor, " batch"], dim: int) -> Float[Tensor, "batch dim"]:
    """Return sines, then cosines, f_i = 10000^(-i / (half - 1)) (DDPM)."""
    half = dim // 2
    angles = _angles(t, half, half - 1)
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, dim % 2))


def _angles(t: Tensor, half: int, denominator: int) -> Tensor:
    index = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(MAX_PERIOD) * index / denominator)
    return t.float()[:, None] * frequencies[None]
