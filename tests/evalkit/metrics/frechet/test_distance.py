"""The Fréchet distance against scipy's matrix square root and against its exact low-rank form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.metrics import Moments, frechet_distance, frechet_distance_from_features
from tests.reference.plain_frechet import frechet, frechet_low_rank

# The reference's own square root loses about half the digits of the smallest eigenvalues.
FULL_RANK = 1e-9
LOW_RANK = 1e-10


def pair(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)) @ linear + 0.2, rng.normal(size=(m, d)) @ linear


def test_worked_example() -> None:
    # One dimension: variances 2 and 12, means 1 and 5: (1 - 5)^2 + (sqrt 2 - sqrt 12)^2.
    expected = 16 + (2**0.5 - 12**0.5) ** 2
    found = frechet_distance_from_features([[0.0], [2.0]], [[3.0], [3.0], [9.0]])
    assert found == pytest.approx(expected, rel=1e-14)


def test_diagonal_gaussians_are_a_sum_over_dimensions() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.5, 2, 7), rng.uniform(0.5, 2, 7)
    gap = rng.normal(size=7)
    found = frechet_distance(
        Moments.from_statistics(gap, np.diag(a)), Moments.from_statistics(np.zeros(7), np.diag(b))
    )
    expected = (gap**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (65, 900)])
def test_full_rank_equals_the_matrix_square_root(n: int, m: int) -> None:
    x, y = pair(n, m, 48)
    for found in (
        frechet_distance(Moments.from_features(x), Moments.from_features(y)),
        frechet_distance_from_features(x, y),
    ):
        assert found == pytest.approx(frechet(x, y), rel=FULL_RANK)


@pytest.mark.parametrize(("n", "m"), [(20, 400), (400, 20), (30, 40), (48, 48), (49, 48), (2, 2)])
def test_low_rank_is_exact_from_features_and_from_moments(n: int, m: int) -> None:
    x, y = pair(n, m, 48)
    expected = frechet_low_rank(x, y)
    assert frechet_distance_from_features(x, y) == pytest.approx(expected, rel=LOW_RANK)
    from_moments = frechet_distance(Moments.from_features(x), Moments.from_features(y))
    assert from_moments == pytest.approx(expected, rel=1e-8)


def test_constant_dimensions_and_duplicates_do_no_harm() -> None:
    x, y = pair(200, 150, 20)
    x[:, 3] = y[:, 3] = 1.0
    x[:, 4] = x[:, 5]
    expected = frechet_low_rank(x, y)
    assert frechet_distance_from_features(x, y) == pytest.approx(expected, rel=1e-7)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100), n=st.integers(2, 40))
def test_invariants(seed: int, scale: float, n: int) -> None:
    x, y = pair(n, 30, 6, seed)
    distance = frechet_distance_from_features(x, y)
    assert distance > -1e-9
    assert frechet_distance_from_features(y, x) == pytest.approx(distance, rel=1e-7, abs=1e-9)
    assert frechet_distance_from_features(x, x) == pytest.approx(0, abs=1e-7)
    shifted = frechet_distance_from_features(scale * x + 3, scale * y + 3)
    assert shifted == pytest.approx(scale**2 * distance, rel=1e-6, abs=1e-8 * scale**2)
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    rotated = frechet_distance_from_features(x @ rotation, y @ rotation)
    assert rotated == pytest.approx(distance, rel=1e-6, abs=1e-9)


class TestBadInput:
    def test_one_image(self) -> None:
        with pytest.raises(NotEnoughImagesError, match=r"samples: 1 image; .* at least 2"):
            frechet_distance_from_features([[1.0, 2.0]], [[1.0, 2.0], [2.0, 3.0]])

    def test_mismatched_dimensions(self) -> None:
        with pytest.raises(DataError, match="2 and 3 dimensions"):
            frechet_distance_from_features(np.ones((4, 2)), np.ones((4, 3)))

    def test_nan(self) -> None:
        x, y = pair(10, 10, 3)
        y[2, 0] = np.inf
        with pytest.raises(DataError, match=r"reference: .*image 2"):
            frechet_distance_from_features(x, y)
