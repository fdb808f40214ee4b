"""What several commands read from the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from evalkit.errors import ConfigError


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """`NAME=PATH` arguments of --weights.

    >>> named_paths(["clip=a.pt"])["clip"].name
    'a.pt'

    Raises:
        ConfigError: Not of this form.
    """
    pairs: dict[str, Path] = {}
    for text in texts:
        name, eq, path = text.partition("=")
        if not (name and eq and path):
            raise ConfigError(f"--weights wants NAME=PATH, got {text!r}")
        pairs[name] = Path(path)
    return pairs


def torch_device(name: str) -> str:
    """A device that this machine has; `auto` takes a GPU where there is one.

    Where there can be none, torch is not imported: it takes seconds.

    Raises:
        ConfigError: No such device.
    """
    if name == "cpu" or (name == "auto" and not _may_have_gpu()):
        return "cpu"
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name!r} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"--device {name}: this machine has no usable GPU; use cpu")
    return name


def _may_have_gpu() -> bool:
    """False on a Linux without the device files of NVIDIA's, AMD's and Microsoft's drivers."""
    return sys.platform != "linux" or any(Path("/dev", file).exists() for file in _GPU_FILES)


_GPU_FILES = ("nvidiactl", "kfd", "dxg")
