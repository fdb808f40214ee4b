"""Rankings of several models: Bradley-Terry, Davidson and Elo, with clustered intervals.

Bradley-Terry (1952) gives each model a strength s so that P(i beats j) = 1 / (1 + exp(s_j - s_i));
a tie counts as half a win for each. Davidson (1970) models ties as a third outcome:

    P(i) : P(j) : P(tie)  =  p_i : p_j : nu sqrt(p_i p_j),    s = log p

Elo is an update rule for players who change over time; models don't, so it is reported for
comparison only, averaged over orders of the votes. All use Elo's scale, 400 points per factor of
ten, with mean zero: a fixed anchor model would pass its uncertainty on to all others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from drawbench.errors import NoVotesError
from drawbench.stats.bootstrap import TwoWayResampler, percentile_interval
from drawbench.stats.clustered import (
    LEVEL,
    Floats,
    Layout,
    centre,
    clustered_variance,
    make_layout,
)
from drawbench.stats.preference import CLUSTER_COLUMNS, answer_scores, holm, win_terms
from evalkit.core.intervals import check_level, t_interval
from evalkit.core.registry import require
from evalkit.core.results import Interval

Model = Literal["bradley-terry", "davidson", "elo"]

POINTS = 400 / math.log(10)
"""Elo points per unit of log strength."""
TOLERANCE = 1e-10
MAX_ITERATIONS = 10_000
MAX_NEWTON_STEPS = 100
ELO_SHUFFLES = 50
ELO_RESAMPLES = 200
METHOD = "two-way cluster-robust sandwich over raters and prompts, t reference"


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """A model's place in a ranking."""

    model: str
    points: float
    """Points on Elo's scale; the mean over models is zero, and higher is better."""
    standard_error: float | None
    interval: Interval | None
    best_rank: int
    """One more than the number of models that are significantly better."""
    worst_rank: int
    """The number of models minus those that are significantly worse."""
    num_votes: int


@dataclass(frozen=True, kw_only=True)
class PairDifference:
    """Difference between two models in points."""

    model_a: str
    model_b: str
    points: float
    standard_error: float
    interval: Interval
    p_value: float
    adjusted_p_value: float
    """Corrected for the number of pairs (Holm 1979)."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Models from best to worst, or the reason why there is no ranking."""

    kind: Model
    question: str
    models: tuple[RankedModel, ...]
    differences: tuple[PairDifference, ...]
    tie_parameter: float | None
    """Davidson's nu; 0 without ties. None for the other kinds of ranking."""
    iterations: int
    converged: bool
    reason: str = ""
    """The reason if `models` is empty."""


@dataclass(frozen=True)
class _Table:
    """The votes on one question as arrays."""

    names: list[str]
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    score: Floats
    """1 if the first model won, 1/2 for a tie, 0 if the second won."""
    layout: Layout

    @property
    def difference(self) -> Floats:
        """(votes, models): +1 at the first model, -1 at the second."""
        table = np.zeros((len(self.first), len(self.names)))
        rows = np.arange(len(self.first))
        table[rows, self.first] = 1
        table[rows, self.second] = -1
        return table


def rank(
    votes: pd.DataFrame, *, kind: Model = "bradley-terry", level: float = LEVEL, seed: int = 0
) -> Ranking:
    """Rank the models of one question.

    Strengths exist only if every model is linked to every other by wins in both directions (Ford
    1957); otherwise the ranking is empty, and its reason names the separated models.

    Args:
        votes: Votes on one question, any number of pairs.
        kind: See the module docstring.
        level: Of the intervals.
        seed: Of Elo's orders and resamples.

    Raises:
        NoVotesError: `votes` is empty.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    if votes.empty:
        raise NoVotesError("There are no votes to rank models by.")
    table = _table(votes)
    reason = _why_not(table)
    question = str(votes["question"].iloc[0])
    if reason:
        return Ranking(
            kind=kind,
            question=question,
            models=(),
            differences=(),
            tie_parameter=None,
            iterations=0,
            converged=False,
            reason=reason,
        )
    if kind == "elo":
        return _elo(table, question, level, seed)
    fit = _fit_davidson(table) if kind == "davidson" else _fit_bradley_terry(table)
    models, differences = _with_uncertainty(table, fit, level)
    return Ranking(
        kind=kind,
        question=question,
        models=models,
        differences=differences,
        tie_parameter=fit.tie_parameter,
        iterations=fit.iterations,
        converged=fit.converged,
    )


@dataclass(frozen=True)
class _Fit:
    strengths: Floats
    """Log strengths with mean zero."""
    covariance_of: _Sandwich
    tie_parameter: float | None
    iterations: int
    converged: bool


@dataclass(frozen=True)
class _Sandwich:
    """Influence of each vote on the estimates: its score times the inverse information."""

    influence: Floats
    """(votes, parameters), the models first."""
    layout: Layout

    def standard_error(self, contrast: Floats) -> float:
        """Compute the variance of a linear combination of strengths, with fixed categories."""
        moved = self.influence[:, : len(contrast)] @ contrast
        return float(np.sqrt(clustered_variance(centre(moved, self.layout), self.layout)))


def _table(votes: pd.DataFrame) -> _Table:
    # Sorted, so that Elo's orders, drawn by index, do not depend on the order of rows.
    keys = ["rater_id", "prompt_id", "model_a", "model_b", "answer"]
    votes = votes.sort_values(keys, kind="stable")
    names = sorted({*votes["model_a"], *votes["model_b"]})
    index = {name: number for number, name in enumerate(names)}
    score = win_terms(answer_scores(votes["answer"].to_numpy(dtype=object)), "half")[0]
    layout = make_layout(*(votes[name].to_numpy(dtype=object) for name in CLUSTER_COLUMNS))
    first, second = (
        votes[name].map(index).to_numpy(dtype=np.intp) for name in ("model_a", "model_b")
    )
    return _Table(names, first, second, score, layout)


def _why_not(table: _Table) -> str:
    """Return why strengths don't exist; empty if models are linked in both directions."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not table.layout.sampled:
        return "one rater and one prompt rank nothing"
    beats = np.concatenate([table.score > 0, table.score < 1])
    winners = np.concatenate([table.first, table.second])[beats]
    losers = np.concatenate([table.second, table.first])[beats]
    size = len(table.names)
    graph = coo_array((np.ones(len(winners)), (winners, losers)), shape=(size, size))
    count, group = connected_components(graph.tocsr(), directed=True, connection="strong")
    if count == 1:
        return ""
    apart = [name for name, number in zip(table.names, group, strict=True) if number == group[0]]
    others = [name for name in table.names if name not in apart]
    return (
        f"no finite strengths: between {', '.join(apart)} and {', '.join(others)} one side won "
        "every vote, or they were never compared"
    )


def _fit_bradley_terry(table: _Table) -> _Fit:
    """Fit strengths with evalica, and compute information and scores at them."""
    evalica = require("evalica", extra="study", what="the ranking of models")
    outcome = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    names = np.array(table.names, dtype=object)
    fitted = evalica.bradley_terry(
        list(names[table.first]),
        list(names[table.second]),
        [outcome[score] for score in table.score.tolist()],
        tie_weight=0.5,
        tolerance=TOLERANCE,
        limit=MAX_ITERATIONS,
    )
    strengths = np.log(fitted.scores.reindex(table.names).to_numpy(dtype=np.float64))
    strengths -= strengths.mean()
    expected = 1 / (1 + np.exp(strengths[table.second] - strengths[table.first]))
    scores = (table.score - expected)[:, None] * table.difference
    weighted = (expected * (1 - expected))[:, None] * table.difference
    information = table.difference.T @ weighted
    influence = scores @ _inverse(information)
    converged = fitted.iterations < MAX_ITERATIONS
    return _Fit(strengths, _Sandwich(influence, table.layout), None, fitted.iterations, converged)


def _fit_davidson(table: _Table) -> _Fit:
    """Fit by Newton's method on log strengths and log nu, in which the likelihood is concave."""
    size = len(table.names)
    if not (table.score == 0.5).any():
        fit = _fit_bradley_terry(table)
        return _Fit(fit.strengths, fit.covariance_of, 0.0, fit.iterations, fit.converged)
    parameters = np.zeros(size + 1)
    step, iterations = np.full(size + 1, np.inf), 0
    while np.abs(step).max() >= TOLERANCE and iterations < MAX_NEWTON_STEPS:
        scores, information = _davidson_scores(table, parameters)
        step = scores.sum(axis=0) @ _inverse(information)
        parameters += step / max(1.0, np.abs(step).max())
        parameters[:size] -= parameters[:size].mean()
        iterations += 1
    influence = scores @ _inverse(information)
    converged = bool(np.abs(step).max() < TOLERANCE)
    tie_parameter = float(np.exp(parameters[size]))
    sandwich = _Sandwich(influence, table.layout)
    return _Fit(parameters[:size], sandwich, tie_parameter, iterations, converged)


def _inverse(information: Floats) -> Floats:
    """Invert up to a shift of all strengths, which votes can't determine."""
    return np.asarray(np.linalg.pinv(information, rcond=1e-10, hermitian=True), dtype=np.float64)


def _davidson_scores(table: _Table, parameters: Floats) -> tuple[Floats, Floats]:
    """Return the derivatives of each vote's log likelihood, and the total information.

    With z half the difference of strengths, the outcomes have weights exp(z), exp(-z) and nu.
    Their statistics are 1, -1, 0 in z, and 0, 0, 1 in log nu.
    """
    strengths, log_nu = parameters[:-1], parameters[-1]
    z = (strengths[table.first] - strengths[table.second]) / 2
    weights = np.stack([np.exp(z), np.exp(-z), np.full_like(z, np.exp(log_nu))])
    wins, losses, ties = weights / weights.sum(axis=0)
    lead, tied = wins - losses, ties
    in_z = (2 * table.score - 1) - lead
    in_nu = (table.score == 0.5) - tied
    design = table.difference / 2
    scores = np.column_stack([in_z[:, None] * design, in_nu])
    var_z, var_nu, cov = wins + losses - lead**2, tied * (1 - tied), -lead * tied
    size = len(strengths)
    information = np.empty((size + 1, size + 1))
    information[:size, :size] = design.T @ (var_z[:, None] * design)
    information[size, size] = var_nu.sum()
    information[:size, size] = information[size, :size] = cov @ design
    return scores, information


def _with_uncertainty(
    table: _Table, fit: _Fit, level: float
) -> tuple[tuple[RankedModel, ...], tuple[PairDifference, ...]]:
    size = len(table.names)
    clusters = [getattr(table.layout, f"num_{name}s") for name in table.layout.sampled]
    df = min(clusters) - 1
    differences = _all_differences(table, fit, df, level)
    order = sorted(range(size), key=lambda number: -fit.strengths[number])
    appearances = np.bincount(np.concatenate([table.first, table.second]), minlength=size)
    models = []
    for number in order:
        name = table.names[number]
        contrast = np.full(size, -1 / size)
        contrast[number] += 1
        error = POINTS * fit.covariance_of.standard_error(contrast)
        points = float(POINTS * fit.strengths[number])
        better, worse = _beyond_doubt(name, differences)
        models.append(
            RankedModel(
                model=name,
                points=points,
                standard_error=error,
                interval=_t_interval(points, error, df, level),
                best_rank=1 + better,
                worst_rank=size - worse,
                num_votes=int(appearances[number]),
            )
        )
    return tuple(models), differences


def _all_differences(table: _Table, fit: _Fit, df: int, level: float) -> tuple[PairDifference, ...]:
    from scipy.special import stdtr

    size = len(table.names)
    rows = []
    for i in range(size):
        for j in range(i + 1, size):
            contrast = np.zeros(size)
            contrast[i], contrast[j] = 1, -1
            points = float(POINTS * (fit.strengths[i] - fit.strengths[j]))
            error = POINTS * fit.covariance_of.standard_error(contrast)
            p_value = float(2 * stdtr(df, -abs(points) / error)) if error > 0 else 1.0
            rows.append((i, j, points, error, p_value))
    adjusted = holm([row[-1] for row in rows])
    return tuple(
        PairDifference(
            model_a=table.names[i],
            model_b=table.names[j],
            points=points,
            standard_error=error,
            interval=_t_interval(points, error, df, level),
            p_value=p_value,
            adjusted_p_value=corrected,
        )
        for (i, j, points, error, p_value), corrected in zip(rows, adjusted, strict=True)
    )


def _beyond_doubt(name: str, differences: tuple[PairDifference, ...]) -> tuple[int, int]:
    """Count better and worse models by intervals that exclude zero."""
    better = worse = 0
    for item in differences:
        if name not in (item.model_a, item.model_b):
            continue
        ahead = item.interval.low > 0 if name == item.model_a else item.interval.high < 0
        behind = item.interval.high < 0 if name == item.model_a else item.interval.low > 0
        better, worse = better + int(behind), worse + int(ahead)
    return better, worse


def _t_interval(value: float, error: float, df: int, level: float) -> Interval:
    low, high = t_interval(value, error, df, level=level)
    return Interval(low=low, high=high, level=level, method=METHOD)


def _elo(table: _Table, question: str, level: float, seed: int) -> Ranking:
    """Compute Elo averaged over orders of votes; bootstrap intervals use one order each."""
    rng = np.random.default_rng(seed)
    votes = np.arange(len(table.first))
    orders = [_elo_points(table, rng.permutation(votes)) for _ in range(ELO_SHUFFLES)]
    points = np.mean(orders, axis=0)
    counts = TwoWayResampler(table.layout, resamples=ELO_RESAMPLES, seed=seed).vote_counts()
    drawn = [np.repeat(votes, row.astype(int)) for row in counts]
    resampled = np.array([_elo_points(table, rng.permutation(picked)) for picked in drawn])
    appearances = np.bincount(np.concatenate([table.first, table.second]), minlength=len(points))
    method = "two-way bootstrap over raters and prompts, each in one random order, percentile"
    models, intervals = [], []
    for number in range(len(points)):
        intervals.append(percentile_interval(resampled[:, number], level=level, method=method))
    for number in np.argsort(-points, kind="stable"):
        gaps = [
            percentile_interval(
                resampled[:, number] - resampled[:, other], level=level, method=method
            )
            for other in range(len(points))
            if other != number
        ]
        better = sum(gap is not None and gap.high < 0 for gap in gaps)
        worse = sum(gap is not None and gap.low > 0 for gap in gaps)
        models.append(
            RankedModel(
                model=table.names[number],
                points=float(points[number]),
                standard_error=None,
                interval=intervals[number],
                best_rank=1 + better,
                worst_rank=len(points) - worse,
                num_votes=int(appearances[number]),
            )
        )
    return Ranking(
        kind="elo",
        question=question,
        models=tuple(models),
        differences=(),
        tie_parameter=None,
        iterations=ELO_SHUFFLES,
        converged=True,
    )


def _elo_points(table: _Table, order: NDArray[np.intp]) -> Floats:
    evalica = require("evalica", extra="study", what="the ranking of models")
    if not order.size:
        return np.full(len(table.names), np.nan)
    outcome = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    names = np.array(table.names, dtype=object)
    fitted = evalica.elo(
        list(names[table.first[order]]),
        list(names[table.second[order]]),
        [outcome[score] for score in table.score[order].tolist()],
    )
    points = fitted.scores.reindex(table.names).to_numpy(dtype=np.float64)
    centred: Floats = points - np.nanmean(points)
    return centred
