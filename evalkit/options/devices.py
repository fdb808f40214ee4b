"""The device of a command."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from evalkit.core.errors import ConfigError
from evalkit.core.progress import errors

EMULATED_BF16 = (
    "note: this CPU has no bfloat16 arithmetic and emulates it, several times slower than float32"
)
_KNOWN = re.compile(r"cpu|cuda(:\d{1,3})?")
_GPU_FILES = ("nvidiactl", "nvmap", "kfd", "dxg")


def torch_device(name: str, *, bf16: bool = False) -> str:
    """Return a device that this machine has; `auto` prefers a GPU.

    torch, whose import takes seconds, is imported only if the machine may have a GPU.

    Args:
        name: auto, cpu, cuda or cuda:N.
        bf16: Whether bfloat16 is requested; on a CPU that emulates it, a note is printed.

    Raises:
        ConfigError: The device does not exist.
    """
    if name == "auto" and not _may_have_gpu():
        name = "cpu"
    if name == "cpu" and not bf16:
        return name
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not _KNOWN.fullmatch(name):
        raise ConfigError(
            f"--device {name!r} is not supported. Use auto, cpu, cuda or cuda:N (NVIDIA, or AMD "
            "through ROCm)."
        )
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: this machine has no usable GPU. Use cpu.")
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: this machine has {torch.cuda.device_count()} GPUs, cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}. Use one of them."
        )
    if bf16 and device.type == "cpu" and emulates_bf16():
        errors.print(EMULATED_BF16, highlight=False)
    return name


def emulates_bf16() -> bool:
    """Return whether this machine's CPU has no bfloat16 arithmetic."""
    import torch

    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _may_have_gpu() -> bool:
    """Return False on Linux without device files of NVIDIA's, Jetson's, AMD's or WSL's drivers."""
    return sys.platform != "linux" or any(Path("/dev", file).exists() for file in _GPU_FILES)
