"""What the loaders of generators share: files checked and read into networks, hashes told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from evalkit.core.errors import WeightsError
from generators.weights_io import load_state_dict

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def check_state_dict(
    expected: Mapping[str, Tensor], given: Mapping[str, Tensor], name: str
) -> None:
    """Compares names and shapes.

    Raises:
        WeightsError: They differ; every key that does is listed.
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
        raise WeightsError(f"the weights don't fit {name}; keys {'; '.join(faults)}")


def fill_network(network: NetworkT, state: Mapping[str, Tensor], name: str) -> NetworkT:
    """Gives a network (on the meta device or not) its weights, as float32.

    Raises:
        WeightsError: Keys are missing, left over or misshapen; each is listed.
    """
    check_state_dict(network.state_dict(), state, name)
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
    return network.requires_grad_(False).eval()


def network_from_file(network: NetworkT, file: Path) -> NetworkT:
    """Gives a network the weights of a file.

    Raises:
        WeightsError: The file is damaged, unsafe, or doesn't fit.
    """
    return fill_network(network, load_state_dict(file), file.name)


def joint_hash(hashes: Iterable[str]) -> str:
    """One hash for several files, in their order."""
    return hashlib.sha256("".join(hashes).encode()).hexdigest()
