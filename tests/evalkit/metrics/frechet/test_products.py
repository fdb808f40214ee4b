"""Large products on another device are the same in float64, and only where the options say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.products import gram, products_on


def test_torch_computes_the_same_moments_in_float64() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 17)).astype(np.float32)
    expected = Moments.from_features(rows)
    with products_on("cpu:0"):  # torch's, where `cpu` is numpy's
        found = Moments.from_features(rows)
    assert found.scatter.dtype == np.float64
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=1e-12, atol=1e-12)


def test_the_device_is_that_of_the_innermost_context(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    move = torch.Tensor.to

    def recorded(self: torch.Tensor, *where: str) -> torch.Tensor:
        seen.append(where[0])
        return move(self, "cpu")

    monkeypatch.setattr(torch.Tensor, "to", recorded)
    rows = np.eye(3)
    with products_on("cuda:1"):
        gram(rows)
        with products_on("cpu"):
            gram(rows)
        gram(rows[:, ::-1])  # not contiguous
    gram(rows)
    assert seen == ["cuda:1", "cuda:1"]
