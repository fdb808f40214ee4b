"""Intervals of shares: at their edges, by clusters, continuous, and as often right as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from evalkit.core.errors import ConfigError
from evalkit.metrics.prdc import prdc
from evalkit.metrics.r_precision import r_precision
from evalkit.metrics.shares import Sampled, density_interval, share_interval, share_of

COVERAGE_AT_LEAST = 0.93
NUM_DRAWS = 1500
"""Draws of a simulated coverage, whose error is then 0.7 %."""


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 300), st.data())
def test_independent_images_have_the_interval_of_wilson(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    expected = binomtest(hits, n).proportion_ci(0.9, method="wilson")
    found = share_of(np.arange(n) < hits, level=0.9)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_a_share_of_objects_agrees_with_a_bootstrap_over_images() -> None:
    """Half way between 0 and 1 the two differ by less than a tenth of the width."""
    random = np.random.RandomState(0)
    asked = random.randint(1, 5, 400)
    found = random.binomial(asked, 0.7)
    ours = share_of(found, asked)
    theirs = bootstrap(
        (found, asked),
        lambda f, a, axis: f.sum(axis=axis) / a.sum(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=1,
        vectorized=True,
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


def test_all_or_nothing_still_has_an_interval() -> None:
    """Three images ask for something: 3 of 3 has the Wilson end 1 / (1 + 1.96^2 / 3) = 0.439."""
    asked = np.array([2.0, 1.0, 0.0, 3.0])
    for found, ends in ((asked, (0.439, 1.0)), (0 * asked, (0.0, 0.561))):
        share = share_of(found, asked)
        assert (round(share.low, 3), round(share.high, 3)) == ends
        assert share.num_draws == 3
        assert "Wilson" in share.method


def test_a_unanimous_share_has_the_number_of_draws_and_not_of_images() -> None:
    ids = [str(i // 5) for i in range(60)]
    found = share_of(np.zeros(60), ids=ids)
    expected = binomtest(0, 12).proportion_ci(method="wilson")
    assert (found.low, found.high) == (0, pytest.approx(expected.high))


@pytest.mark.parametrize("per_caption", [1, 4, 10])
def test_turning_one_image_moves_no_end_far(per_caption: int) -> None:
    """From 0 of 200 images to 200 of 200, one at a time: each end moves by at most 2.5 %."""
    hits, ids = np.zeros(200), [str(i // per_caption) for i in range(200)]
    ends = []
    for turned in [None, *np.random.default_rng(0).permutation(200)]:
        if turned is not None:
            hits[turned] = 1
        share = share_of(hits, ids=ids)
        assert share.low < share.high
        assert share.low <= share.value <= share.high
        ends.append((share.low, share.high))
    assert np.abs(np.diff(ends, axis=0)).max() < 0.025


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.98])
@pytest.mark.parametrize(("num_captions", "likeness"), [(40, 0.2), (40, 0.8), (150, 0.5)])
def test_clustered_shares_cover(share: float, num_captions: int, likeness: float) -> None:
    """Four samples a caption, their hits correlated by `likeness` (beta-binomial)."""
    rng = np.random.default_rng([num_captions, int(100 * share), int(10 * likeness)])
    spread = (1 - likeness) / likeness
    ids = [str(i // 4) for i in range(4 * num_captions)]
    covered = 0
    for _ in range(NUM_DRAWS):
        rates = rng.beta(share * spread, (1 - share) * spread, num_captions)
        found = share_of((rng.random((num_captions, 4)) < rates[:, None]).ravel(), ids=ids)
        covered += found.low <= share <= found.high
    assert covered / NUM_DRAWS >= COVERAGE_AT_LEAST


class TestManifoldScores:
    def test_sets_far_apart_and_alike(self) -> None:
        rng = np.random.default_rng(3)
        far = prdc(rng.normal(size=(80, 5)) + 40, rng.normal(size=(100, 5)), k=3)
        of = {"precision": 80, "recall": 100, "coverage": 100}
        for name, n in of.items():
            expected = binomtest(0, n).proportion_ci(method="wilson")
            assert far[name].low == 0
            assert far[name].high == pytest.approx(expected.high)
        assert far["density"].low == 0
        assert 0 < far["density"].high < 0.1  # type: ignore[operator]
        x = rng.normal(size=(50, 1))
        alike = prdc(x, x, k=5)
        for name in ("precision", "recall", "coverage"):
            low = alike[name].low
            assert low is not None
            assert 0.9 < low < alike[name].high == 1

    def test_samples_of_one_caption_widen_the_unanimous_interval(self) -> None:
        rng = np.random.default_rng(3)
        fake, real = rng.normal(size=(80, 5)) + 40, rng.normal(size=(100, 5))
        captions = [str(i // 4) for i in range(80)]
        alone, clustered = prdc(fake, real), prdc(fake, real, fake_ids=captions)
        expected = binomtest(0, 20).proportion_ci(method="wilson")
        assert clustered["precision"].high == pytest.approx(expected.high)
        assert clustered["recall"].high == alone["recall"].high

    def test_an_interval_of_density_reaches_past_1(self) -> None:
        rng = np.random.default_rng(0)
        found = prdc(0.3 * rng.normal(size=(60, 2)), rng.normal(size=(60, 2)))["density"]
        assert found.high is not None
        assert found.low is not None
        assert found.low < found.value < 1 < found.high


def test_density_covers() -> None:
    """A mean of over-dispersed counts over k = 5, with the standard error of independent draws."""
    rng = np.random.default_rng(0)
    for mean in (0.05, 0.3, 1.0, 2.0):
        covered = 0
        for _ in range(NUM_DRAWS):
            counts = rng.negative_binomial(2, 2 / (2 + 5 * mean), 200) / 5
            error = counts.std(ddof=1) / np.sqrt(200)
            sampled = Sampled(units=200, draws=200, degrees=199)
            low, high = density_interval(counts.mean(), error, sampled)
            covered += low <= mean <= high
        assert covered / NUM_DRAWS >= COVERAGE_AT_LEAST, mean


def test_r_precision_of_several_samples_a_caption_is_wider() -> None:
    rng = np.random.default_rng(0)
    captions = rng.normal(size=(30, 6))
    images = np.repeat(captions + rng.normal(size=(30, 6)), 4, axis=0)
    keys, groups = [i // 4 for i in range(120)], [str(i // 4) for i in range(120)]
    texts = np.repeat(captions, 4, axis=0)
    clustered = r_precision(images, texts, keys, groups=groups, distractors=5)
    alone = [str(i) for i in range(120)]
    naive = r_precision(images, texts, keys, groups=groups, ids=alone, distractors=5)
    assert naive.value == clustered.value
    assert clustered.high - clustered.low > 1.5 * (naive.high - naive.low)


def test_the_level_is_checked_and_matters() -> None:
    sampled = Sampled(units=60, draws=20, degrees=19)
    for interval in (share_interval, density_interval):
        narrow, wide = (interval(0.3, 0.1, sampled, level=level) for level in (0.8, 0.99))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]
        with pytest.raises(ConfigError, match="0\\.95"):
            interval(0.3, 0.1, sampled, level=95)
