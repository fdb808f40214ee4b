"""Plan how many images detect a difference of Fréchet distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtr, ndtri

from evalkit.core.errors import ConfigError, NotEnoughImagesError
from evalkit.core.intervals import check_level, normal_quantile
from evalkit.metrics.frechet.difference import paired_frechet_difference
from evalkit.metrics.frechet.interval import frechet_interval

IMAGES_PER_DIMENSION = 1.5
"""The fewest at which the interval of FD∞ was tested; see docs/precision.md."""


@dataclass(frozen=True, kw_only=True)
class PilotIds:
    """Ids of the images of a plan's sets; images with the same id are one draw."""

    first: Sequence[str] | None = None
    """Ids of the pilot's samples."""
    second: Sequence[str] | None = None
    """Ids of a second model's samples."""
    real: Sequence[str] | None = None
    """Ids of the reference images."""


@dataclass(frozen=True, kw_only=True)
class FrechetPlan:
    """What a comparison of two models needs."""

    n: int
    """Images of each model."""
    difference: float
    """The difference of distances that is to be found."""
    power: float
    """Probability of finding it."""
    level: float
    """One less the probability of finding a difference that isn't there."""
    deviation: float
    """Standard deviation that one image a model brings to the difference."""
    minimum_n: int
    """Images below which the intervals themselves are doubtful, by the number of dimensions."""
    detectable_at_pilot: float
    """Difference that the pilot's own n would find with this power."""
    pilot_n: int
    paired: bool
    """Whether the pilot had both models, on the same captions."""


def plan_fid(
    fake: Any,
    real: Any,
    *,
    difference: float,
    second: Any | None = None,
    ids: PilotIds | None = None,
    power: float = 0.8,
    level: float = 0.95,
) -> FrechetPlan:
    """Estimate the images needed to tell two models apart, from a pilot of one or both.

    With one pilot, the second model is taken to vary as much as the first and independently, which
    asks for more images than models that share captions will need. Standard errors shrink with the
    square root of n; the reference is taken to grow along.

    Args:
        fake: Features of the pilot's samples.
        real: Features of the reference, or its `Moments`.
        difference: Difference of distances to find.
        second: Features of a second model's samples on the same captions.
        ids: What belongs together; without them, see `paired_frechet_difference`.
        power: Probability wanted of finding the difference.
        level: One less the share of false alarms.

    Raises:
        ConfigError: A difference that is not positive, or a probability outside (0, 1).
        NotEnoughImagesError: Too few images in the pilot for a corrected distance.
    """
    _check(difference, power, level)
    ids = ids or PilotIds()
    if second is None:
        found = frechet_interval(fake, real, fake_ids=ids.first, real_ids=ids.real)
        if found.standard_error is None:
            raise NotEnoughImagesError(f"No plan: {found.reason}.")
        error = math.sqrt(2) * found.standard_error
        dim = found.dim
    else:
        pair = paired_frechet_difference(
            fake,
            second,
            real,
            first_ids=ids.first,
            second_ids=ids.second,
            real_ids=ids.real,
        )
        error, dim = pair.standard_error, fake.shape[1]
    pilot_n = len(fake)
    deviation = error * math.sqrt(pilot_n)
    reach = _reach(level, power)
    minimum = math.ceil(IMAGES_PER_DIMENSION * dim)
    return FrechetPlan(
        n=max(minimum, math.ceil((reach * deviation / difference) ** 2)),
        difference=difference,
        power=power,
        level=level,
        deviation=deviation,
        minimum_n=minimum,
        detectable_at_pilot=reach * error,
        pilot_n=pilot_n,
        paired=second is not None,
    )


def power_at(plan: FrechetPlan, n: int) -> float:
    """Compute the power to detect the plan's difference with n images of each model."""
    error = plan.deviation / math.sqrt(n)
    return float(ndtr(plan.difference / error - normal_quantile(plan.level)))


def detectable_at(plan: FrechetPlan, n: int) -> float:
    """Compute the difference that n images of each model detect with the plan's power."""
    return _reach(plan.level, plan.power) * plan.deviation / math.sqrt(n)


def _reach(level: float, power: float) -> float:
    """Return the number of standard errors at which a difference is detected with this power."""
    return normal_quantile(level) + float(ndtri(power))


def _check(difference: float, power: float, level: float) -> None:
    if not difference > 0:
        raise ConfigError(
            f"Difference {difference} is not positive; give the smallest one that matters."
        )
    if not 0 < power < 1:
        raise ConfigError(f"Power {power} is not between 0 and 1; 0.8 is usual.")
    check_level(level)
