"""Batches are filled up, halved and chosen, and nobody sees it in the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.errors import ConfigError
from evalkit.generation import GenerationOptions, prepare_generator, prepare_run
from evalkit.options import SamplingOptions, SpreadOptions
from evalkit.options.parsing import batch_size
from evalkit.requests import DatasetSource
from generators.base import Request, Sample, Settings, StageSettings, StageSpec
from generators.fitting import MOST_FITTED_ON_CPU, FittedGenerator, largest_batch
from tests.support.fake_generators import plain_spec


class Limited:
    """Runs out of memory above a number of images."""

    def __init__(
        self, most: int, kind: type[Exception] = torch.OutOfMemoryError, steps: int | None = None
    ) -> None:
        stages = (StageSpec(name="base", defaults=StageSettings(steps=steps), max_steps=steps),)
        self.spec = replace(plain_spec(), stages=stages if steps else plain_spec().stages)
        self.most = most
        self.kind = kind
        self.sizes: list[int] = []
        self.steps: list[int | None] = []

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        self.sizes.append(len(requests))
        self.steps += [stage.steps for stage in settings.values()]
        if len(requests) > self.most:
            raise self.kind("out of memory")
        return [Sample(image=np.full((2, 2, 3), r.seed % 256, np.uint8)) for r in requests]


def seeds_of(samples: Sequence[Sample]) -> list[int]:
    return [int(sample.image[0, 0, 0]) for sample in samples if sample.image is not None]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_run_fills_up_the_batches_of_a_compiled_model_alone(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Limited(most=100)
    monkeypatch.setattr("evalkit.generation.load_generator", lambda *_, **__: inner)
    sampling = SamplingOptions(compiled=compiled, batch_size=4)
    generator, settings = prepare_generator("their/model", sampling)
    assert len(generator.generate([Request()], settings)) == 1
    assert inner.sizes == [4 if compiled else 1]


@given(
    count=st.integers(1, 40), size=st.integers(1, 40), most=st.integers(1, 40), filled=st.booleans()
)
def test_every_request_gets_its_own_sample_whatever_fits(
    count: int, size: int, most: int, filled: bool
) -> None:
    fitted = FittedGenerator(Limited(most), size, filled=filled)
    for start in (0, count):  # the second batch goes on with the size that fitted
        requests = [Request(seed=start + s) for s in range(count)]
        assert seeds_of(fitted.generate(requests, {})) == [r.seed for r in requests]
    assert fitted.part_size <= most or count <= most


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, MemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_and_says_so(kind: type[Exception]) -> None:
    inner = Limited(3, kind)
    fitted = FittedGenerator(inner, 8)
    samples = fitted.generate([Request(seed=s) for s in range(8)], {})
    assert inner.sizes == [8, 4, 2, 2, 2, 2]
    assert seeds_of(samples) == list(range(8))
    assert {s.notes for s in samples} == {("computed 2 at a time: out of memory",)}
    fitted.generate([Request(seed=s) for s in range(4)], {})
    assert inner.sizes[6:] == [2, 2]


def test_one_image_that_does_not_fit_is_the_error_it_was() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        FittedGenerator(Limited(0), 4).generate([Request(), Request()], {})
    with pytest.raises(ValueError, match="another"):
        FittedGenerator(Limited(0, lambda _: ValueError("another")), 4).generate([Request()], {})  # type: ignore[arg-type]


def test_the_largest_batch_is_a_power_of_two_found_with_few_steps() -> None:
    inner = Limited(11, steps=50)
    settings = {"base": StageSettings(steps=50)}
    assert largest_batch(inner, Request(), settings, device="cpu") == 8
    assert inner.sizes == [1, 2, 4, 8, 16]
    assert set(inner.steps) == {2}
    assert largest_batch(Limited(1000), Request(), {}, device="cpu") == MOST_FITTED_ON_CPU
    with pytest.raises(torch.OutOfMemoryError):
        largest_batch(Limited(0), Request(), {}, device="cpu")


def test_a_batch_that_would_take_more_than_the_free_memory_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peaks = iter([100, 200, 400, 800])
    monkeypatch.setattr("generators.fitting._peak_bytes", lambda *_: next(peaks))
    monkeypatch.setattr("generators.fitting._memory_bytes", lambda _: 1000)
    assert largest_batch(Limited(1000), Request(), {}, device="cpu") == 8


def test_an_automatic_size_is_recorded_and_kept_when_the_run_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Limited(11)
    monkeypatch.setattr("evalkit.generation.load_generator", lambda *_, **__: inner)
    sampling = SamplingOptions(batch_size=0, fits_batch=True)
    source = DatasetSource("shapes", 12)

    def prepared(most: int) -> tuple[int, Path]:
        inner.most = most
        run = prepare_run(GenerationOptions(model="their/model", source=source, sampling=sampling))
        assert run.run.config["batch_size"] == run.batch_size
        return run.batch_size, Path(str(run.run.path))

    monkeypatch.chdir(tmp_path)
    size, folder = prepared(11)
    assert size == 8
    assert prepared(100) == (8, folder)


def test_an_automatic_size_is_for_one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.generation.load_generator", lambda *_, **__: Limited(11))
    with pytest.raises(ConfigError, match=r"--batch-size auto tries one device.*Give a number"):
        prepare_run(
            GenerationOptions(
                model="their/model",
                source=DatasetSource("shapes", 12),
                sampling=SamplingOptions(batch_size=0, fits_batch=True),
                spread=SpreadOptions(devices=("cpu", "cpu")),
            )
        )


def test_an_automatic_size_is_not_compiled_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalkit.generation.load_generator", lambda *_, **__: Limited(11))
    sampling = SamplingOptions(batch_size=0, fits_batch=True, compiled=True)
    source = DatasetSource("shapes", 12)
    with pytest.raises(ConfigError, match="would compile the model for each size"):
        prepare_run(GenerationOptions(model="their/model", source=source, sampling=sampling))


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "many", "٣"])
def test_a_batch_size_is_a_positive_number_or_auto(text: str) -> None:
    with pytest.raises(ConfigError, match="--batch-size must be auto or at least 1"):
        batch_size(text)
