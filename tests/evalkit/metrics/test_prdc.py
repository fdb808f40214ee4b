"""Precision, recall, density and coverage by hand, and their jackknife against a plain one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc

from evalkit.core.errors import ConfigError, NotEnoughImagesError
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.prdc import NAMES, prdc


def pair(n: int = 60, m: int = 50, d: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0.5, 1, size=(n, d)), rng.normal(size=(m, d))


def test_worked_example() -> None:
    # Real 0 and 2: both balls have radius 2. Samples 0 and 9: radius 9 each.
    # Precision: 0 lies in a ball, 9 does not. Density, open balls: 0 lies in that of 0 only
    # (2 is on the rim), over 2 samples and k = 1: 1 / 2. Recall: both. Coverage: the nearest
    # sample of 0 is 0; of 2 it is 0 as well, on the rim, so that only one ball of two is covered.
    found = prdc([[0.0], [9.0]], [[0.0], [2.0]], k=1)
    assert {name: found[name].value for name in NAMES} == {
        "precision": 0.5,
        "recall": 1.0,
        "density": 0.5,
        "coverage": 0.5,
    }


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shape", [(60, 50, 3), (20, 90, 8)])
def test_values_equal_prdc(k: int, shape: tuple[int, int, int]) -> None:
    x, y = pair(*shape)
    theirs = compute_prdc(real_features=y, fake_features=x, nearest_k=k)
    found = prdc(x, y, k=k)
    assert {name: found[name].value for name in NAMES} == pytest.approx(theirs, abs=1e-12)


def test_jackknife_equals_deleting_by_hand() -> None:
    x, y = pair(40, 44)
    ids = ([str(i) for i in range(40)], [str(i) for i in range(44)])
    clusters = Clusters.of(40, 44, *ids)
    groups = clusters.groups(20, np.random.default_rng(0))
    deleted: dict[str, list[float]] = {name: [] for name in NAMES}
    for group in range(20):
        keep_x, keep_y = groups[clusters.fake] != group, groups[clusters.real] != group
        for name, value in compute_prdc(y[keep_y], x[keep_x], 3).items():
            deleted[name].append(value)
    found = prdc(x, y, k=3, fake_ids=ids[0], real_ids=ids[1])
    for name in NAMES:
        values = np.array(deleted[name])
        expected = np.sqrt(19 / 20 * ((values - values.mean()) ** 2).sum())
        assert found[name].standard_error == pytest.approx(expected, rel=1e-9), name


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = pair()
    whole = prdc(x, y, k=3)
    monkeypatch.setattr("evalkit.metrics.prdc._BLOCK_ROWS", 7)
    assert prdc(x, y, k=3) == whole


def test_standard_error_is_that_of_repeated_draws() -> None:
    found = [prdc(*pair(100, 100, 2, seed), k=3) for seed in range(60)]
    for name in ("precision", "density"):
        deviation = np.std([f[name].value for f in found])
        errors = np.mean([f[name].standard_error for f in found])  # type: ignore[misc]
        # Neighbours overlap, so that the jackknife is wide; it must not be narrow.
        assert 0.9 * deviation < errors < 2.2 * deviation, name


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 500))
def test_shares_are_shares_and_order_does_not_matter(seed: int) -> None:
    x, y = pair(30, 25, 3, seed)
    found = prdc(x, y, k=3)
    for name in ("precision", "recall", "coverage"):
        low, high = found[name].low, found[name].high
        assert low is not None
        assert high is not None
        assert 0 <= low <= found[name].value <= high <= 1
    rng = np.random.default_rng(seed)
    shuffled = prdc(x[rng.permutation(30)], y[rng.permutation(25)], k=3)
    assert {n: s.value for n, s in shuffled.items()} == {n: s.value for n, s in found.items()}


def test_k_matters() -> None:
    x, y = pair()
    assert prdc(x, y, k=3)["precision"].value < prdc(x, y, k=10)["precision"].value


def test_too_few_images_for_a_jackknife_have_no_interval() -> None:
    found = prdc([[0.0], [1.0]], [[0.0], [2.0]], k=1)
    assert found["precision"].standard_error is None


def test_bad_input() -> None:
    with pytest.raises(NotEnoughImagesError, match=r"samples: 3 images; .* at least 4"):
        prdc(*pair(3, 50), k=3)
    with pytest.raises(ConfigError, match="at least 1 neighbour, got 0"):
        prdc(*pair(), k=0)
