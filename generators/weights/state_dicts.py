"""Read state dicts without running any code that a file may contain, and check that they fit.

Two formats are read: safetensors, and torch's zip of tensors with `weights_only=True`. A pickle
that would build anything else is refused.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from evalkit.core.arrays import DAMAGED_PICKLE
from evalkit.core.errors import MissingWeightsError, WeightsError
from evalkit.core.files import refuse_foreign_weights
from generators.errors import UnsafeWeightsError

PICKLE_STARTS = (b"PK\x03\x04", b"\x80")
"""A zip (torch.save since 1.6) and a bare pickle (before)."""


def load_state_dict(path: Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Read the tensors of a weights file, on the CPU, in the types they are stored in.

    Args:
        path: A file in one of the two formats; its first bytes decide which one.
        sha256: The expected hash, or its first characters.

    Raises:
        MissingWeightsError: The file does not exist.
        UnsafeWeightsError: The file holds more than tensors.
        WeightsError: The hash differs, or the file can't be read.
    """
    if not path.is_file():
        raise MissingWeightsError(f"No weights file at {path}.")
    refuse_foreign_weights(path)
    if sha256 is not None:
        check_sha256(path, sha256)
    with path.open("rb") as file:
        start = file.read(9)
    # safetensors starts with a length of 8 bytes, which can look like the start of a pickle
    if start.startswith(PICKLE_STARTS) and not start.endswith(b"{"):
        return _tensors_of(_load_torch(path), path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _neither(path, error) from None


def read_metadata(path: Path) -> dict[str, str]:
    """Return the texts that a safetensors file states beside its tensors; none for torch's files.

    Raises:
        WeightsError: The file can't be read.
    """
    if zipfile.is_zipfile(path):
        return {}
    try:
        with safe_open(path, framework="pt") as handle:
            return handle.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _neither(path, error) from None


def _neither(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        f"{path} is neither safetensors nor a torch file, or is damaged: {error}. Download or copy "
        "it again."
    )


def check_sha256(path: Path, expected: str) -> None:
    """Compare a file's hash with the expected one, or with its first characters.

    Raises:
        WeightsError: They differ.
    """
    actual = file_sha256(path)
    if not expected or not actual.startswith(expected.lower()):
        raise WeightsError(
            f"{path} has sha256 {actual}, expected {expected}. Delete it and fetch it again."
        )


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def joint_hash(hashes: Iterable[str]) -> str:
    """Return one hash for several files, in their order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def check_state_dict(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str
) -> None:
    """Compare names and shapes.

    Raises:
        WeightsError: They differ; the message lists every key that does.
    """
    missing = [key for key in expected if key not in given]
    extra = [key for key in given if key not in expected]
    misshapen = [
        f"{key} is {list(given[key].shape)}, expected {list(tensor.shape)}"
        for key, tensor in expected.items()
        if key in given and given[key].shape != tensor.shape
    ]
    faults = [
        f"{len(keys)} {what}: {', '.join(keys)}"
        for what, keys in (("missing", missing), ("extra", extra), ("misshapen", misshapen))
        if keys
    ]
    if faults:
        raise WeightsError(f"The weights do not fit {name}. Keys {'; '.join(faults)}.")


def _load_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols other than torch.save's
            with path.open("rb") as file:  # by its name torch would take it for safetensors
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UnsafeWeightsError(
            f"{path} is a pickle that holds more than tensors. Loading it could run code, so it is "
            "refused. If you trust it, convert it to safetensors."
        ) from None
    except (*DAMAGED_PICKLE, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} is damaged or not a torch file: {reason}.") from None


def _tensors_of(loaded: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict itself, or the one under the key `state_dict`."""
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise WeightsError(f"{path} holds no state dict, expected tensors by name.")
    return {str(name): tensor for name, tensor in loaded.items()}
