"""Devices by name: what a machine has, and what it is slow at."""

from __future__ import annotations

import pytest

from evalkit.core.errors import ConfigError
from evalkit.options import devices
from evalkit.options.devices import torch_device


def test_a_device_is_one_that_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert torch_device("cpu") == torch_device("auto") == "cpu"
    with pytest.raises(ConfigError, match="no usable GPU"):
        torch_device("cuda")
    with pytest.raises(ConfigError, match=r"'gpu' is not supported\. Use auto, cpu"):
        torch_device("gpu")


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert torch_device("auto") == "cuda"
    assert torch_device("cpu") == "cpu"


@pytest.mark.parametrize("emulated", [True, False])
def test_bfloat16_that_is_emulated_is_said_to_be_slow(
    emulated: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "emulates_bf16", lambda: emulated)
    assert torch_device("cpu", bf16=True) == "cpu"
    assert ("slower than float32" in capfd.readouterr().err) == emulated
    assert torch_device("cpu") == "cpu"
    assert capfd.readouterr().err == ""
