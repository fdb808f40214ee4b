"""How networks run: in float32, bfloat16 or float16, compiled or not, offloaded; never in TF32."""

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
    fp16: bool = False
    """The same in float16, which rounds less but overflows above 65,504."""
    compiled: bool = False
    """Networks through torch.compile, which takes a minute or so at the first batch."""
    offload: bool = False
    """Keep on the device only the network that runs, the others in the memory of the CPU."""

    @property
    def reduced(self) -> torch.dtype | None:
        """The type of convolutions and products; None: float32."""
        if self.bf16:
            return torch.bfloat16
        return torch.float16 if self.fp16 else None

    @contextmanager
    def running(self, network: nn.Module, device: str | torch.device) -> Iterator[None]:
        """Context in which a network is on the device, if networks are offloaded."""
        if not self.offload:
            yield
            return
        network.to(device)
        try:
            yield
        finally:
            network.to("cpu")

    def autocast(self, device: str | torch.device) -> torch.autocast:
        """Return the autocast context in which networks are evaluated."""
        kind = torch.device(device).type
        return torch.autocast(kind, self.reduced or torch.bfloat16, enabled=bool(self.reduced))

    def apply(self, *networks: nn.Module) -> None:
        """Change networks in place: weights rounded, compiled, moved off the device, if chosen.

        Autocast alone would round a weight at each use, since it remembers only weights that
        require gradients.
        """
        for network in networks:
            if self.reduced is not None:
                _round_weights(network, self.reduced)
            if self.compiled:
                compile_network(network, next(network.parameters()).device)
            if self.offload:
                network.to("cpu")


def compile_network(network: nn.Module, device: torch.device | str) -> None:
    """Compile a network in place; on a GPU its kernels are recorded once and launched as one."""
    on_gpu = torch.device(device).type == "cuda"
    network.compile(mode="reduce-overhead" if on_gpu else "default")


def _round_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Round the weights of convolutions and linear layers, those kept in float32 aside."""
    kept = {
        id(part)
        for module in network.modules()
        if is_kept_in_float32(module)
        for part in module.modules()
    }
    for module in network.modules():
        if isinstance(module, _ROUNDED) and id(module) not in kept:
            module.to(dtype)


_ROUNDED = (nn.Conv1d, nn.Conv2d, nn.Linear)


def ready(network: NetworkT, device: str) -> NetworkT:
    """Move a network to its device, in evaluation mode and without gradients.

    Images are channels last on a CPU, whose convolutions are faster so, and channels first on a
    GPU, whose group normalisation would change the layout back at each call.
    """
    on_cpu = torch.device(device).type == "cpu"
    layout = torch.channels_last if on_cpu else torch.contiguous_format
    return network.to(device).to(memory_format=layout).eval().requires_grad_(False)
