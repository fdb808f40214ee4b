"""Reading weights without running anything that came with them.

Two formats: safetensors, and torch's zip of tensors read with `weights_only=True`. A pickle that
wants to build anything else is refused.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.errors import UnsafeWeightsError

PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
"""A zip (torch.save since 1.6) and a bare pickle (before)."""


def load_state_dict(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Reads the tensors of a weights file, on the CPU, in the types they are stored in.

    Args:
        path: A file in one of the two formats; which one is read off its first bytes.
        sha256: The expected hash, or the start of it.

    Raises:
        MissingWeightsError: There is no such file.
        UnsafeWeightsError: It holds more than tensors.
        WeightsError: Another hash, or not readable.
    """
    if not path.is_file():
        raise MissingWeightsError(f"no weights file at {path}")
    if sha256 is not None:
        check_sha256(path, sha256)
    with path.open("rb") as file:
        start = file.read(9)
    # safetensors starts with a length of 8 bytes, which may happen to look like a pickle's start
    if start.startswith(PICKLE_STARTS) and not start.endswith(b"{"):
        return _tensors_of(_load_torch(path), path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is neither safetensors nor a torch file, or is damaged: {error}"
        ) from None


def check_sha256(path: Path, expected: str) -> None:
    """Compares a file's hash with the expected one (or its start).

    Raises:
        WeightsError: They differ.
    """
    actual = file_sha256(path)
    if not expected or not actual.startswith(expected.lower()):
        raise WeightsError(
            f"{path} has sha256 {actual}, expected {expected}: delete it and fetch it again"
        )


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _load_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another pickle protocol than torch.save's
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnsafeWeightsError(
            f"{path} is a pickle that holds more than tensors; loading it could run code, so it is "
            "refused: convert it to safetensors where you trust it"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path} is damaged or not a torch file: {reason}") from None


def _tensors_of(loaded: object, path: Path) -> dict[str, Tensor]:
    """The state dict itself, or the one under the key `state_dict`."""
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path} holds no state dict: expected names with a tensor each")
    return {str(name): tensor for name, tensor in loaded.items()}
