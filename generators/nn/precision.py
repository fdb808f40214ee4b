"""A network's first and last layers run in float32 at sampling, whatever the others run in.

At noisy timesteps the predicted noise is nearly the input, so rounding these two to bfloat16 costs
as much precision as all layers between them. In training everything follows autocast.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)
_MARK = "is_kept_in_float32"


def kept_in_float32(layers: ModuleT) -> ModuleT:
    """Mark layers whose weights stay float32; call them by `in_float32`."""
    setattr(layers, _MARK, True)
    return layers


def is_kept_in_float32(module: nn.Module) -> bool:
    """Return whether layers are marked."""
    return bool(getattr(module, _MARK, False))


def in_float32(layers: nn.Module, x: Tensor) -> Tensor:
    """Run layers in float32, outside autocast; as they come in training.

    Args:
        layers: Marked by `kept_in_float32`.
        x: Their input, of any floating-point type.
    """
    if layers.training:
        output: Tensor = layers(x)
        return output
    with torch.autocast(x.device.type, enabled=False):
        output = layers(x.float())
    return output
