"""Groups of captions leave together, bias goes, and moments by group are all that is needed."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.core.errors import NotEnoughImagesError
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.jackknife import (
    GroupedMoments,
    Jackknifed,
    group_codes,
    pseudo_values,
)
from evalkit.metrics.frechet.moments import Moments

ROUNDING = 1e-9


def grouped(features: np.ndarray, num: int) -> GroupedMoments:
    return GroupedMoments.of_features(features, np.arange(len(features)) % num, num)


def test_a_mean_and_its_error_by_hand() -> None:
    """Four groups of one image: pseudo-values are the images, their mean 4, variance 20/3 / 4."""
    sets = grouped(np.array([[1.0], [3.0], [5.0], [7.0]]), 4)
    values = pseudo_values(lambda *out: sets.without(*out).mean, 4)
    assert values[:, 0].tolist() == pytest.approx([1, 3, 5, 7])
    found = Jackknifed.of(values[:, 0])
    assert found.value == pytest.approx(4)
    assert found.variance == pytest.approx(20 / 3 / 4)
    low, high = found.ends(0.95)
    assert (low + high) / 2 == pytest.approx(4)
    assert high - 4 == pytest.approx(3.182446 * np.sqrt(5 / 3), rel=1e-6)  # t with 3 df


def test_a_bias_of_one_over_n_goes() -> None:
    """The variance with divisor n is too small by a share 1 / n; jackknifed, it is not."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 1))
    sets = grouped(features, 20)

    def variance(*out: int) -> np.ndarray:
        rest = sets.without(*out)
        return np.array([rest.scatter[0, 0] / (rest.n or 1)])

    values = pseudo_values(variance, 20)
    assert Jackknifed.of(values[:, 0]).value == pytest.approx(features.var(ddof=1), rel=1e-3)
    assert features.var() < 0.98 * features.var(ddof=1)


def test_the_variance_has_a_floor() -> None:
    equal = np.ones(20)
    assert Jackknifed.of(equal).variance == 0
    assert Jackknifed.of(equal, least_variance=4.0).variance == pytest.approx(4 * (20 / 19) ** 2)


def test_ids_stay_together_and_both_sets_are_dealt_out_evenly() -> None:
    fake_ids = [str(i // 4) for i in range(160)]
    real_ids = [str(i) for i in range(20)] + [f"x{i}" for i in range(380)]
    clusters = Clusters.of(160, 400, fake_ids, real_ids)
    fake, real, num = group_codes(clusters, seed=3)
    assert num == 20
    assert np.bincount(fake).tolist() == [8] * 20
    assert np.bincount(real).tolist() == [20] * 20
    assert (fake.reshape(40, 4) == fake.reshape(40, 4)[:, :1]).all()
    assert (real[:20] == fake.reshape(40, 4)[:20, 0]).all()
    other, _, _ = group_codes(clusters, seed=4)
    assert (other != fake).any()


def test_few_ids_make_few_groups() -> None:
    assert group_codes(Clusters.of(6, 50, list("aabbcc")))[2] == 3
    with pytest.raises(NotEnoughImagesError, match="at least 2 groups"):
        pseudo_values(lambda *out: np.zeros(1), 1)


def test_workers_can_hand_in_their_share_of_each_group() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 5))
    codes = rng.integers(0, 20, 300)
    whole = GroupedMoments.of_features(features, codes, 20)
    shares = [
        [Moments.from_features(features[part][codes[part] == g]) for g in range(20)]
        for part in (slice(0, 140), slice(140, 300))
    ]
    merged = GroupedMoments.of_groups([a + b for a, b in zip(*shares, strict=True)])
    np.testing.assert_allclose(merged.whole.covariance, whole.whole.covariance, rtol=ROUNDING)
    left = Moments.from_features(features[(codes != 3) & (codes != 4)])
    np.testing.assert_allclose(merged.without(3, 4).mean, left.mean, atol=ROUNDING)
    np.testing.assert_allclose(merged.without(3, 4).covariance, left.covariance, atol=ROUNDING)
    known = GroupedMoments(left, ())
    assert known.without(3) is known.whole
