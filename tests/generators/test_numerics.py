"""Float32 on a GPU is float32: TF32 is off wherever generators and extractors run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evalkit.core.run import RunFolder, WorkItem
from evalkit.engine import generate
from evalkit.features.clip import inference
from evalkit.generation import sampling_precision
from evalkit.options import SamplingOptions
from generators.base import Request, Sample, Settings
from generators.clip.tiny import TinyClip
from generators.numerics import full_float32
from tests.support.fake_generators import plain_spec


def tf32() -> tuple[bool, bool]:
    """Whether torch would round factors of convolutions and of matrix products."""
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(autouse=True)
def allowed() -> Iterator[None]:
    """Allow TF32 everywhere, as a program around ours may."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    assert tf32() == (True, True)
    yield
    assert tf32() == (True, True)
    torch.backends.cuda.matmul.allow_tf32 = before


def test_the_context_turns_tf32_off_and_leaves_cudnn_on() -> None:
    with full_float32():
        assert tf32() == (False, False)
        assert torch.backends.cudnn.enabled
    with pytest.raises(KeyError), full_float32():
        raise KeyError


def test_extractors_run_without_tf32() -> None:
    with inference(torch.device("cpu"), "float32"):
        assert tf32() == (False, False)


def test_the_tiny_clip_runs_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[bool, bool]] = []

    class Network:
        def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
            found.append(tf32())
            return torch.zeros(len(pixels), 3)

    clip = TinyClip.__new__(TinyClip)
    clip.device, clip._network = "cpu", Network()  # type: ignore[assignment]
    clip.embed_images(torch.zeros(2, 4, 4, 3, dtype=torch.uint8).numpy())
    assert found == [(False, False)]


def test_generators_run_without_tf32(tmp_path: Path) -> None:
    found: list[tuple[bool, bool]] = []

    class Watching:
        spec = plain_spec()

        def generate(self, requests: Any, settings: Settings) -> list[Sample]:
            assert all(isinstance(request, Request) for request in requests)
            found.append(tf32())
            return [Sample(image=None, status="failed", reason="only watching")] * len(requests)

    run = RunFolder.create_or_resume(tmp_path / "run", {"dataset": {"n": 1}}, {})
    item = WorkItem(index=0, caption_id="1", sample_index=0, seed=0, prompt="a circle")
    generate(run, Watching(), {}, [item], batch_size=1)
    assert found == [(False, False)]


def test_the_fingerprint_says_so() -> None:
    said = [
        sampling_precision(SamplingOptions(device=device, bf16=bf16))
        for device, bf16 in (("cpu", False), ("cuda:0", False), ("cuda:0", True))
    ]
    assert said == ["float32", "float32, TF32 off", "bf16"]
