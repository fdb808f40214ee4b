"""How networks run: in float32 or bfloat16, compiled or not; never in TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn


@contextmanager
def full_float32() -> Iterator[None]:
    """Context in which float32 on a GPU is float32.

    By default torch rounds the factors of convolutions there to 10 bits (TF32), and on request
    those of matrix products. Other settings of cuDNN stay as they are.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with cudnn.flags(
            enabled=cudnn.enabled,
            benchmark=cudnn.benchmark,
            deterministic=cudnn.deterministic,
            allow_tf32=False,
        ):
            yield
    finally:
        matmul.allow_tf32 = before


NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """Options that change speed and rounding."""

    bf16: bool = False
    """Convolutions and products in bfloat16 (torch.autocast); sums and the process stay float32."""
    compiled: bool = False
    """Networks through torch.compile, which takes a minute or so at the first batch."""

    def autocast(self, device: str) -> torch.autocast:
        """Return the autocast context in which networks are evaluated."""
        return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.bf16)

    def apply(self, network: NetworkT) -> NetworkT:
        """Compile a network in place, if chosen."""
        if self.compiled:
            network.compile()
        return network


def ready(network: NetworkT, device: str) -> NetworkT:
    """Move a network to its device, channels last, in evaluation mode and without gradients."""
    return network.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
