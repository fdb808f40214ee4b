"""FD∞ and its interval: promises, refusals, coverage in simulation, and influences."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.metrics.worlds import world
from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError
from evalkit.metrics import (
    GroupedMoments,
    Moments,
    frechet_distance,
    frechet_interval,
    frechet_interval_of_groups,
)
from evalkit.metrics.clusters import Clusters, clustered_variance
from evalkit.metrics.frechet.influence import Transport
from evalkit.metrics.frechet.jackknife import group_codes
from tests.reference.plain_frechet import influence_by_difference

DIM = 6


def pair(n: int, m: int, d: int = DIM, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    return rng.normal(size=(n, d)) @ linear + 0.3, rng.normal(size=(m, d))


class TestInfluence:
    def test_the_maps_carry_one_covariance_to_the_other(self) -> None:
        a, b = (Moments.from_features(x) for x in pair(60, 80))
        maps = Transport.between(a, b)
        np.testing.assert_allclose(
            maps.forward @ a.covariance @ maps.forward, b.covariance, atol=1e-10
        )
        np.testing.assert_allclose(maps.forward @ maps.backward, np.eye(DIM), atol=1e-9)

    def test_equals_the_numerical_derivative(self) -> None:
        x, y = pair(40, 50)
        # The plain derivative takes covariances with ddof 0.
        maps = Transport.between(
            Moments.from_statistics(x.mean(0), np.cov(x.T, ddof=0), 40),
            Moments.from_statistics(y.mean(0), np.cov(y.T, ddof=0), 50),
        )
        ours = maps.influence_of_fake(x)
        expected = [influence_by_difference(x, y, i) for i in range(len(x))]
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
        of_real = maps.influence_of_real(y)
        swapped = [influence_by_difference(y, x, i) for i in range(len(y))]
        np.testing.assert_allclose(of_real, swapped, rtol=1e-5, atol=1e-6)

    def test_the_image_that_pushes_up_most_is_found(self) -> None:
        x, y = pair(100, 100)
        x[17] += 30
        assert int(np.argmax(frechet_interval(x, y).influences)) == 17  # type: ignore[arg-type]

    def test_a_singular_covariance_is_refused(self) -> None:
        with pytest.raises(NotEnoughImagesError, match="singular"):
            Transport.between(*(Moments.from_features(x) for x in pair(4, 50)))


class TestInterval:
    def test_many_equal_images_leave_the_value_and_say_why_there_is_no_interval(self) -> None:
        x, y = pair(200, 5)
        found = frechet_interval(x[np.arange(200) % DIM], y)
        assert np.isfinite(found.value)
        assert (found.standard_error, found.corrected, found.low) == (None, None, None)
        assert "not estimable at n = 200 against 5 reference images in 6 dimensions" in found.reason

    def test_record_holds_what_the_api_promises(self) -> None:
        x, y = pair(200, 200)
        found = frechet_interval(x, y)
        value = frechet_distance(Moments.from_features(x), Moments.from_features(y))
        assert found.value == pytest.approx(value, rel=1e-12)
        assert found.corrected is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.corrected < found.high
        assert found.corrected < found.value
        assert found.standard_error is not None
        t_19 = 2.093024
        assert found.high - found.low == pytest.approx(2 * t_19 * found.standard_error, rel=1e-6)
        assert found.reason == ""
        assert found.plug_in_error == pytest.approx(found.standard_error, rel=0.5)
        assert (found.num_groups, found.num_projected_out) == (20, 0)

    def test_moments_by_group_are_all_that_is_needed(self) -> None:
        x, y = pair(60, 90)
        found = frechet_interval(x, y, seed=2)
        fake, real, num = group_codes(Clusters.of(60, 90), seed=2)
        again = frechet_interval_of_groups(
            GroupedMoments.of_features(x, fake, num), GroupedMoments.of_features(y, real, num)
        )
        for name in ("value", "corrected", "standard_error", "low", "high"):
            assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-10)

    def test_a_dead_feature_costs_nothing(self) -> None:
        x, y = pair(60, 90)
        found = frechet_interval(x, y)
        dead = frechet_interval(np.hstack([x, x[:, :1] * 0]), np.hstack([y, y[:, :1] * 0]))
        assert dead.corrected == pytest.approx(found.corrected, rel=1e-8)
        assert dead.num_projected_out == 1

    def test_real_against_real_may_be_negative_and_is_not_clipped(self) -> None:
        rng = np.random.default_rng(0)
        corrected = [
            frechet_interval(rng.normal(size=(60, 4)), rng.normal(size=(60, 4))).corrected
            for _ in range(20)
        ]
        assert min(c for c in corrected if c is not None) < 0

    @pytest.mark.parametrize(("n", "m"), [(6, 100), (7, 100), (100, 7), (8, 100)])
    def test_too_few_images_name_the_number_that_would_do(self, n: int, m: int) -> None:
        """Without one group of the jackknife, 8 images are 7, and 6 dimensions need 8."""
        found = frechet_interval(*pair(n, m))
        assert found.standard_error is found.corrected is found.low is None
        assert "not estimable" in found.reason
        assert re.search(r"at least (9|10) different images in each set", found.reason)
        assert frechet_interval(*pair(10, 100)).corrected is not None

    def test_few_captions_have_no_interval(self) -> None:
        x, y = pair(40, 100)
        found = frechet_interval(x, y, fake_ids=["a", "b"] * 20)
        assert found.corrected is None
        assert "2 independent ids among the samples" in found.reason

    def test_statistics_only(self) -> None:
        x, y = pair(100, 100)
        found = frechet_interval(x, Moments.from_features(y))
        both = frechet_interval(x, y)
        assert "samples only" in found.reason
        assert found.standard_error is not None
        assert both.standard_error is not None
        assert found.standard_error < both.standard_error

    def test_level_and_seed_matter(self) -> None:
        x, y = pair(60, 60)
        usual, wide = frechet_interval(x, y), frechet_interval(x, y, level=0.99)
        assert usual.low is not None
        assert wide.low is not None
        assert wide.low < usual.low
        assert frechet_interval(x, y, seed=1).corrected != usual.corrected
        assert frechet_interval(x, y).corrected == usual.corrected

    def test_order_changes_nothing_that_is_not_drawn(self) -> None:
        x, y = pair(60, 60)
        shuffled = x[np.random.default_rng(0).permutation(60)]
        ours, theirs = frechet_interval(shuffled, y), frechet_interval(x, y)
        assert ours.value == pytest.approx(theirs.value, rel=1e-12)

    def test_close_matches_of_a_small_reference_are_left_out_or_refused(self) -> None:
        rng = np.random.default_rng(4)
        y = rng.normal(size=(300, DIM))
        x = y[:150] + 0.1 * rng.normal(size=(150, DIM)) + 0.5
        ids = [str(i) for i in range(300)]
        found = frechet_interval(x, y, fake_ids=ids[:150], real_ids=ids)
        assert (found.num_matched, found.num_left_out) == (150, 150)
        assert found.corrected is not None
        few = frechet_interval(x[:15], y[:15], fake_ids=ids[:15], real_ids=ids[:15])
        assert few.corrected is None
        assert "needs at least 20 different images in each set" in few.reason
        assert "samples closely match reference images" in few.reason
        strangers = frechet_interval(
            rng.normal(size=(150, DIM)), y, fake_ids=ids[:150], real_ids=ids
        )
        assert strangers.num_left_out == 0

    def test_matched_captions_narrow_the_interval(self) -> None:
        rng = np.random.default_rng(4)
        shared = rng.normal(size=(300, DIM))
        x = shared + 0.6 * rng.normal(size=(300, DIM)) + 0.5
        y = shared + 0.6 * rng.normal(size=(300, DIM))
        ids = [str(i) for i in range(300)]
        matched = frechet_interval(x, y, fake_ids=ids, real_ids=ids)
        apart = frechet_interval(x, y)
        assert matched.num_matched == 300
        assert matched.standard_error is not None
        assert apart.standard_error is not None
        assert matched.standard_error < 0.75 * apart.standard_error

    def test_a_reference_of_close_matches_alone_is_crossed(self) -> None:
        """Reconstructions, as of an autoencoder: every sample has its original in the reference."""
        covered = []
        for number in range(60):
            rng = np.random.default_rng([20261203, number])
            y = rng.normal(size=(150, DIM))
            x = 1.2 * y + 0.05 * rng.normal(size=y.shape)
            ids = [str(i) for i in range(150)]
            found = frechet_interval(x, y, fake_ids=ids, real_ids=ids, seed=number)
            assert "other half's reference images" in found.method
            assert found.low is not None
            assert found.high is not None
            truth = DIM * (np.hypot(1.2, 0.05) - 1) ** 2
            covered.append(found.low <= truth <= found.high)
        assert sum(covered) >= 51  # of 60 at 95 %, fewer come in 0.1 % of tries

    def test_the_curve_ends_at_the_value(self) -> None:
        x, y = pair(160, 4000, d=24)
        found = frechet_interval(x, y, curve=True)
        quarter, half, whole = found.against_n
        assert (quarter.n, half.n, whole.n) == (40, 80, 160)
        assert quarter.plug_in > half.plug_in > whole.plug_in == found.value
        assert (whole.corrected, whole.low) == (found.corrected, found.low)
        assert quarter.low is not None
        assert quarter.high is not None
        assert quarter.low < whole.corrected < quarter.high  # type: ignore[operator]
        assert frechet_interval(x, y).against_n == ()

    def test_samples_of_one_caption_are_one_draw(self) -> None:
        x, y = pair(100, 200)
        copied = np.repeat(x, 4, axis=0) + 1e-6 * np.random.default_rng(0).normal(size=(400, DIM))
        ids = [str(i // 4) for i in range(400)]
        clustered = frechet_interval(copied, y, fake_ids=ids).standard_error
        naive = frechet_interval(copied, y).standard_error
        once = frechet_interval(x, y).standard_error
        assert clustered is not None
        assert naive is not None
        assert once is not None
        assert naive < 0.8 * clustered
        assert clustered == pytest.approx(once, rel=0.25)

    def test_bad_level_and_ids(self) -> None:
        x, y = pair(60, 60)
        with pytest.raises(ConfigError, match=r"Level 95 .*between 0 and 1"):
            frechet_interval(x, y, level=95)
        with pytest.raises(DataError, match="2 ids for 60 samples"):
            frechet_interval(x, y, fake_ids=["a", "b"])


class TestClusters:
    def test_images_without_ids_never_meet(self) -> None:
        clusters = Clusters.of(5, 5)
        assert clusters.num == 10
        assert clusters.num_matched == 0

    def test_variance_of_a_mean(self) -> None:
        values = np.random.default_rng(0).normal(size=50)
        found = clustered_variance(Clusters.of(50, 0), (values - values.mean()) / 50, None)
        assert found == pytest.approx(values.var(ddof=1) / 50, rel=1e-12)


class TestCoverage:
    """A fast version of `benchmarks.metrics.coverage_corrected`; seeds were fixed first."""

    REPETITIONS = 120

    @pytest.mark.parametrize(("n", "m"), [(24, 24), (24, 320), (80, 320)])
    @pytest.mark.parametrize("name", ["1/k", "relu", "t10"])
    def test_intervals_cover(self, name: str, n: int, m: int) -> None:
        """From 1.5 dimensions on; fewer than 106 of 120 come in 0.1 % of tries at 95 %."""
        here = world(name, 16)
        covered = above = 0
        for number in range(self.REPETITIONS):
            rng = np.random.default_rng([20261201, number])
            found = frechet_interval(here.fake(n, rng), here.real(m, rng), seed=number)
            assert found.low is not None
            assert found.high is not None
            covered += found.low <= here.truth <= found.high
            above += found.value > found.high
        assert covered >= 106
        if n == 24:
            assert above > 60, "the plug-in value is out of it"
