"""Interval arithmetic: by hand, against public libraries, and what always holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from evalkit.core.errors import ConfigError
from evalkit.core.intervals import (
    check_level,
    log_scale_interval,
    normal_interval,
    normal_quantile,
    paired_rates_interval,
    percentile_interval,
    t_interval,
    t_quantile,
    wilson_interval,
    wilson_interval_of_hits,
    wilson_t_interval,
)

EXACT = 1e-12  # both sides are a dozen float64 operations on numbers near 1
LEVELS = st.floats(0.01, 0.999)
VALUES = st.floats(-1e6, 1e6)
ERRORS = st.floats(0, 1e6)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    """Hits, and draws."""
    n = draw(st.integers(1, 5000))
    return draw(st.integers(0, n)), n


class TestLevel:
    @pytest.mark.parametrize("level", [95, 95.0, 99.5])
    def test_a_percentage_is_answered_with_the_share(self, level: float) -> None:
        message = rf"^Level {level} is not between 0 and 1; write {level:g} % as {level / 100:g}\.$"
        with pytest.raises(ConfigError, match=message):
            check_level(level)

    @pytest.mark.parametrize("level", [0, 0.0, 1, 1.0, -1, 100, -0.05, math.inf, math.nan])
    def test_anything_else_is_answered_with_an_example(self, level: float) -> None:
        message = rf"^Level {level} is not between 0 and 1; 0\.95 is usual\.$"
        with pytest.raises(ConfigError, match=message):
            check_level(level)

    def test_a_level_that_rounds_to_1_has_no_finite_quantile(self) -> None:
        largest = math.nextafter(1, 0)
        with pytest.raises(ConfigError, match="not between 0 and 1"):
            check_level(largest)
        assert math.isfinite(normal_quantile(math.nextafter(largest, 0)))
        assert math.isfinite(t_quantile(math.nextafter(largest, 0), 1))

    @given(LEVELS)
    def test_every_share_passes(self, level: float) -> None:
        check_level(level)


class TestQuantiles:
    @given(LEVELS)
    def test_normal_equals_scipy(self, level: float) -> None:
        assert normal_quantile(level) == pytest.approx(stats.norm.interval(level)[1], rel=EXACT)

    @given(LEVELS, st.integers(1, 500))
    def test_t_equals_scipy(self, level: float, degrees: int) -> None:
        expected = stats.t.interval(level, degrees)[1]
        assert t_quantile(level, degrees) == pytest.approx(expected, rel=1e-9)

    def test_t_of_one_degree_by_hand(self) -> None:
        """With one degree t is Cauchy's: half lies within tan(pi / 4) = 1."""
        assert t_quantile(0.5, 1) == pytest.approx(1.0, abs=EXACT)

    def test_t_of_two_degrees_by_hand(self) -> None:
        """P(|t| < x) = x / sqrt(2 + x^2), which is 0.6 at x^2 = 2 * 0.36 / 0.64."""
        assert t_quantile(0.6, 2) == pytest.approx(math.sqrt(1.125), abs=EXACT)

    @given(LEVELS, st.integers(1, 500))
    def test_t_reaches_further_than_normal(self, level: float, degrees: int) -> None:
        assert t_quantile(level, degrees) > normal_quantile(level)


class TestValueAndError:
    def test_by_hand(self) -> None:
        """Half of t with one degree, and erf(1 / sqrt 2) of a normal, lie within one error."""
        assert t_interval(10.0, 2.0, 1, level=0.5) == pytest.approx((8, 12))
        level = math.erf(1 / math.sqrt(2))
        assert normal_interval(10.0, 2.0, level=level) == pytest.approx((8, 12))

    @given(VALUES, ERRORS, LEVELS, LEVELS)
    def test_levels_nest_around_the_value(
        self, value: float, error: float, first: float, second: float
    ) -> None:
        narrow, wide = sorted((first, second))
        for interval in (normal_interval, lambda v, e, level: t_interval(v, e, 3, level=level)):
            inner, outer = (interval(value, error, level=level) for level in (narrow, wide))
            assert outer[0] <= inner[0] <= value <= inner[1] <= outer[1]

    def test_on_the_log_scale_by_hand(self) -> None:
        """3 times and a third of 6."""
        found = log_scale_interval(6.0, -math.log(3), math.log(3))
        assert found == pytest.approx((2.0, 18.0), rel=EXACT)

    @pytest.mark.parametrize(("value", "reach"), [(1.0, 710.0), (1e10, 700.0)])
    def test_an_end_that_overflows_is_none_at_all(self, value: float, reach: float) -> None:
        assert log_scale_interval(value, -reach, reach) is None
        assert log_scale_interval(value, -reach, reach / 2) is not None


class TestWilson:
    def test_by_hand(self) -> None:
        """At level erf(1 / sqrt 2) z is 1. Half of 4: (1/2 + 1/8) / (5/4) = 1/2 in the middle, and
        4/5 sqrt(1/16 + 1/64) = 4/5 sqrt(5) / 8 = sqrt(5) / 10 to either side."""
        level = math.erf(1 / math.sqrt(2))
        ends = (0.5 - math.sqrt(5) / 10, 0.5 + math.sqrt(5) / 10)
        assert wilson_interval(0.5, 4, level=level) == pytest.approx(ends, abs=EXACT)

    def test_nothing_but_hits_by_hand(self) -> None:
        """With z = 1 the lower end of n of n is 1 / (1 + 1 / n)."""
        level = math.erf(1 / math.sqrt(2))
        assert wilson_interval_of_hits(3, 3, level=level) == pytest.approx((0.75, 1), abs=EXACT)
        assert wilson_interval_of_hits(0, 3, level=level) == pytest.approx((0, 0.25), abs=EXACT)

    @given(counts(), LEVELS)
    def test_equals_statsmodels(self, found: tuple[int, int], level: float) -> None:
        proportion = pytest.importorskip("statsmodels.stats.proportion")
        hits, n = found
        expected = proportion.proportion_confint(hits, n, alpha=1 - level, method="wilson")
        assert wilson_interval(hits / n, n, level=level) == pytest.approx(expected, abs=EXACT)
        assert wilson_interval_of_hits(hits, n, level=level) == pytest.approx(expected, abs=EXACT)

    @given(counts(), LEVELS)
    def test_a_real_n_of_whole_value_is_that_number(
        self, found: tuple[int, int], level: float
    ) -> None:
        hits, n = found
        whole, real = (wilson_interval(hits / n, size, level=level) for size in (n, float(n)))
        assert whole == real

    @given(st.floats(0, 1), st.floats(1, 5000), LEVELS)
    def test_misses_mirror_hits(self, share: float, n: float, level: float) -> None:
        low, high = wilson_interval(share, n, level=level)
        mirrored = wilson_interval(1 - share, n, level=level)
        assert mirrored == pytest.approx((1 - high, 1 - low), abs=EXACT)

    @given(counts(), LEVELS, LEVELS)
    def test_levels_nest_around_the_share_inside_0_and_1(
        self, found: tuple[int, int], first: float, second: float
    ) -> None:
        hits, n = found
        narrow, wide = sorted((first, second))
        inner, outer = (wilson_interval_of_hits(hits, n, level=level) for level in (narrow, wide))
        tolerance = EXACT  # of the middle, near an end
        assert 0 <= outer[0] <= inner[0] + tolerance
        assert inner[0] - tolerance <= hits / n <= inner[1] + tolerance
        assert inner[1] - tolerance <= outer[1] <= 1

    @given(counts(), LEVELS)
    def test_ends_of_all_and_nothing_are_exact(self, found: tuple[int, int], level: float) -> None:
        _, n = found
        assert wilson_interval_of_hits(0, n, level=level)[0] == 0.0
        assert wilson_interval_of_hits(n, n, level=level)[1] == 1.0

    def test_fewer_draws_give_a_wider_interval(self) -> None:
        few, many = (wilson_interval(0.3, n, level=0.95) for n in (10.5, 20.5))
        assert few[0] < many[0] < 0.3 < many[1] < few[1]


class TestPairedRates:
    def test_by_hand(self) -> None:
        """1 and 7 of 21 are (2 - 8) / 23 = -6/23 with variance (10/23 - 36/529) / 23 = 194/12167,
        so at z = 1 the reach is sqrt(194 / 12167)."""
        level = math.erf(1 / math.sqrt(2))
        reach = math.sqrt(194 / 12167)
        expected = (-6 / 23 - reach, -6 / 23 + reach)
        assert paired_rates_interval(1, 7, 21, level=level) == pytest.approx(expected, abs=EXACT)

    @given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), LEVELS, LEVELS)
    def test_swapping_mirrors_and_levels_nest(
        self, more: int, less: int, alike: int, first: float, second: float
    ) -> None:
        n = more + less + alike
        assume(n > 0)
        narrow, wide = sorted((first, second))
        inner, outer = (paired_rates_interval(more, less, n, level=x) for x in (narrow, wide))
        middle = (more - less) / (n + 2)
        assert -1 <= outer[0] <= inner[0] <= middle <= inner[1] <= outer[1] <= 1
        swapped = paired_rates_interval(less, more, n, level=narrow)
        assert swapped == pytest.approx((-inner[1], -inner[0]), abs=EXACT)

    def test_two_that_never_disagree_have_a_width(self) -> None:
        low, high = paired_rates_interval(0, 0, 10, level=0.95)
        assert low == -high < 0


class TestPercentiles:
    def test_by_hand(self) -> None:
        """The middle half of 0, 1, ..., 8 is 2 to 6, in whatever order they come."""
        assert percentile_interval([8, 0, 4, 2, 6, 1, 7, 3, 5], level=0.5) == (2, 6)

    def test_equals_the_quantiles_of_scipy(self) -> None:
        values = np.random.default_rng(0).normal(size=2000)
        expected = stats.mstats.mquantiles(values, [0.05, 0.95], alphap=1, betap=1)
        assert percentile_interval(values, level=0.9) == pytest.approx(tuple(expected), abs=EXACT)

    @given(st.lists(VALUES, min_size=1, max_size=50), LEVELS, LEVELS)
    def test_levels_nest(self, values: list[float], first: float, second: float) -> None:
        narrow, wide = sorted((first, second))
        inner, outer = (percentile_interval(values, level=level) for level in (narrow, wide))
        assert min(values) <= outer[0] <= inner[0] <= inner[1] <= outer[1] <= max(values)


class TestWilsonT:
    def test_worked_example(self) -> None:
        """10 draws, all hits, t of 6 degrees of freedom 2.4469: 1 / (1 + 2.4469^2 / 10)."""
        low, high = wilson_t_interval(1.0, 10, 6, level=0.95)
        assert (low, high) == (pytest.approx(1 / (1 + 2.4469119**2 / 10), abs=1e-7), 1.0)

    def test_its_ends_are_the_shares_that_the_test_just_rejects(self) -> None:
        for share, n, degrees in ((0.0, 3.5, 2.0), (0.3, 12.5, 7.5), (0.99, 400.0, 24.0)):
            for end in wilson_t_interval(share, n, degrees, level=0.9):
                if end != share:
                    t = abs(share - end) / (end * (1 - end) / n) ** 0.5
                    assert t == pytest.approx(t_quantile(0.9, degrees))

    def test_many_degrees_of_freedom_are_wilsons_interval(self) -> None:
        expected = wilson_interval(0.2, 40, level=0.95)
        assert wilson_t_interval(0.2, 40, 1e9, level=0.95) == pytest.approx(expected, abs=1e-8)
