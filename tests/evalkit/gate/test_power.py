"""The power of a gate: against its simulation, and the number of units that has it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.core.errors import ConfigError
from evalkit.core.intervals import t_quantile
from evalkit.gate.power import RequirementPlan, Spread, check_alpha


@pytest.mark.parametrize("groups", [4, 20])
def test_it_is_the_share_of_simulated_t_limits(groups: int) -> None:
    """The mean of g normal groups, its standard error estimated from them."""
    rng = np.random.default_rng(1)
    values = rng.normal(1.0, 2.0, size=(20_000, groups))
    errors = values.std(axis=1, ddof=1) / np.sqrt(groups)
    passed = values.mean(axis=1) - t_quantile(0.9, groups - 1) * errors > 0
    spread = Spread(standard_error=2 / np.sqrt(groups), n=100, groups=groups)
    assert spread.probability(1.0, 100, alpha=0.05) == pytest.approx(passed.mean(), abs=0.01)


@given(
    distance=st.floats(0.05, 3),
    draws=st.one_of(st.none(), st.integers(2, 500)),
    power=st.floats(0.55, 0.99),
)
def test_the_units_needed_are_the_fewest(distance: float, draws: int | None, power: float) -> None:
    spread = Spread(standard_error=0.5, n=100, draws=draws)
    n = spread.units_needed(distance, power, alpha=0.05)
    assert n is not None
    assert spread.probability(distance, n, alpha=0.05) >= power
    assert n <= 2 or spread.probability(distance, n - 1, alpha=0.05) < power


def test_at_the_bound_the_power_is_alpha_and_no_number_helps() -> None:
    for spread in (Spread(standard_error=1, n=50), Spread(standard_error=1, n=50, groups=20)):
        assert spread.probability(0.0, 10_000, alpha=0.05) == pytest.approx(0.05, abs=1e-9)
        assert spread.units_needed(0.0, 0.8, alpha=0.05) is None


@given(distance=st.floats(-60, 60), draws=st.integers(2, 10**9))
def test_it_is_a_probability_that_grows_with_the_distance(distance: float, draws: int) -> None:
    spread = Spread(standard_error=1, n=draws, draws=draws)
    found, more = (spread.probability(x, draws, alpha=0.05) for x in (distance, distance + 0.5))
    assert 0 <= found <= more + 1e-6 <= 1 + 1e-6


def test_equivalence_needs_more_than_non_inferiority() -> None:
    spread = Spread(standard_error=1, n=50)
    one = RequirementPlan(metric="x", margin=0.5, spread=spread)
    both = RequirementPlan(metric="x", margin=0.5, spread=spread, equivalent=True)
    few, many = one.units_needed(0.8, alpha=0.05), both.units_needed(0.8, alpha=0.05)
    assert few is not None
    assert many is not None
    assert many > few
    assert both.power_at(many, alpha=0.05) >= 0.8
    better = RequirementPlan(metric="x", margin=0.2, spread=spread, advantage=0.7, superior=True)
    assert better.units_needed(0.8, alpha=0.05) == few
    worse = RequirementPlan(metric="x", margin=0.5, spread=spread, advantage=-0.5)
    assert worse.units_needed(0.8, alpha=0.05) is None


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 5, -0.1, float("nan")])
def test_a_level_that_is_none_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"is not between 0 and 0\.5") as refused:
        check_alpha(alpha)
    assert ("write 5 % as 0.05" in str(refused.value)) == (alpha == 5)
