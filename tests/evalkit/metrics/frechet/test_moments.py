"""Moments: the same whatever the order, the sharding and the batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.metrics import Moments
from evalkit.metrics.frechet.moments import merge_all

# Rounding of float64 sums in another order.
SHARDING = 1e-10


def features(n: int, d: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(5.0, 2.0, size=(n, d)) @ rng.normal(size=(d, d)) + 100


def assert_same(first: Moments, second: Moments) -> None:
    assert first.n == second.n
    np.testing.assert_allclose(first.mean, second.mean, rtol=SHARDING)
    scale = np.abs(second.covariance).max()
    np.testing.assert_allclose(first.covariance, second.covariance, atol=SHARDING * scale)


def test_worked_example() -> None:
    # Rows (0, 0), (2, 0), (4, 3): mean (2, 1); centred (-2, -1), (0, -1), (2, 2);
    # sums of products 8, 6, 6, divided by n - 1 = 2.
    moments = Moments.from_features([[0.0, 0.0], [2.0, 0.0], [4.0, 3.0]])
    np.testing.assert_array_equal(moments.mean, [2.0, 1.0])
    np.testing.assert_allclose(moments.covariance, [[4.0, 3.0], [3.0, 3.0]], rtol=1e-15)


def test_equal_numpy_even_far_from_zero() -> None:
    x = features(500, 6) + 1e6
    moments = Moments.from_features(x)
    np.testing.assert_allclose(moments.covariance, np.cov(x.T), rtol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 199), max_size=6),
    seed=st.integers(0, 2**16),
)
def test_any_order_and_sharding_agree(cuts: list[int], seed: int) -> None:
    x = features(200, 5)
    shuffled = x[np.random.default_rng(seed).permutation(len(x))]
    parts = np.split(shuffled, sorted(cuts))
    assert_same(
        merge_all(Moments.from_features(p) for p in parts if len(p)), Moments.from_features(x)
    )


def test_batches_of_one_agree_with_one_batch() -> None:
    x = features(50, 4)
    streamed = Moments(4)
    for row in x:
        streamed.update(row)
    assert_same(streamed, Moments.from_features(x))


def test_merging_changes_neither_part() -> None:
    a, b = Moments.from_features(features(20, 3)), Moments.from_features(features(30, 3, 1))
    before = a.mean.copy(), a.scatter.copy(), b.n
    assert (a + b).n == 50
    np.testing.assert_array_equal(a.mean, before[0])
    np.testing.assert_array_equal(a.scatter, before[1])
    assert b.n == before[2]


def test_taking_a_part_out_leaves_the_rest() -> None:
    x = features(90, 4)
    rest = Moments.from_features(x).without(Moments.from_features(x[:30]))
    assert_same(rest, Moments.from_features(x[30:]))


def test_float32_features_are_summed_in_float64() -> None:
    x = features(300, 4).astype(np.float32)
    assert_same(Moments.from_features(x), Moments.from_features(x.astype(np.float64)))


def test_save_and_load(tmp_path: Path) -> None:
    moments = Moments.from_features(features(40, 3))
    moments.save(tmp_path / "stats.npz")
    assert_same(Moments.load(tmp_path / "stats.npz"), moments)


def test_statistics_of_unknown_n_round_trip(tmp_path: Path) -> None:
    given_ = Moments.from_statistics([1.0, 2.0], [[2.0, 0.5], [0.5, 1.0]])
    given_.save(tmp_path / "stats.npz")
    read = Moments.load(tmp_path / "stats.npz")
    assert read.n is None
    np.testing.assert_array_equal(read.covariance, [[2.0, 0.5], [0.5, 1.0]])
    with pytest.raises(DataError, match="unknown n"):
        read.update(np.zeros((1, 2)))
    with pytest.raises(DataError, match="unknown n"):
        Moments.from_features(features(5, 2)).merge(read)


class TestBadInput:
    def test_one_image_has_no_covariance(self) -> None:
        with pytest.raises(NotEnoughImagesError, match="at least 2 images, got 1"):
            _ = Moments.from_features([[1.0, 2.0]]).covariance

    def test_nan_names_the_image(self) -> None:
        x = features(10, 3)
        x[7, 1] = np.nan
        with pytest.raises(DataError, match=r"image 7 .*NaN"):
            Moments.from_features(x)

    def test_other_dimensions(self) -> None:
        with pytest.raises(DataError, match="3 and 4 dimensions"):
            Moments.from_features(features(5, 3)).merge(Moments.from_features(features(5, 4)))

    def test_wrong_shape(self) -> None:
        with pytest.raises(DataError, match=r"shape \(5,\)"):
            Moments.from_features(np.zeros(5))

    def test_asymmetric_covariance(self) -> None:
        with pytest.raises(DataError, match="not symmetric"):
            Moments.from_statistics([0.0, 0.0], [[1.0, 0.5], [0.0, 1.0]])

    def test_nothing_to_merge(self) -> None:
        with pytest.raises(DataError, match="No moments"):
            merge_all([])

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04"])
    def test_no_statistics_file(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "stats.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"stats\.npz: not a statistics file"):
            Moments.load(path)

    def test_a_file_without_mu(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "stats.npz", other=np.zeros(3))
        with pytest.raises(DataError, match="expected mu and sigma"):
            Moments.load(tmp_path / "stats.npz")
