"""Variance between trainings and between samplings of a recipe, and intervals for both questions.

A value y_ij of training seed i and sampling seed j is

    y_ij = mu + a_i + e_ij,   a_i ~ N(0, sigma_T^2),   e_ij ~ N(0, sigma_S^2),

all independent. "This recipe" means mu: what another training would give. "These weights" means
mu + a_i: what another sampling of training i would give. The FID Lottery (arXiv 2606.20536) finds
that retraining moves FID about three times as much as resampling, so that the second interval says
little about the first question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evalkit.core.errors import ConfigError
from evalkit.core.intervals import check_level, t_quantile


@dataclass(frozen=True, kw_only=True)
class Spread:
    """An estimate with its interval; the ends are None where it can't be known."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class NestedVariance:
    """Values of a recipe by training seed and sampling seed."""

    num_trainings: int
    num_runs: int
    recipe: Spread
    """The mean over trainings, with the interval for another training."""
    weights: Mapping[str, Spread]
    """The mean of each training, with the interval for another sampling of the same weights."""
    training_sd: Spread | None
    """Standard deviation between trainings; None where it can't be separated."""
    sampling_sd: Spread | None
    """Standard deviation between samplings of the same weights; None with one each."""
    unknown: tuple[str, ...]
    """What these runs can't tell, one sentence each."""


def nested_variance(
    values: Mapping[str, Sequence[float]], *, level: float = 0.95
) -> NestedVariance:
    """Estimate both levels of variance and both intervals.

    The recipe's interval is the t interval of the training means. It is exact for equal numbers of
    samplings, whatever the two variances are; for unequal numbers it is approximate where sampling
    varies more than training. The interval of the weights pools the sampling variance of all
    trainings. That of `training_sd` is Williams' and Tukey's (1962), truncated at 0.

    Args:
        values: Values by training seed, one for each sampling seed.
        level: Nominal coverage of the intervals, in (0, 1).

    Raises:
        ConfigError: No values, or a level outside (0, 1).

    >>> found = nested_variance({"a": [1.0, 3.0], "b": [5.0, 7.0]})
    >>> found.recipe.value, round(found.sampling_sd.value, 4)
    (4.0, 1.4142)
    """
    check_level(level)
    groups = {name: np.asarray(of_it, np.float64) for name, of_it in values.items()}
    if not groups or not all(map(len, groups.values())):
        raise ConfigError("There are no values. Give at least one run of each training.")
    means = np.array([group.mean() for group in groups.values()])
    counts = np.array([len(group) for group in groups.values()])
    within = sum(float(np.square(group - group.mean()).sum()) for group in groups.values())
    freedom = int((counts - 1).sum())
    sampling = within / freedom if freedom else None
    return NestedVariance(
        num_trainings=len(groups),
        num_runs=int(counts.sum()),
        recipe=_mean_interval(means, level),
        weights={
            name: _sampling_interval(group, sampling, freedom, level)
            for name, group in groups.items()
        },
        training_sd=_training_sd(means, counts, sampling, freedom, level),
        sampling_sd=_sampling_sd(sampling, freedom, level),
        unknown=_unknown(len(groups), freedom),
    )


def _mean_interval(means: np.ndarray, level: float) -> Spread:
    value = float(means.mean())
    if len(means) < 2:
        return Spread(value=value, low=None, high=None)
    half = t_quantile(level, len(means) - 1) * float(means.std(ddof=1)) / len(means) ** 0.5
    return Spread(value=value, low=value - half, high=value + half)


def _sampling_interval(
    group: np.ndarray, variance: float | None, freedom: int, level: float
) -> Spread:
    value = float(group.mean())
    if variance is None:
        return Spread(value=value, low=None, high=None)
    half = t_quantile(level, freedom) * (variance / len(group)) ** 0.5
    return Spread(value=value, low=value - half, high=value + half)


def _sampling_sd(variance: float | None, freedom: int, level: float) -> Spread | None:
    if variance is None:
        return None
    low, high = (
        float((freedom * variance / stats.chi2.ppf(share, freedom)) ** 0.5)
        for share in ((1 + level) / 2, (1 - level) / 2)
    )
    return Spread(value=variance**0.5, low=low, high=high)


def _training_sd(
    means: np.ndarray, counts: np.ndarray, sampling: float | None, freedom: int, level: float
) -> Spread | None:
    """Estimate the deviation between trainings from the two mean squares of the nested model."""
    if len(means) < 2 or sampling is None:
        return None
    total, num = counts.sum(), len(means)
    grand = float((counts * means).sum() / total)
    between = float((counts * np.square(means - grand)).sum())
    per_training = float((total - np.square(counts).sum() / total) / (num - 1))
    variance = max(0.0, (between / (num - 1) - sampling) / per_training)
    ends = []
    for share in ((1 + level) / 2, (1 - level) / 2):
        noise = stats.f.ppf(share, num - 1, freedom) * sampling * (num - 1)
        chi2 = stats.chi2.ppf(share, num - 1)
        ends.append(max(0.0, float((between - noise) / (per_training * chi2))) ** 0.5)
    return Spread(value=variance**0.5, low=ends[0], high=ends[1])


def _unknown(num_trainings: int, freedom: int) -> tuple[str, ...]:
    found = []
    if num_trainings < 2:
        found.append(
            "With one training seed, these runs can't tell what another training would give: there "
            "is no interval for the recipe, and the one for these weights does not stand in for it"
        )
    if not freedom:
        found.append(
            "With one sampling seed for each training, these runs can't tell sampling from "
            "training: there is no interval for these weights"
        )
    return tuple(found)
