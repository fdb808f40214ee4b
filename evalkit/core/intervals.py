"""The arithmetic of confidence intervals, shared by all packages.

All intervals are two-sided: a level of 0.95 leaves 0.025 on either side. The caller computes the
estimate and its standard error (influence functions, clusters, jackknife); this module computes the
ends of the interval. Each function checks its level.

numpy and scipy are imported on use, so that reading records stays light.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from evalkit.core.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Ends = tuple[float, float]
"""Lower and upper end, in the unit of the value."""

NO_FINITE_END = "no interval: at this level so few draws give it no finite upper end"


def check_level(level: float) -> None:
    """Check that a level is a coverage probability.

    Args:
        level: Nominal coverage, in (0, 1), both excluded.

    Raises:
        ConfigError: Anything else; NaN, a percentage, or a level that rounds to 1.

    >>> check_level(95)
    Traceback (most recent call last):
    evalkit.core.errors.ConfigError: Level 95 is not between 0 and 1; write 95 % as 0.95.
    """
    if 0 < level < 1 and _upper(level) < 1:
        return
    percentage = 1 < level < 100
    advice = f"write {level:g} % as {level / 100:g}" if percentage else "0.95 is usual"
    raise ConfigError(f"Level {level} is not between 0 and 1; {advice}.")


def normal_quantile(level: float) -> float:
    """Return the half width of a normal interval, in standard errors.

    Args:
        level: Nominal coverage, in (0, 1).

    Raises:
        ConfigError: A level outside (0, 1).

    >>> round(normal_quantile(0.95), 4)
    1.96
    """
    from scipy.special import ndtri

    check_level(level)
    return float(ndtri(_upper(level)))


def t_quantile(level: float, degrees: float) -> float:
    """Return the half width of a t interval, in standard errors.

    Args:
        level: Nominal coverage, in (0, 1).
        degrees: Degrees of freedom, above 0.

    Raises:
        ConfigError: A level outside (0, 1).

    >>> round(t_quantile(0.95, 2), 4)
    4.3027
    """
    from scipy.special import stdtrit

    check_level(level)
    return float(stdtrit(degrees, _upper(level)))


def normal_interval(value: float, error: float, *, level: float) -> Ends:
    """Return value +- z standard errors.

    Args:
        value: The estimate.
        error: Its standard error, at least 0 and in the same unit.
        level: Nominal coverage, in (0, 1).

    Raises:
        ConfigError: A level outside (0, 1).

    >>> [round(end, 2) for end in normal_interval(10.0, 1.0, level=0.95)]
    [8.04, 11.96]
    """
    half_width = normal_quantile(level) * error
    return value - half_width, value + half_width


def t_interval(value: float, error: float, degrees: float, *, level: float) -> Ends:
    """Return value +- t standard errors, for a standard error that is itself estimated.

    Args:
        value: The estimate.
        error: Its standard error, at least 0 and in the same unit.
        degrees: Degrees of freedom of the standard error, above 0.
        level: Nominal coverage, in (0, 1).

    Raises:
        ConfigError: A level outside (0, 1).

    >>> [round(end, 2) for end in t_interval(10.0, 1.0, 2, level=0.95)]
    [5.7, 14.3]
    """
    half_width = t_quantile(level, degrees) * error
    return value - half_width, value + half_width


def log_scale_interval(value: float, log_low: float, log_high: float) -> Ends | None:
    """Return the ends of an interval that was made on the log scale, around a positive value.

    Args:
        value: The estimate, above 0.
        log_low: Lower end less the estimate, both as logarithms.
        log_high: Upper end less the estimate, both as logarithms.

    Returns:
        value * exp(log_low) and value * exp(log_high); None where the upper end overflows, for
        which `NO_FINITE_END` is the reason.

    >>> log_scale_interval(3.0, 0.0, 0.0)
    (3.0, 3.0)
    >>> log_scale_interval(3.0, -1000.0, 1000.0)
    """
    import numpy as np

    with np.errstate(over="ignore"):
        low, high = value * float(np.exp(log_low)), value * float(np.exp(log_high))
    return (low, high) if math.isfinite(high) else None


def wilson_interval(share: float, n: float, *, level: float, quantile: float | None = None) -> Ends:
    """Return Wilson's score interval of a share (Wilson 1927).

    Args:
        share: The observed share, in [0, 1].
        n: Independent draws behind it; a real number where a design effect makes it one.
        level: Nominal coverage, in (0, 1).
        quantile: Half width of an interval in standard errors, where the design effect is
            estimated; by default the normal one.

    Returns:
        Both ends, in [0, 1].

    Raises:
        ConfigError: A level outside (0, 1).

    >>> [round(end, 4) for end in wilson_interval(0.5, 100, level=0.95)]
    [0.4038, 0.5962]
    """
    return _wilson(share, n, normal_quantile(level) if quantile is None else quantile)


def wilson_t_interval(share: float, n: float, degrees: float, *, level: float) -> Ends:
    """Return Wilson's interval at an effective number of draws that is itself estimated.

    It inverts the test of a share s by (share - s) / sqrt(s (1 - s) / n) against Student's t, so
    it excludes exactly the shares that this test rejects (Dean and Pagano 2015 compare such
    intervals for clustered surveys).

    Args:
        share: The observed share, in [0, 1].
        n: Effective number of draws, above 0: draws divided by the design effect.
        degrees: Degrees of freedom of the design effect, above 0.
        level: Nominal coverage, in (0, 1).

    Returns:
        Both ends, in [0, 1], with the share between them; 0 and 1 are ends of their own intervals.

    Raises:
        ConfigError: A level outside (0, 1).

    >>> [round(end, 4) for end in wilson_t_interval(1.0, 10, 6, level=0.95)]
    [0.6255, 1.0]
    """
    low, high = _wilson(share, n, t_quantile(level, degrees))
    return (0.0 if share == 0 else min(low, share)), (1.0 if share == 1 else max(high, share))


def wilson_interval_of_hits(hits: int, n: int, *, level: float) -> Ends:
    """Return Wilson's interval of `hits` in `n` draws.

    With no hit the lower end is 0 itself, and with nothing but hits the upper end is 1 itself,
    where the formula leaves a rounding error.

    Args:
        hits: From 0 to n.
        n: Independent draws, at least 1.
        level: Nominal coverage, in (0, 1).

    Raises:
        ConfigError: A level outside (0, 1).

    >>> [round(end, 3) for end in wilson_interval_of_hits(8, 10, level=0.95)]
    [0.49, 0.943]
    """
    low, high = wilson_interval(hits / n, n, level=level)
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def paired_rates_interval(only_first: int, only_second: int, n: int, *, level: float) -> Ends:
    """Return the interval of a difference of two rates over the same pairs.

    It is Bonett & Price's (2012): Wald's with one pair added to each kind that disagrees, so that
    it keeps a width where the two never disagree. Its middle is therefore not the observed
    difference.

    Args:
        only_first: Pairs in which only the first was right.
        only_second: Pairs in which only the second was right.
        n: All pairs, at least 1.
        level: Nominal coverage, in (0, 1).

    Returns:
        Both ends of the first rate less the second, in [-1, 1].

    Raises:
        ConfigError: A level outside (0, 1).

    >>> [round(end, 3) for end in paired_rates_interval(1, 7, 21, level=0.95)]
    [-0.508, -0.013]
    """
    more, less = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    middle = more - less
    half_width = normal_quantile(level) * ((more + less - middle**2) / (n + 2)) ** 0.5
    return max(middle - half_width, -1.0), min(middle + half_width, 1.0)


def percentile_interval(resampled: ArrayLike, *, level: float) -> Ends:
    """Return the middle `level` of resampled values: the percentile bootstrap (Efron 1979).

    Args:
        resampled: One finite value for each resample, at least one.
        level: Nominal coverage, in (0, 1).

    Raises:
        ConfigError: A level outside (0, 1).

    >>> percentile_interval([4.0, 0.0, 2.0, 1.0, 3.0], level=0.5)
    (1.0, 3.0)
    """
    import numpy as np

    check_level(level)
    low, high = np.quantile(np.asarray(resampled, np.float64), [0.5 - level / 2, _upper(level)])
    return float(low), float(high)


def _wilson(share: float, n: float, quantile: float) -> Ends:
    squared = quantile**2
    centre = (share + squared / (2 * n)) / (1 + squared / n)
    spread = math.sqrt(share * (1 - share) / n + squared / (4 * n * n))
    half_width = quantile / (1 + squared / n) * spread
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def _upper(level: float) -> float:
    """Return the probability below the upper end."""
    return 0.5 + level / 2
