"""What the loaders of generators share: files checked and read into networks, hashes told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor, nn

from generators.released import check_state_dict
from generators.weights_io import load_state_dict

NetworkT = TypeVar("NetworkT", bound=nn.Module)


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
