"""OpenAI's discrete VAE: the only part of DALL-E that was ever published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from generators.dalle.dvae import DVAE
from generators.dalle.pickled_modules import read_pickled_module
from generators.dalle.presets import PAPER_DVAE
from generators.errors import UnsafeWeightsError
from generators.weights import networks
from generators.weights.published import locate
from generators.weights.state_dicts import load_state_dict


def load_released_dvae(weights: Mapping[str, Path] | None = None) -> DVAE:
    """Load the published encoder and decoder, from given files, the cache or a download.

    Args:
        weights: Files by `dalle-dvae-encoder` and `dalle-dvae-decoder`: the published pickles, or
            their state dicts as safetensors.

    Raises:
        MissingWeightsError: A file is neither given, cached nor downloadable.
        UnsafeWeightsError: A file names classes that the published ones don't.
        WeightsError: A file is damaged or of another network.
    """
    given = dict(weights or {})
    state = {}
    for half in ("encoder", "decoder"):
        name = f"dalle-dvae-{half}"
        for key, tensor in read_released(locate(name, given.get(name))).items():
            state[f"{half}.{key}"] = tensor
    network = networks.load_released(
        "dalle-dvae", state, asdict(PAPER_DVAE), source="DALL-E's discrete VAE"
    )
    return networks.checked(DVAE, "DALL-E's discrete VAE", network)


def read_released(path: Path) -> dict[str, Tensor]:
    """Read the tensors of an encoder or a decoder, in any of the allowed formats.

    Raises:
        UnsafeWeightsError: A pickle that names other classes than the published one.
        WeightsError: The file is damaged.
    """
    try:
        return load_state_dict(path)
    except UnsafeWeightsError:
        return read_pickled_module(path)
