"""Weights in 8 bits: matrices and kernels as integers with one scale per output channel.

Weight-only quantisation, symmetric, rounded to nearest (Jacob et al. 2018, section 2.1, with a
scale per channel as in Krishnamoorthi 2018, section 3.1.1). It halves an fp16 file; the networks
compute in floating point.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = "::scale"
"""Ends the name under which a tensor's scales are stored."""
LEVELS = 127
MIN_VALUES = 4096
"""Smaller tensors are not quantised."""


def quantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store each large float tensor as int8 with float32 scales; leave the rest unchanged."""
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2 or value.numel() < MIN_VALUES or not value.is_floating_point():
            stored[name] = value
            continue
        rows = value.float().flatten(1)
        scale = (rows.abs().amax(dim=1) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
        stored[name] = (rows / scale[:, None]).round().to(torch.int8).view(value.shape)
        stored[name + SCALE] = scale
    return stored


def dequantise(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return to floating point: the inverse of `quantise`, within half a step per channel.

    >>> weights = {"w": torch.randn(64, 64), "b": torch.ones(64)}
    >>> back = dequantise(quantise(weights))
    >>> bool((back["w"] - weights["w"]).abs().amax() <= weights["w"].abs().amax() / 253)
    True
    """
    state: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        scale = stored.get(name + SCALE)
        if scale is not None:
            value = (value.flatten(1).float() * scale.float()[:, None]).view(value.shape)
        state[name] = value
    return state
