"""Influence functions against numerical derivatives, intervals against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError
from evalkit.metrics import (
    Moments,
    frechet_distance,
    frechet_interval,
    paired_frechet_difference,
    plan_fid,
)
from evalkit.metrics.clusters import Clusters, clustered_variance
from evalkit.metrics.frechet.influence import Transport
from evalkit.metrics.frechet.interval import mixed_variance
from evalkit.metrics.planning import power_at
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
        x, y = pair(200, 200)
        x = x[np.arange(200) % DIM]  # no more different rows than dimensions
        found = frechet_interval(x, y)
        value = frechet_distance(Moments.from_features(x), Moments.from_features(y))
        assert found.value == pytest.approx(value, rel=1e-12)
        assert np.isfinite(value)
        assert (found.standard_error, found.corrected, found.low) == (None, None, None)
        assert "too many images are equal" in found.reason

    def test_halves_of_too_few_different_images_have_no_corrected_value(self) -> None:
        x, y = pair(200, 200)
        x[DIM + 4 :] = x[0]  # some half has too few of the different ones
        found = frechet_interval(x, y)
        assert found.standard_error is not None
        assert found.corrected is None
        assert found.reason.startswith("in half of the images")

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
        assert found.high - found.low == pytest.approx(
            2 * 1.959964 * found.standard_error, rel=1e-6
        )
        assert found.reason == ""

    def test_real_against_real_may_be_negative_and_is_not_clipped(self) -> None:
        rng = np.random.default_rng(0)
        corrected = [
            frechet_interval(rng.normal(size=(60, 4)), rng.normal(size=(60, 4))).corrected
            for _ in range(20)
        ]
        assert min(c for c in corrected if c is not None) < 0

    def test_no_more_images_than_dimensions(self) -> None:
        found = frechet_interval(*pair(6, 100))
        assert found.standard_error is found.corrected is found.low is None
        assert "6 images in 6 dimensions" in found.reason

    def test_halves_too_small(self) -> None:
        found = frechet_interval(*pair(13, 100))
        assert found.standard_error is not None
        assert found.corrected is None
        assert "more than twice as many images" in found.reason
        assert frechet_interval(*pair(14, 100)).corrected is not None

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

    def test_matched_captions_narrow_the_interval(self) -> None:
        rng = np.random.default_rng(4)
        shared = rng.normal(size=(300, DIM))
        x = shared + 0.3 * rng.normal(size=(300, DIM)) + 0.5
        y = shared + 0.3 * rng.normal(size=(300, DIM))
        ids = [str(i) for i in range(300)]
        matched = frechet_interval(x, y, fake_ids=ids, real_ids=ids)
        apart = frechet_interval(x, y)
        assert matched.num_matched == 300
        assert matched.standard_error is not None
        assert apart.standard_error is not None
        assert matched.standard_error < 0.75 * apart.standard_error

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


class TestMixedVariance:
    def test_orders_are_told_apart(self) -> None:
        first, second = 3.0, 2.0
        whole, half = first + 2 * second, 2 * first + 8 * second
        for share in (1.0, 1.5, 2.0):
            assert mixed_variance(whole, half, share) == pytest.approx(first + share * second)

    def test_stays_between_its_bounds(self) -> None:
        assert mixed_variance(1.0, 100.0, 1.0) == 0.5
        assert mixed_variance(1.0, 0.0, 1.0) == 1.0


class TestPairedDifference:
    def test_a_model_against_itself_differs_by_nothing(self) -> None:
        x, y = pair(60, 60)
        found = paired_frechet_difference(x, x, y)
        assert found.value == 0
        assert found.standard_error == pytest.approx(0, abs=1e-12)
        assert found.p_value == 1

    def test_a_worse_model_is_found_and_signs_are_right(self) -> None:
        x, y = pair(200, 200)
        found = paired_frechet_difference(x, x + 1.0, y)
        assert found.value < 0
        assert found.high < 0
        assert found.p_value < 1e-6
        assert paired_frechet_difference(x + 1.0, x, y).value == pytest.approx(-found.value)

    def test_shared_captions_help(self) -> None:
        rng = np.random.default_rng(2)
        shared = rng.normal(size=(200, DIM))
        x = shared + 0.2 * rng.normal(size=shared.shape) + 0.5
        z = shared + 0.2 * rng.normal(size=shared.shape) + 0.5
        y = rng.normal(size=(200, DIM))
        together = paired_frechet_difference(x, z, y).standard_error
        names = ([f"a{i}" for i in range(200)], [f"b{i}" for i in range(200)])
        apart = paired_frechet_difference(
            x, z, y, first_ids=names[0], second_ids=names[1]
        ).standard_error
        assert together < 0.6 * apart

    def test_too_few_images(self) -> None:
        x, y = pair(5, 100)
        with pytest.raises(NotEnoughImagesError, match="5 images in 6 dimensions"):
            paired_frechet_difference(x, x, y)

    def test_without_correction_where_halves_are_too_small(self) -> None:
        x, y = pair(10, 100)
        found = paired_frechet_difference(x, x[::-1], y)
        assert not found.corrected
        assert "bias not removed" in found.method


class TestClusters:
    def test_halves_keep_clusters_whole_and_are_equal(self) -> None:
        ids = [str(i // 3) for i in range(30)]
        clusters = Clusters.of(30, 12, ids, [str(i) for i in range(12)])
        assert clusters.num_matched == 10
        fake, real = clusters.halve(np.random.default_rng(0))
        assert fake.sum() == 15
        assert real.sum() == 6
        for start in range(0, 30, 3):
            assert len(set(fake[start : start + 3])) == 1
            assert fake[start] == real[start // 3]

    def test_images_without_ids_never_meet(self) -> None:
        clusters = Clusters.of(5, 5)
        assert clusters.num == 10
        assert clusters.num_matched == 0

    def test_variance_of_a_mean(self) -> None:
        values = np.random.default_rng(0).normal(size=50)
        found = clustered_variance(Clusters.of(50, 0), (values - values.mean()) / 50, None)
        assert found == pytest.approx(values.var(ddof=1) / 50, rel=1e-12)


class TestCoverage:
    """A fast version of `benchmarks/metrics/coverage.py`; seeds were fixed before looking."""

    REPETITIONS = 200

    @pytest.mark.parametrize("matched", [False, True])
    def test_interval_and_paired_test(self, matched: bool) -> None:
        from benchmarks.metrics.coverage import Cell, run_cell

        row = run_cell(Cell("gaussian", 8, 10.0, matched), self.REPETITIONS)
        low, high = binom.interval(0.999, self.REPETITIONS, 0.95)
        assert low <= row.coverage * self.REPETITIONS <= high
        assert row.coverage_plug_in < row.coverage
        assert row.rejected * self.REPETITIONS <= binom.interval(0.999, self.REPETITIONS, 0.05)[1]


class TestPlan:
    def test_four_times_the_images_halve_what_is_found(self) -> None:
        x, y = pair(200, 200)
        coarse, fine = (plan_fid(x, y, difference=d) for d in (0.04, 0.02))
        assert coarse.n > coarse.minimum_n
        assert fine.n == pytest.approx(4 * coarse.n, rel=0.01)
        assert power_at(coarse, coarse.n) == pytest.approx(0.8, abs=0.01)

    def test_at_least_what_the_intervals_need(self) -> None:
        x, y = pair(200, 200)
        assert plan_fid(x, y, difference=100.0).n == 5 * DIM

    def test_a_pilot_of_both_models_needs_fewer(self) -> None:
        x, y = pair(200, 200)
        other = x + 0.05 * np.random.default_rng(0).normal(size=x.shape)
        alone = plan_fid(x, y, difference=0.02)
        both = plan_fid(x, y, difference=0.02, second=other)
        assert both.paired
        assert both.n < alone.n

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"difference": 0.0}, "not positive"),
            ({"difference": 1.0, "power": 1.5}, "Power 1.5"),
            ({"difference": 1.0, "level": 0.0}, "Level 0.0"),
        ],
    )
    def test_bad_wishes(self, options: dict[str, float], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            plan_fid(*pair(60, 60), **options)

    def test_a_pilot_too_small(self) -> None:
        with pytest.raises(NotEnoughImagesError, match="No plan: 6 images in 6 dimensions"):
            plan_fid(*pair(6, 60), difference=1.0)
