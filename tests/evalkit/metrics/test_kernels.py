"""KID and CMMD against loops over pairs, and their intervals against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError
from evalkit.metrics import mmd
from evalkit.metrics.cmmd import cmmd
from evalkit.metrics.kid import kid
from tests.reference.plain_kernels import cubic, gaussian, mmd_biased, mmd_unbiased


def pair(n: int = 12, m: int = 9, d: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.4, 1, size=(n, d)), rng.normal(size=(m, d))


def test_kid_worked_example() -> None:
    # k(0, 2) = 1; k(1, 3) = 4^3 = 64; across: 1, 1, 27, 343, mean 93; 1 + 64 - 2 * 93.
    assert kid([[0.0], [2.0]], [[1.0], [3.0]], subsets=1).full == pytest.approx(-121)


def test_kid_equals_the_loops() -> None:
    x, y = pair()
    found = kid(x, y, subsets=3)
    assert found.full == pytest.approx(mmd_unbiased(x, y, cubic), rel=1e-12)
    assert found.subset_size == 9


def test_cmmd_equals_the_loops() -> None:
    x, y = pair()
    found = cmmd(x, y)
    assert found.value == pytest.approx(1000 * mmd_biased(x, y, gaussian), rel=1e-9)
    assert found.unbiased == pytest.approx(1000 * mmd_unbiased(x, y, gaussian), rel=1e-9)
    assert found.value > found.unbiased


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair()
    whole = kid(x, y)
    monkeypatch.setattr(mmd, "_BLOCK_VALUES", 30)
    parts = kid(x, y)
    assert parts.full == pytest.approx(whole.full, rel=1e-12)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_order_changes_nothing_but_the_subsets(seed: int) -> None:
    x, y = pair()
    rng = np.random.default_rng(seed)
    shuffled = kid(x[rng.permutation(len(x))], y[rng.permutation(len(y))])
    assert shuffled.full == pytest.approx(kid(x, y).full, rel=1e-9)


def test_seed_size_and_number_of_subsets_matter() -> None:
    x, y = pair(60, 60)
    base = kid(x, y, subsets=5, subset_size=20)
    assert kid(x, y, subsets=5, subset_size=20) == base
    assert kid(x, y, subsets=5, subset_size=20, seed=1).value != base.value
    assert kid(x, y, subsets=6, subset_size=20).value != base.value
    assert kid(x, y, subsets=5, subset_size=21).value != base.value


@pytest.mark.parametrize("gap", [0.0, 0.5])
def test_standard_error_is_that_of_repeated_draws(gap: float) -> None:
    rng = np.random.default_rng(5)
    found = [
        kid(rng.normal(gap, 1, size=(80, 4)), rng.normal(size=(80, 4)), subsets=1)
        for _ in range(150)
    ]
    deviation = np.std([f.full for f in found])
    error = np.mean([f.standard_error for f in found])
    # Where both sets are alike the error is too large by up to 1.4, else it is right.
    assert 0.85 * deviation < error < (1.7 if gap == 0 else 1.25) * deviation


def test_matched_ids_are_one_draw() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=(200, 3))
    x, y = shared + 0.5, shared + 0.1 * rng.normal(size=shared.shape)
    ids = [str(i) for i in range(200)]
    matched = kid(x, y, subsets=1, fake_ids=ids, real_ids=ids).standard_error
    assert matched < 0.8 * kid(x, y, subsets=1).standard_error


class TestBadInput:
    def test_one_image(self) -> None:
        with pytest.raises(NotEnoughImagesError, match="samples: 1 image"):
            kid([[1.0]], [[1.0], [2.0]])

    def test_other_dimensions(self) -> None:
        with pytest.raises(DataError, match="2 and 3 dimensions"):
            cmmd(np.ones((3, 2)), np.ones((3, 3)))

    def test_an_embedding_without_direction(self) -> None:
        with pytest.raises(DataError, match="row 1 has length 0"):
            cmmd([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])

    def test_no_subset(self) -> None:
        with pytest.raises(ConfigError, match="got 0 of 9"):
            kid(*pair(), subsets=0)
