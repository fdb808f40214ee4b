"""The corrected distance and its difference: promises, refusals, and coverage in simulation."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.metrics.worlds import world
from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError
from evalkit.metrics import Moments, frechet_distance
from evalkit.metrics.clusters import Clusters
from evalkit.metrics.frechet.corrected import corrected_distance, corrected_of_groups
from evalkit.metrics.frechet.jackknife import GroupedMoments, group_codes
from evalkit.metrics.frechet.paired import corrected_difference

DIM = 6


def pair(n: int, m: int, d: int = DIM, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    return rng.normal(size=(n, d)) @ linear + 0.3, rng.normal(size=(m, d))


class TestInterval:
    def test_many_equal_images_leave_the_value_and_say_why_there_is_no_interval(self) -> None:
        x, y = pair(200, 5)
        found = corrected_distance(x[np.arange(200) % DIM], y)
        assert np.isfinite(found.value)
        assert (found.standard_error, found.corrected, found.low) == (None, None, None)
        assert "Not estimable from 5 reference images" in found.reason

    def test_record_holds_what_the_api_promises(self) -> None:
        x, y = pair(200, 200)
        found = corrected_distance(x, y)
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
        found = corrected_distance(x, y, seed=2)
        fake, real, num = group_codes(Clusters.of(60, 90), seed=2)
        again = corrected_of_groups(
            GroupedMoments.of_features(x, fake, num), GroupedMoments.of_features(y, real, num)
        )
        for name in ("value", "corrected", "standard_error", "low", "high"):
            assert getattr(again, name) == pytest.approx(getattr(found, name), rel=1e-10)

    def test_a_dead_feature_costs_nothing(self) -> None:
        x, y = pair(60, 90)
        found = corrected_distance(x, y)
        dead = corrected_distance(np.hstack([x, x[:, :1] * 0]), np.hstack([y, y[:, :1] * 0]))
        assert dead.corrected == pytest.approx(found.corrected, rel=1e-8)
        assert dead.num_projected_out == 1

    def test_real_against_real_may_be_negative_and_is_not_clipped(self) -> None:
        rng = np.random.default_rng(0)
        corrected = [
            corrected_distance(rng.normal(size=(60, 4)), rng.normal(size=(60, 4))).corrected
            for _ in range(20)
        ]
        assert min(c for c in corrected if c is not None) < 0

    @pytest.mark.parametrize(("n", "m"), [(6, 100), (7, 100), (100, 7), (8, 100)])
    def test_too_few_images_name_the_number_that_would_do(self, n: int, m: int) -> None:
        """Without one group of the jackknife, 8 images are 7, and 6 dimensions need 8."""
        found = corrected_distance(*pair(n, m))
        assert found.standard_error is found.corrected is found.low is None
        assert "Not estimable" in found.reason
        assert re.search(r"\b(9|10) of each", found.reason)
        assert corrected_distance(*pair(10, 100)).corrected is not None

    def test_few_captions_have_no_interval(self) -> None:
        x, y = pair(40, 100)
        found = corrected_distance(x, y, fake_ids=["a", "b"] * 20)
        assert found.corrected is None
        assert "2 independent ids among the samples" in found.reason

    def test_statistics_only(self) -> None:
        x, y = pair(100, 100)
        found = corrected_distance(x, Moments.from_features(y))
        both = corrected_distance(x, y)
        assert "samples only" in found.reason
        assert found.standard_error is not None
        assert both.standard_error is not None
        assert found.standard_error < both.standard_error

    def test_level_and_seed_matter(self) -> None:
        x, y = pair(60, 60)
        usual, wide = corrected_distance(x, y), corrected_distance(x, y, level=0.99)
        assert usual.low is not None
        assert wide.low is not None
        assert wide.low < usual.low
        assert corrected_distance(x, y, seed=1).corrected != usual.corrected
        assert corrected_distance(x, y).corrected == usual.corrected

    def test_order_changes_nothing_that_is_not_drawn(self) -> None:
        x, y = pair(60, 60)
        shuffled = x[np.random.default_rng(0).permutation(60)]
        ours, theirs = corrected_distance(shuffled, y), corrected_distance(x, y)
        assert ours.value == pytest.approx(theirs.value, rel=1e-12)

    def test_close_matches_of_a_small_reference_are_left_out_or_refused(self) -> None:
        rng = np.random.default_rng(4)
        y = rng.normal(size=(300, DIM))
        x = y[:150] + 0.1 * rng.normal(size=(150, DIM)) + 0.5
        ids = [str(i) for i in range(300)]
        found = corrected_distance(x, y, fake_ids=ids[:150], real_ids=ids)
        assert (found.num_matched, found.num_left_out) == (150, 150)
        assert found.corrected is not None
        alone = corrected_distance(x, y[:150], fake_ids=ids[:150], real_ids=ids[:150])
        assert alone.corrected is None
        assert "resemble samples of their own captions (correlation 1.00)" in alone.reason
        strangers = corrected_distance(
            rng.normal(size=(150, DIM)), y, fake_ids=ids[:150], real_ids=ids
        )
        assert strangers.num_left_out == 0

    def test_samples_of_one_caption_are_one_draw(self) -> None:
        x, y = pair(100, 200)
        copied = np.repeat(x, 4, axis=0) + 1e-6 * np.random.default_rng(0).normal(size=(400, DIM))
        ids = [str(i // 4) for i in range(400)]
        clustered = corrected_distance(copied, y, fake_ids=ids).standard_error
        naive = corrected_distance(copied, y).standard_error
        once = corrected_distance(x, y).standard_error
        assert clustered is not None
        assert naive is not None
        assert once is not None
        assert naive < 0.8 * clustered
        assert clustered == pytest.approx(once, rel=0.25)

    def test_bad_level_and_ids(self) -> None:
        x, y = pair(60, 60)
        with pytest.raises(ConfigError, match=r"Level 95 .*between 0 and 1"):
            corrected_distance(x, y, level=95)
        with pytest.raises(DataError, match="2 ids for 60 samples"):
            corrected_distance(x, y, fake_ids=["a", "b"])


class TestPairedDifference:
    def test_a_model_against_itself_differs_by_nothing(self) -> None:
        x, y = pair(60, 60)
        found = corrected_difference(x, x, y)
        assert found.value == 0
        assert found.standard_error == pytest.approx(0, abs=1e-12)
        assert found.p_value == 1

    def test_a_worse_model_is_found_and_signs_are_right(self) -> None:
        x, y = pair(200, 200)
        found = corrected_difference(x, x + 1.0, y)
        assert found.value < 0
        assert found.high < 0
        assert found.p_value < 1e-6
        assert corrected_difference(x + 1.0, x, y).value == pytest.approx(-found.value)

    def test_shared_captions_help(self) -> None:
        rng = np.random.default_rng(2)
        shared = rng.normal(size=(200, DIM))
        x = shared + 0.2 * rng.normal(size=shared.shape) + 0.5
        z = shared + 0.2 * rng.normal(size=shared.shape) + 0.5
        y = rng.normal(size=(200, DIM))
        together = corrected_difference(x, z, y).standard_error
        names = ([f"a{i}" for i in range(200)], [f"b{i}" for i in range(200)])
        apart = corrected_difference(
            x, z, y, first_ids=names[0], second_ids=names[1]
        ).standard_error
        assert together < 0.6 * apart

    def test_too_few_images(self) -> None:
        x, y = pair(5, 100)
        with pytest.raises(NotEnoughImagesError, match="Not estimable from 5 samples"):
            corrected_difference(x, x, y)

    def test_models_may_have_unequal_numbers(self) -> None:
        """One population at 12 and 60 images: the plug-in values differ by their biases alone."""
        rng = np.random.default_rng(0)
        plug_in, rejected = [], 0
        for _ in range(40):
            x, z, y = (rng.normal(size=(n, DIM)) for n in (12, 60, 200))
            found = corrected_difference(x, z, y)
            plug_in.append(found.plug_in)
            rejected += found.p_value < 0.05
        assert np.mean(plug_in) > 1
        assert rejected <= 6  # of 40 at 5 %, 7 or more come in 0.2 % of tries

    def test_it_says_how_many_captions_are_shared(self) -> None:
        x, y = pair(60, 90)
        names = [str(i) for i in range(60)]
        found = corrected_difference(x, x[:40], y, first_ids=names, second_ids=names[20:])
        assert found.num_shared == 40


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
            found = corrected_distance(here.fake(n, rng), here.real(m, rng), seed=number)
            assert found.low is not None
            assert found.high is not None
            covered += found.low <= here.truth <= found.high
            above += found.value > found.high
        assert covered >= 106
        if n == 24:
            assert above > 60, "the plug-in value is out of it"
