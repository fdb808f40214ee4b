"""Thresholds keep a predicted x_0 in the range of images while sampling."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from evalkit.core.errors import ConfigError

Threshold = Callable[[Tensor], Tensor]
"""From a predicted x_0 (B, C, H, W) to one in range."""
THRESHOLDS = ("dynamic", "static")
PERCENTILE = 0.995
"""Of dynamic thresholding in Imagen (appendix C)."""


def static_threshold(x_0: Float[Tensor, " batch *chw"]) -> Float[Tensor, " batch *chw"]:
    """Clip to [-1, 1]."""
    return x_0.clamp(-1, 1)


def dynamic_threshold(
    x_0: Float[Tensor, " batch *chw"],
    *,
    percentile: float = PERCENTILE,
    max_scale: float | None = None,
) -> Float[Tensor, " batch *chw"]:
    """Clip each image to [-s, s] and divide by s, the percentile of |x_0|, at least 1.

    Saharia et al. 2022 (Imagen), section 2.3: high guidance then doesn't saturate the image.

    Args:
        x_0: Predicted images.
        percentile: In [0, 1].
        max_scale: The most that s may be (DeepFloyd IF: 1.5).

    >>> dynamic_threshold(torch.tensor([[0.5, -2.0, 4.0]]), percentile=0.5).tolist()
    [[0.25, -1.0, 1.0]]
    """
    flat = x_0.flatten(1).abs().float()
    scale = torch.quantile(flat, percentile, dim=1).clamp(min=1.0, max=max_scale)
    scale = scale.to(x_0.dtype).view(-1, *[1] * (x_0.ndim - 1))
    return x_0.clamp(-scale, scale) / scale


def threshold_for(name: str, percentile: float = PERCENTILE) -> Threshold:
    """Return a threshold by its name.

    Args:
        name: One of `THRESHOLDS`.
        percentile: In [0, 1], for the dynamic one.

    Raises:
        ConfigError: The threshold does not exist.
    """
    if name == "static":
        return static_threshold
    if name == "dynamic":
        return partial(dynamic_threshold, percentile=percentile)
    raise ConfigError(f"Unknown threshold {name!r}; known: {', '.join(THRESHOLDS)}.")
