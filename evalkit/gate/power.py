"""The power of a gate: how probably a requirement passes, and how many images decide it.

A requirement passes if the one-sided limit of an estimate lies beyond a bound. With the estimate's
standard error se, its degrees of freedom, and a true value at a distance from the bound, that
probability is a tail of the noncentral t distribution with noncentrality distance / se.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scipy.special import nctdtr, ndtr

from evalkit.core.errors import ConfigError
from evalkit.core.intervals import normal_quantile, t_quantile
from evalkit.core.results import ResultRecord

_MOST_FACTOR = 2**40
"""Of the images at hand; a plan of more is none."""
_CERTAIN = 35.0
"""Standard errors beyond which the tail of the noncentral t is not computed."""


def check_alpha(alpha: float) -> None:
    """Check the one-sided significance level of a gate.

    Raises:
        ConfigError: It is not between 0 and 0.5.
    """
    if not 0 < alpha < 0.5:
        advice = f"write {alpha:g} % as {alpha / 100:g}" if 0.5 <= alpha < 50 else "0.05 is usual"
        raise ConfigError(f"Alpha {alpha} is not between 0 and 0.5; {advice}.")
    normal_quantile(1 - 2 * alpha)


def check_power(power: float) -> None:
    """Check a probability of passing.

    Raises:
        ConfigError: It is not between 0 and 1.
    """
    if not 0 < power < 1:
        raise ConfigError(f"Power {power} is not between 0 and 1; 0.8 is usual.")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How much an estimate varies, and how that changes with the number of images."""

    standard_error: float
    """Standard error at `n`, in the unit of the metric."""
    n: int
    """Units behind it: captions or images of each run."""
    draws: int | None = None
    """Independent draws at `n`, one more than the degrees of freedom, which grow with n."""
    groups: int | None = None
    """Groups of a jackknife, one more than the degrees of freedom, whatever n. Without draws and
    groups, the interval is normal."""

    @classmethod
    def of(cls, record: ResultRecord) -> Spread | None:
        """Read it from a record with an interval; None without one."""
        if record.interval is None:
            return None
        error = record.standard_error
        if error is None:
            half_width = (record.interval.high - record.interval.low) / 2
            error = half_width / normal_quantile(record.interval.level)
        groups = record.details.get("num_groups")
        draws = None if groups else record.details.get("num_draws")
        return cls(standard_error=error, n=record.n, draws=draws, groups=groups)

    def in_images(self, num_images: int) -> Spread:
        """Return the same with the images of each run as the unit, such as four of each caption."""
        return replace(self, n=num_images)

    @property
    def deviation(self) -> float:
        """Standard deviation that one unit brings: the standard error at n, times root n."""
        return self.standard_error * math.sqrt(self.n)

    def error_at(self, n: float) -> float:
        """Return the standard error with n units; a reference is taken to grow along."""
        return self.deviation / math.sqrt(n)

    def degrees_at(self, n: float) -> float:
        """Return the degrees of freedom with n units; infinity for a normal interval."""
        if self.groups is not None:
            return self.groups - 1
        if self.draws is not None:
            return max(1.0, self.draws * n / self.n - 1)
        return math.inf

    def probability(self, distance: float, n: float, *, alpha: float) -> float:
        """Compute the probability that a one-sided limit with n units lies beyond a bound.

        Args:
            distance: The true value's distance from the bound on its good side; negative beyond it.
            n: Number of units.
            alpha: One-sided significance level.

        >>> spread = Spread(standard_error=1.0, n=100)
        >>> round(spread.probability(2.486, 100, alpha=0.05), 3)
        0.8
        >>> spread.probability(0, 9, alpha=0.05)
        0.05
        """
        error, degrees = self.error_at(n), self.degrees_at(n)
        if error == 0:
            return float(distance > 0)
        shift, level = distance / error, 1 - 2 * alpha
        if abs(shift) > _CERTAIN:
            return float(shift > 0)
        if math.isinf(degrees):
            return round(float(ndtr(shift - normal_quantile(level))), 12)
        quantile = t_quantile(level, degrees)
        found = float(1 - nctdtr(degrees, shift, quantile))
        if not 0 <= found <= 1:  # scipy has no value far out at one degree of freedom
            found = float(ndtr(shift - quantile))
        return round(found, 12)

    def both(self, below: float, above: float, n: float, *, alpha: float) -> float:
        """Compute the probability that both limits lie beyond bounds on either side, at least."""
        single = [self.probability(distance, n, alpha=alpha) for distance in (below, above)]
        return max(0.0, sum(single) - 1)

    def units_needed(
        self, distance: float, power: float, *, alpha: float, above: float | None = None
    ) -> int | None:
        """Find the fewest units with which a limit lies beyond a bound with some probability.

        Args:
            distance: The true value's distance from the bound.
            power: The probability.
            alpha: One-sided significance level.
            above: Distance from a second bound on the other side, for equivalence.

        Returns:
            The number; None if no number is enough, because the value is at the bound or beyond.
        """

        def enough(n: float) -> bool:
            if above is None:
                return self.probability(distance, n, alpha=alpha) >= power
            return self.both(distance, above, n, alpha=alpha) >= power

        if distance <= 0 or (above is not None and above <= 0):
            return None
        low, high = 1, 2
        while not enough(high):
            low, high = high, 2 * high
            if high > _MOST_FACTOR * self.n:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high


@dataclass(frozen=True, kw_only=True)
class RequirementPlan:
    """How many images one requirement needs to pass, if the truth is as assumed."""

    metric: str
    margin: float
    spread: Spread
    advantage: float = 0.0
    """The candidate's true advantage in the metric's own direction; 0: no difference."""
    equivalent: bool = False
    """Whether the margin counts on both sides."""
    superior: bool = False
    """Whether the candidate must be better by the margin, instead of not worse by it."""

    def power_at(self, n: float, *, alpha: float) -> float:
        """Compute the probability that it passes with n units of each run; at least, if both."""
        below, above = self._distances
        if above is None:
            return self.spread.probability(below, n, alpha=alpha)
        return self.spread.both(below, above, n, alpha=alpha)

    def units_needed(self, power: float, *, alpha: float) -> int | None:
        """Return the fewest units that pass with this probability; None if no number does."""
        below, above = self._distances
        return self.spread.units_needed(below, power, alpha=alpha, above=above)

    @property
    def _distances(self) -> tuple[float, float | None]:
        if self.superior:
            return self.advantage - self.margin, None
        above = self.margin - self.advantage if self.equivalent else None
        return self.margin + self.advantage, above
