"""CLIP score in its three definitions, R-precision, Inception Score, intervals of means."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError
from evalkit.metrics.clip_score import clip_cosines, clip_score, default_prefix
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.means import mean_interval
from evalkit.metrics.r_precision import caption_key, r_precision

ANGLES = np.deg2rad([0.0, 60.0, 120.0])


def pairs() -> tuple[np.ndarray, np.ndarray]:
    """Three pairs with cosines 1, 0.5 and -0.5, of different lengths."""
    captions = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1) * [[1.0], [2.0], [3.0]]
    return np.tile([[5.0, 0.0]], (3, 1)), captions


class TestClipScore:
    def test_cosines(self) -> None:
        np.testing.assert_allclose(clip_cosines(*pairs()), [1.0, 0.5, -0.5], atol=1e-15)

    @pytest.mark.parametrize(
        ("variant", "expected"),
        [("raw", 1 / 3), ("torchmetrics", 100 / 3), ("hessel", 2.5 * 1.5 / 3)],
    )
    def test_variants_by_hand(self, variant: str, expected: float) -> None:
        assert clip_score(*pairs(), variant=variant).value == pytest.approx(expected)

    def test_a_negative_mean_is_reported_as_it_is(self) -> None:
        images, captions = pairs()
        found = clip_score(-images, captions)
        assert found.value == pytest.approx(-100 / 3)
        assert found.interval.low < -100 / 3 < found.interval.high
        np.testing.assert_allclose(found.pairs, [-100, -50, 50], atol=1e-12)

    def test_prefix(self) -> None:
        assert default_prefix("hessel") == "A photo depicts "
        assert default_prefix("torchmetrics") == default_prefix("raw") == ""

    def test_samples_of_one_caption_are_one_draw(self) -> None:
        rng = np.random.default_rng(0)
        images = np.repeat(rng.normal(size=(20, 3)), 5, axis=0)
        captions = np.repeat(rng.normal(size=(20, 3)), 5, axis=0)
        ids = [str(i // 5) for i in range(100)]
        clustered = clip_score(images, captions, ids=ids).interval
        naive = clip_score(images, captions).interval
        assert clustered.num_draws == 20
        assert clustered.standard_error is not None
        assert naive.standard_error is not None
        assert clustered.standard_error > 2 * naive.standard_error

    def test_bad_input(self) -> None:
        images, captions = pairs()
        with pytest.raises(ConfigError, match="Unknown CLIP score 'clip'"):
            clip_score(images, captions, variant="clip")
        with pytest.raises(DataError, match="2 images and 3 captions"):
            clip_score(images[:2], captions)
        with pytest.raises(DataError, match="length 0"):
            clip_score(np.zeros((3, 2)), captions)


class TestMeanInterval:
    def test_covers_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(7)
        hits = 0
        for _ in range(400):
            found = mean_interval(rng.normal(2, 1, size=12), level=0.9)
            assert found.low is not None
            assert found.high is not None
            hits += found.low <= 2 <= found.high
        assert 0.85 <= hits / 400 <= 0.95

    def test_a_single_draw_has_no_interval(self) -> None:
        found = mean_interval(np.array([1.0, 2.0]), ids=["a", "a"])
        assert found.value == 1.5
        assert found.standard_error is found.low is None


class TestRPrecision:
    def test_by_hand(self) -> None:
        # Image 2 is nearer to caption 0 than to its own.
        captions = np.eye(4)
        images = np.eye(4)
        images[2] = [1.0, 0.0, 0.5, 0.0]
        found = r_precision(images, captions, [1, 2, 3, 4], distractors=3)
        assert found.hits.tolist() == [True, True, False, True]
        assert found.value == 0.75
        assert 0 < found.low < 0.75 < found.high < 1

    def test_chance_is_one_in_the_captions_ranked(self) -> None:
        rng = np.random.default_rng(0)
        images, captions = rng.normal(size=(2, 600, 16))
        found = r_precision(images, captions, range(600), distractors=9)
        assert found.low < 0.1 < found.high

    def test_a_tie_is_no_hit(self) -> None:
        assert r_precision(np.ones((2, 2)), np.ones((2, 2)), [1, 2], distractors=1).value == 0

    def test_equal_captions_and_captions_of_one_picture_are_not_wrong_answers(self) -> None:
        images = captions = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        assert r_precision(images, captions, [1, 1, 2], distractors=1).value == 1
        found = r_precision(images, captions, [1, 3, 2], distractors=1, groups=["p", "p", "q"])
        assert found.value == 1

    def test_order_does_not_change_the_draw(self) -> None:
        rng = np.random.default_rng(0)
        images, captions = rng.normal(size=(2, 50, 4))
        keys = [caption_key(f"caption {i}") for i in range(50)]
        order = rng.permutation(50)
        found = r_precision(images, captions, keys, distractors=5)
        shuffled = r_precision(
            images[order], captions[order], [keys[i] for i in order], distractors=5
        )
        np.testing.assert_array_equal(shuffled.hits, found.hits[order])

    def test_all_right_still_has_a_wilson_interval(self) -> None:
        found = r_precision(np.eye(20), np.eye(20), range(20), distractors=5)
        assert found.value == found.high == 1
        assert 0.8 < found.low < 0.9

    def test_too_few_captions(self) -> None:
        with pytest.raises(NotEnoughImagesError, match="ranks 100 captions, but only 3 different"):
            r_precision(np.eye(3), np.eye(3), [1, 2, 3])


class TestInceptionScore:
    def test_two_draws_have_no_finite_interval_at_a_high_level(self) -> None:
        """Divergences of 0.29 and 0.14 leave an error of 0.07, and t reaches 63,662 errors."""
        logits = [[80.0, 0.0], [0.0, 0.0]]
        usual, high = (inception_score(logits, splits=1, level=x) for x in (0.95, 0.99999))
        assert usual.low is not None
        assert usual.high is not None
        assert high.low is high.high is None
        assert high.standard_error == usual.standard_error

    def test_by_hand(self) -> None:
        # Two images, each sure of its own class: p(class) is even, the divergence log 2 each.
        found = inception_score([[80.0, 0.0], [0.0, 80.0]], splits=1)
        assert found.value == pytest.approx(2)
        # One class throughout: no divergence.
        assert inception_score([[80.0, 0.0]] * 4, splits=2).value == pytest.approx(1)

    def test_interval_is_that_of_repeated_draws(self) -> None:
        rng = np.random.default_rng(0)
        found = [inception_score(3 * rng.normal(size=(100, 5)), splits=1) for _ in range(100)]
        deviation = np.std([f.value for f in found])
        errors = np.mean([f.standard_error for f in found])  # type: ignore[misc]
        assert 0.8 * deviation < errors < 1.3 * deviation

    def test_splits_and_seed_matter(self) -> None:
        logits = 3 * np.random.default_rng(1).normal(size=(40, 6))
        base = inception_score(logits, splits=4)
        assert inception_score(logits, splits=2).value != base.value
        assert inception_score(logits, splits=4, seed=1).value != base.value
        assert inception_score(logits, splits=4).value == base.value

    def test_bad_input(self) -> None:
        with pytest.raises(NotEnoughImagesError, match="at least 10 images, got 4"):
            inception_score(np.zeros((4, 3)))
        with pytest.raises(ConfigError, match="at least 1 split, got 0"):
            inception_score(np.zeros((4, 3)), splits=0)
