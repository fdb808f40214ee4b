"""Reference values of the released code, and small networks with weights that all matter."""

import json
from typing import NamedTuple

import pytest
import torch
from safetensors import safe_open


class Reference(NamedTuple):
    """One parity file: the network's weights, what went in, what came out."""

    config: dict
    weights: dict
    inputs: dict
    outputs: dict


@pytest.fixture(scope="session")
def reference(shared):
    """Loads a parity file by name."""

    def load(name):
        with safe_open(shared / "parity" / f"{name}.safetensors", "pt") as file:
            config = json.loads(file.metadata()["config"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118

        def part(prefix):
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        return Reference(config, part("weights."), part("in."), part("out."))

    return load


@pytest.fixture(scope="session")
def relative_error():
    """Relative L2 distance of a tensor from the expected one."""

    def error(actual, expected):
        assert actual.shape == expected.shape
        return float((actual.double() - expected.double()).norm() / expected.double().norm())

    return error


@pytest.fixture(scope="session")
def randomised():
    """Gives every parameter random values: zero-initialised branches would hide faults."""

    def randomise(network, seed=0):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                is_scale = name.endswith("weight") and parameter.ndim == 1
                fan_in = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 25
                parameter.copy_(is_scale + noise / fan_in**0.5)
        return network.eval()

    return randomise
