"""Planning how many images detect a difference."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.core.errors import ConfigError, NotEnoughImagesError
from evalkit.metrics import plan_fid
from evalkit.metrics.planning import power_at

DIM = 6


def pair(n: int, m: int, d: int = DIM, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    linear = rng.normal(size=(d, d)) / np.sqrt(d) + np.eye(d)
    return rng.normal(size=(n, d)) @ linear + 0.3, rng.normal(size=(m, d))


class TestPlan:
    def test_four_times_the_images_halve_what_is_found(self) -> None:
        x, y = pair(200, 200)
        coarse, fine = (plan_fid(x, y, difference=d) for d in (0.04, 0.02))
        assert coarse.n > coarse.minimum_n
        assert fine.n == pytest.approx(4 * coarse.n, rel=0.01)
        assert power_at(coarse, coarse.n) == pytest.approx(0.8, abs=0.01)

    def test_at_least_what_the_intervals_need(self) -> None:
        x, y = pair(200, 200)
        assert plan_fid(x, y, difference=100.0).n == 1.5 * DIM

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
        with pytest.raises(NotEnoughImagesError, match="No plan: not estimable at n = 6 "):
            plan_fid(*pair(6, 60), difference=1.0)
