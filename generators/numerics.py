"""How networks run: in float32 or bfloat16, compiled or not; never in TF32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from generators.nn.precision import is_kept_in_float32


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
    """Convolutions and products in bfloat16; first and last layers and the process in float32."""
    compiled: bool = False
    """Networks through torch.compile, which takes a minute or so at the first batch."""

    def autocast(self, device: str | torch.device) -> torch.autocast:
        """Return the autocast context in which networks are evaluated."""
        return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.bf16)

    def apply(self, *networks: nn.Module) -> None:
        """Change networks in place: weights to bfloat16, then compilation, if chosen.

        Autocast alone would round a weight at each use, since it remembers only weights that
        require gradients.
        """
        for network in networks:
            if self.bf16:
                _round_weights(network)
            if self.compiled:
                compile_network(network, next(network.parameters()).device)


def compile_network(network: nn.Module, device: torch.device | str) -> None:
    """Compile a network in place; on a GPU its kernels are recorded once and launched as one."""
    on_gpu = torch.device(device).type == "cuda"
    network.compile(mode="reduce-overhead" if on_gpu else "default")


def _round_weights(network: nn.Module) -> None:
    """Round the weights of convolutions and linear layers, those kept in float32 aside."""
    kept = {
        id(part)
        for module in network.modules()
        if is_kept_in_float32(module)
        for part in module.modules()
    }
    for module in network.modules():
        if isinstance(module, _ROUNDED) and id(module) not in kept:
            module.to(torch.bfloat16)


_ROUNDED = (nn.Conv1d, nn.Conv2d, nn.Linear)


def ready(network: NetworkT, device: str) -> NetworkT:
    """Move a network to its device, in evaluation mode and without gradients.

    Images are channels last on a CPU, whose convolutions are faster so, and channels first on a
    GPU, whose group normalisation would change the layout back at each call.
    """
    on_cpu = torch.device(device).type == "cpu"
    layout = torch.channels_last if on_cpu else torch.contiguous_format
    return network.to(device).to(memory_format=layout).eval().requires_grad_(False)
