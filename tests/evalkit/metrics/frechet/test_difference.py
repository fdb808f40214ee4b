"""The paired difference of FD∞: signs, shared captions, unequal numbers, the null hypothesis."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.core.errors import NotEnoughImagesError
from evalkit.metrics import paired_frechet_difference

DIM = 6


def pair(n: int, m: int, d: int = DIM, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    return rng.normal(size=(n, d)) @ linear + 0.3, rng.normal(size=(m, d))


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
        with pytest.raises(
            NotEnoughImagesError, match="The first distance is not estimable at n = "
        ):
            paired_frechet_difference(x, x, y)

    def test_models_may_have_unequal_numbers(self) -> None:
        """One population at 12 and 60 images: the plug-in values differ by their biases alone."""
        rng = np.random.default_rng(0)
        plug_in, rejected = [], 0
        for _ in range(40):
            x, z, y = (rng.normal(size=(n, DIM)) for n in (12, 60, 200))
            found = paired_frechet_difference(x, z, y)
            plug_in.append(found.plug_in)
            rejected += found.p_value < 0.05
        assert np.mean(plug_in) > 1
        assert rejected <= 6  # of 40 at 5 %, 7 or more come in 0.2 % of tries

    def test_it_says_how_many_captions_are_shared(self) -> None:
        x, y = pair(60, 90)
        names = [str(i) for i in range(60)]
        found = paired_frechet_difference(x, x[:40], y, first_ids=names, second_ids=names[20:])
        assert found.num_shared == 40
