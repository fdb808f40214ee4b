"""The difference of two models by a delete-a-group jackknife, for scores that are no means.

The same groups of draws (captions with their samples and reference images) leave both models and
the reference, so that whatever the models share cancels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtr

from evalkit.core.intervals import check_level, t_interval

NO_SPREAD = "no interval: the difference is the same whichever group of images is left out"


@dataclass(frozen=True, kw_only=True)
class DeletionDifference:
    """The first score minus the second."""

    value: float
    standard_error: float
    low: float | None
    """The interval; None if no deletion changes the difference and nothing bounds it."""
    high: float | None
    p_value: float
    """Two-sided p-value of no difference."""
    num_groups: int

    @classmethod
    def of(
        cls,
        first: Float64[np.ndarray, " deletions"],
        second: Float64[np.ndarray, " deletions"],
        *,
        level: float = 0.95,
        draws: float | None = None,
    ) -> DeletionDifference:
        """Compare two scores of all images and without each group.

        Args:
            first: The first model's score: of all images, then without each group, two or more.
            second: The second model's.
            level: Nominal coverage.
            draws: For a share, the number of draws behind it: as in the interval of paired rates
                (Bonett & Price 2012), one further draw in either's favour keeps a width.

        Raises:
            ConfigError: A level outside (0, 1).

        >>> found = DeletionDifference.of(
        ...     np.array([0.6, 0.5, 0.7]), np.array([0.5, 0.5, 0.5]), draws=98
        ... )
        >>> round(found.value, 3), round(found.standard_error, 3)
        (0.1, 0.101)
        """
        check_level(level)
        differences = first - second
        left, num = differences[1:], len(differences) - 1
        variance = (num - 1) / num * float(np.square(left - left.mean()).sum())
        if draws is not None:
            variance += 2 / (draws + 2) ** 2
        value, error = float(differences[0]), float(np.sqrt(variance))
        if error == 0:
            p_value = 1.0 if value == 0 else 0.0
            return cls(
                value=value, standard_error=0.0, low=None, high=None, p_value=p_value,
                num_groups=num,
            )  # fmt: skip
        low, high = t_interval(value, error, num - 1, level=level)
        return cls(
            value=value,
            standard_error=error,
            low=low,
            high=high,
            p_value=float(2 * stdtr(num - 1, -abs(value) / error)),
            num_groups=num,
        )
