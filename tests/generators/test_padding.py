"""Short batches of a compiled model are filled up, and nobody sees it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from evalkit.generation import prepare_generator
from evalkit.options import SamplingOptions
from generators.base import Request, Sample, Settings
from generators.padding import PaddedGenerator
from tests.support.fake_generators import plain_spec


class Counting:
    spec = plain_spec()

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        del settings
        self.sizes.append(len(requests))
        return [Sample(image=np.full((2, 2, 3), r.seed, np.uint8)) for r in requests]


@pytest.mark.parametrize("compiled", [True, False])
def test_a_run_fills_up_the_batches_of_a_compiled_model_alone(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = Counting()
    monkeypatch.setattr("evalkit.generation.load_generator", lambda *_, **__: inner)
    sampling = SamplingOptions(compiled=compiled, batch_size=4)
    generator, settings = prepare_generator("their/model", sampling)
    assert len(generator.generate([Request()], settings)) == 1
    assert inner.sizes == [4 if compiled else 1]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_every_call_gets_a_whole_batch(count: int) -> None:
    inner = Counting()
    samples = PaddedGenerator(inner, 4).generate([Request(seed=s) for s in range(count)], {})
    assert inner.sizes == [4]
    assert [int(s.image[0, 0, 0]) for s in samples if s.image is not None] == list(range(count))
