"""Weights in 8 bits come back within half a step, through a file too, and small ones untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from generators.training.checkpoint import export_weights
from generators.weights.quantised import dequantise, quantise
from generators.weights.zoo import trained_state


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(32, 48, 3), nn.GroupNorm(8, 48), nn.Linear(128, 64))


def test_each_channel_has_a_scale_of_its_own() -> None:
    weight = torch.randn(64, 80) * torch.logspace(-4, 4, 64)[:, None]
    back = dequantise(quantise({"w": weight}))["w"]
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((back - weight).abs() <= 0.5001 * step).all())


def test_rows_of_zeros_stay_zero() -> None:
    weight = torch.cat([torch.zeros(1, 8192), torch.ones(1, 8192)])
    assert torch.equal(dequantise(quantise({"w": weight}))["w"], weight)


def test_small_tensors_and_integers_are_left_alone() -> None:
    state = {"bias": torch.randn(8192), "w": torch.randn(8, 8), "ids": torch.arange(8192)[None]}
    assert quantise(state).keys() == state.keys()
    assert all(torch.equal(quantise(state)[name], value) for name, value in state.items())


@pytest.mark.parametrize(("stored_as", "bytes_a_value"), [("fp16", 2), ("int8", 1)])
def test_what_is_exported_is_read_back(tmp_path: Path, stored_as: str, bytes_a_value: int) -> None:
    module = network()
    export_weights(tmp_path / "w.safetensors", module, {}, stored_as=stored_as)
    read = trained_state(tmp_path / "w.safetensors")
    own = module.state_dict()
    assert read.keys() == own.keys()
    for name, value in own.items():
        assert read[name].dtype == torch.float32
        assert torch.allclose(read[name], value, atol=float(value.abs().max()) / 250)
    values = sum(value.numel() for value in own.values())
    size = (tmp_path / "w.safetensors").stat().st_size
    assert bytes_a_value * values < size < bytes_a_value * values + 4000
