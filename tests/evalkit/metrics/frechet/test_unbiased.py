"""The corrected distance: unbiased, invariant, and honest about what it can't estimate."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.unbiased import least_variance, unbiased_distances

ROUNDING = 1e-8


def draw(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(n, d)) / np.sqrt(np.arange(1, d + 1.0))


def moments(features: np.ndarray) -> Moments:
    return Moments.from_features(features)


@pytest.mark.parametrize(("n", "m"), [(48, 48), (48, 640), (640, 48), (160, 640)])
def test_the_mean_over_draws_is_the_truth(n: int, m: int) -> None:
    """Scaling all axes by s gives (s - 1)^2 times the trace; what is left is of second order."""
    d, scale = 32, 1.3
    truth = (scale - 1) ** 2 * (1 / np.arange(1, d + 1.0)).sum()
    found = [
        unbiased_distances(moments(draw(n, d, k, scale)), moments(draw(m, d, 10_000 + k)))
        for k in range(150)
    ]
    corrected = np.array([one.corrected for one in found])
    first_order = np.mean([one.plug_in for one in found]) - truth
    assert abs(corrected.mean() - truth) < 0.06 * first_order
    assert abs(corrected.mean() - truth) < 0.5 * corrected.std()


def test_known_statistics_leave_only_the_samples_bias() -> None:
    d, scale = 32, 1.3
    axes = 1 / np.arange(1, d + 1.0)
    known = Moments.from_statistics(np.zeros(d), np.diag(axes))
    truth = (scale - 1) ** 2 * axes.sum()
    found = [
        unbiased_distances(moments(draw(48, d, k, scale)), known).corrected for k in range(150)
    ]
    assert abs(np.mean(found) - truth) < 4 * np.std(found) / np.sqrt(len(found))


def test_the_plug_in_value_is_the_distance_itself() -> None:
    fake, real = moments(draw(50, 20, 0, 1.2)), moments(draw(70, 20, 1))
    assert unbiased_distances(fake, real).plug_in == pytest.approx(frechet_distance(fake, real))


def test_rotations_and_shifts_of_both_sets_change_nothing() -> None:
    fake, real = draw(50, 20, 0, 1.2), draw(70, 20, 1)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(20, 20)))
    plain = unbiased_distances(moments(fake), moments(real)).corrected
    moved = unbiased_distances(moments(fake @ rotation + 3), moments(real @ rotation + 3))
    assert moved.corrected == pytest.approx(plain, rel=ROUNDING)
    apart = unbiased_distances(moments(fake + 3), moments(real)).corrected
    gap = 3**2 * 20 + 2 * 3 * (fake.mean(axis=0) - real.mean(axis=0)).sum()
    assert apart == pytest.approx(plain + gap, rel=ROUNDING)


def test_dimensions_that_never_vary_count_by_their_means_alone() -> None:
    fake, real = draw(50, 20, 0, 1.2), draw(70, 20, 1)
    plain = unbiased_distances(moments(fake), moments(real))
    dead = np.hstack([fake, np.full((50, 2), 4.0)]), np.hstack([real, np.full((70, 2), 1.0)])
    found = unbiased_distances(*map(moments, dead))
    assert found.corrected == pytest.approx(plain.corrected + 2 * 3**2, rel=ROUNDING)
    assert (plain.num_varying, found.num_varying) == (20, 20)


def test_a_feature_that_only_the_reference_has_is_projected_out() -> None:
    fake, real = draw(60, 20, 0, 1.2), draw(70, 20, 1)
    fake[:, 3] = 0
    found = unbiased_distances(moments(fake), moments(real))
    assert found.num_varying == 19
    assert np.isfinite(found.corrected)


@pytest.mark.parametrize(("n", "m"), [(21, 70), (70, 21), (15, 70)])
def test_too_few_images_are_refused_with_the_number_that_would_do(n: int, m: int) -> None:
    with pytest.raises(NotEnoughImagesError, match=r"Not estimable from .* 22 if all vary"):
        unbiased_distances(moments(draw(n, 20, 0)), moments(draw(m, 20, 1)))


def test_samples_of_unknown_number_are_refused() -> None:
    known = Moments.from_statistics(np.zeros(2), np.eye(2))
    with pytest.raises(DataError, match="number of samples is unknown"):
        unbiased_distances(known, moments(draw(9, 2, 0)))


def test_the_least_variance_is_that_of_two_sets_of_one_population() -> None:
    """Of 300 Gaussian pairs; the spread of a variance estimate is 8 %."""
    found, least = [], []
    for k in range(300):
        fake, real = moments(draw(160, 16, k)), moments(draw(320, 16, 10_000 + k))
        found.append(unbiased_distances(fake, real).corrected)
        least.append(least_variance(fake, real))
    assert 0.75 * np.mean(least) < np.var(found) < 1.6 * np.mean(least)
