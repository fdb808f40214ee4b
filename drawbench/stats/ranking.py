"""Rankings of several models: Bradley-Terry, Davidson and Elo, with clustered intervals.

Bradley-Terry (1952) gives each model a strength s so that P(i beats j) = 1 / (1 + exp(s_j - s_i));
a tie counts as half a win for each. Davidson (1970) models ties as a third outcome:

    P(i) : P(j) : P(tie)  =  p_i : p_j : nu sqrt(p_i p_j),    s = log p

Elo is an update rule for players who change over time; models don't, so it is reported for
comparison only, averaged over orders of the votes. All use Elo's scale, 400 points per factor of
ten. The mean over models, weighted by their votes, is zero: a single model as the zero, or a mean
in which one with few votes counts in full, would pass its uncertainty on to all others.

Models that are not linked to the others are named and left out (`drawbench.stats.linkage`).
Intervals of differences hold for all pairs at once (Bonferroni), and ranks are ranges by them: a
model shares a rank with those that it is not known to differ from. A fit reproduces the only vote
of a model exactly, and its clustered variance is then 0; so no variance is below that of
independent votes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from drawbench.errors import NoVotesError
from drawbench.stats.bootstrap import TwoWayResampler, percentile_interval
from drawbench.stats.clustered import (
    LEVEL,
    Layout,
    centre,
    clustered_covariance,
    clustered_variance,
    make_layout,
)
from drawbench.stats.effective import Floats
from drawbench.stats.linkage import UnrankedModel, linked_models, unranked_models
from drawbench.stats.preference import CLUSTER_COLUMNS, answer_scores, win_terms
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
REDRAWS = 2000
METHOD = "cluster-robust sandwich over {}, t reference"
METHOD_ALL_PAIRS = METHOD + ", simultaneous over {} pairs (Bonferroni)"


@dataclass(frozen=True, kw_only=True)
class RankedModel:
    """A model's place in a ranking."""

    model: str
    points: float
    """Points on Elo's scale; the mean over models, weighted by votes, is zero; higher is better."""
    standard_error: float | None
    interval: Interval | None
    best_rank: int
    """One more than the number of models that are significantly better."""
    worst_rank: int
    """The number of ranked models minus those that are significantly worse."""
    num_votes: int
    """Against ranked models."""
    rank_volatility: float
    """Share of redrawn studies in which its rank by points is another one, in [0, 1]."""

    @property
    def rank_range(self) -> str:
        """Its rank in words, "2" or "1 to 3"."""
        best, worst = self.best_rank, self.worst_rank
        return str(best) if best == worst else f"{best} to {worst}"


@dataclass(frozen=True, kw_only=True)
class PairDifference:
    """Difference between two models in points."""

    model_a: str
    model_b: str
    points: float
    standard_error: float
    interval: Interval
    """Holds for all pairs at once."""
    p_value: float
    """Of this pair alone."""
    adjusted_p_value: float
    """Corrected for the number of pairs like the interval (Bonferroni): below 1 - level where the
    interval excludes 0, and only there."""


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The linked models from best to worst, or the reason why there is no ranking."""

    kind: Model
    question: str
    models: tuple[RankedModel, ...]
    differences: tuple[PairDifference, ...]
    tie_parameter: float | None
    """Davidson's nu; 0 without ties. None for the other kinds of ranking."""
    iterations: int
    converged: bool
    unranked: tuple[UnrankedModel, ...] = ()
    """Models that are not linked to the ranked ones."""
    generalises_to: tuple[str, ...] = ()
    """What was sampled: `raters`, `prompts` or both."""
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

    def subset(self, models: NDArray[np.intp]) -> _Table:
        """Return the votes between some of the models."""
        if len(models) == len(self.names):
            return self
        keep = np.isin(self.first, models) & np.isin(self.second, models)
        return _Table(
            [self.names[number] for number in models],
            np.searchsorted(models, self.first[keep]),
            np.searchsorted(models, self.second[keep]),
            self.score[keep],
            self.layout.subset(keep),
        )

    @property
    def sampled(self) -> tuple[str, ...]:
        """What was sampled, in the plural."""
        return tuple(f"{name}s" for name in self.layout.sampled)

    @property
    def num_votes(self) -> NDArray[np.intp]:
        """Votes on each model."""
        return _count(np.concatenate([self.first, self.second]), len(self.names))

    @property
    def weights(self) -> Floats:
        """Share of votes of each model, which sum to 1."""
        weights: Floats = self.num_votes / self.num_votes.sum()
        return weights

    @property
    def degrees_of_freedom(self) -> NDArray[np.intp]:
        """Per model, one less than the smaller number of clusters that vote on it; at least 1."""
        counts = []
        for name in self.layout.sampled:
            clusters = np.tile(getattr(self.layout, name), 2)
            pairs = np.unique(
                np.stack([np.concatenate([self.first, self.second]), clusters]), axis=1
            )
            counts.append(_count(pairs[0], len(self.names)))
        degrees: NDArray[np.intp] = np.maximum(np.min(counts, axis=0) - 1, 1)
        return degrees

    @property
    def difference(self) -> Floats:
        """(votes, models): +1 at the first model, -1 at the second."""
        table = np.zeros((len(self.first), len(self.names)))
        rows = np.arange(len(self.first))
        table[rows, self.first] = 1
        table[rows, self.second] = -1
        return table


def _count(codes: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    counts: NDArray[np.intp] = np.bincount(codes, minlength=size)
    return counts


def rank(
    votes: pd.DataFrame, *, kind: Model = "bradley-terry", level: float = LEVEL, seed: int = 0
) -> Ranking:
    """Rank the models of one question.

    Models that are not linked to the others by wins in both directions have no finite strength
    (Ford 1957): the largest linked set is ranked, the others are named with the reason.

    Args:
        votes: Votes on one question, any number of pairs.
        kind: See the module docstring.
        level: Of the intervals.
        seed: Of redrawn ranks, and of Elo's orders and resamples.

    Raises:
        NoVotesError: `votes` is empty.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    if votes.empty:
        raise NoVotesError("There are no votes to rank models by.")
    whole, question = _table(votes), str(votes["question"].iloc[0])
    linked = linked_models(whole.first, whole.second, whole.score, len(whole.names))
    table = whole.subset(linked)
    reason = _why_not(whole, table)
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
    ranking = _ranking(table, kind, question, level, seed)
    unranked = unranked_models(whole.first, whole.second, whole.score, whole.names, linked)
    return replace(ranking, unranked=unranked, generalises_to=table.sampled)


def _ranking(table: _Table, kind: Model, question: str, level: float, seed: int) -> Ranking:
    if kind == "elo":
        return _elo(table, question, level, seed)
    fit = _fit_davidson(table) if kind == "davidson" else _fit_bradley_terry(table)
    models, differences = _with_uncertainty(table, fit, level, seed)
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
    """Log strengths, with the mean over votes zero."""
    covariance_of: _Sandwich
    tie_parameter: float | None
    iterations: int
    converged: bool


@dataclass(frozen=True)
class _Sandwich:
    """Influence of each vote on the estimates: its score times the inverse information."""

    influence: Floats
    """(votes, parameters), the models first."""
    independent: Floats
    """Covariance of the parameters if votes were independent."""
    layout: Layout

    def standard_error(self, contrast: Floats) -> float:
        """Compute the variance of a linear combination of strengths, with fixed categories."""
        size = len(contrast)
        moved = centre(self.influence[:, :size] @ contrast, self.layout)
        least = float(contrast @ self.independent[:size, :size] @ contrast)
        return float(np.sqrt(max(clustered_variance(moved, self.layout), least)))

    def redraw(self, strengths: Floats, weights: Floats, seed: int) -> Floats:
        """Draw strengths of repeated studies, (`REDRAWS`, models), from the normal approximation.

        Two-way covariances can have negative eigenvalues, which count as zero. What this misses of
        a model's variance is added to it alone.
        """
        size = len(strengths)
        models = np.eye(size) - weights
        errors = np.array([self.standard_error(model) for model in models])
        covariance = models @ self._covariance(size) @ models.T
        short = np.maximum(errors**2 - np.diag(covariance), 0)
        rng = np.random.default_rng(seed)
        root = np.linalg.cholesky(covariance + np.diag(short) + 1e-12 * np.eye(size))
        drawn: Floats = strengths + rng.standard_normal((REDRAWS, size)) @ root.T
        return drawn

    def _covariance(self, size: int) -> Floats:
        """Compute the clustered covariance of strengths, without its negative eigenvalues."""
        moved = np.apply_along_axis(centre, 0, self.influence[:, :size], self.layout)
        values, vectors = np.linalg.eigh(clustered_covariance(moved, self.layout))
        positive: Floats = (vectors * np.maximum(values, 0)) @ vectors.T
        return positive


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


def _why_not(whole: _Table, linked: _Table) -> str:
    """Return why no models can be ranked; empty if at least two are linked."""
    if not whole.layout.sampled:
        return "one rater and one prompt rank nothing"
    if len(linked.names) < 2:
        return (
            f"no finite strengths: of each two of {', '.join(whole.names)} one side won every "
            "vote, or they were never compared"
        )
    if not linked.layout.sampled:
        return (
            f"one rater and one prompt rank nothing, and only they link {', '.join(linked.names)}"
        )
    return ""


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
    strengths -= table.weights @ strengths
    expected = 1 / (1 + np.exp(strengths[table.second] - strengths[table.first]))
    scores = (table.score - expected)[:, None] * table.difference
    weighted = (expected * (1 - expected))[:, None] * table.difference
    information = table.difference.T @ weighted
    inverse = _inverse(information)
    # Ties vary less than wins and losses: the variance of independent votes is scaled to theirs.
    spread = ((table.score - expected) ** 2).sum() / (expected * (1 - expected)).sum()
    sandwich = _Sandwich(scores @ inverse, spread * inverse, table.layout)
    converged = fitted.iterations < MAX_ITERATIONS
    return _Fit(strengths, sandwich, None, fitted.iterations, converged)


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
        parameters[:size] -= table.weights @ parameters[:size]
        iterations += 1
    inverse = _inverse(information)
    converged = bool(np.abs(step).max() < TOLERANCE)
    tie_parameter = float(np.exp(parameters[size]))
    sandwich = _Sandwich(scores @ inverse, inverse, table.layout)
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
    table: _Table, fit: _Fit, level: float, seed: int
) -> tuple[tuple[RankedModel, ...], tuple[PairDifference, ...]]:
    size, degrees = len(table.names), table.degrees_of_freedom
    differences = _all_differences(table, fit, level)
    drawn = fit.covariance_of.redraw(fit.strengths, table.weights, seed)
    volatility = _volatility(fit.strengths, drawn)
    method = METHOD.format(" and ".join(table.sampled))
    models = []
    for number in sorted(range(size), key=lambda number: -fit.strengths[number]):
        name = table.names[number]
        contrast = np.eye(size)[number] - table.weights
        error = POINTS * fit.covariance_of.standard_error(contrast)
        points = float(POINTS * fit.strengths[number])
        low, high = t_interval(points, error, int(degrees[number]), level=level)
        better, worse = _beyond_doubt(name, differences)
        models.append(
            RankedModel(
                model=name,
                points=points,
                standard_error=error,
                interval=Interval(low=low, high=high, level=level, method=method),
                best_rank=1 + better,
                worst_rank=size - worse,
                num_votes=int(table.num_votes[number]),
                rank_volatility=float(volatility[number]),
            )
        )
    return tuple(models), differences


def _volatility(points: Floats, redrawn: Floats) -> Floats:
    """Return, per model, the share of redrawn studies in which its rank changes."""
    usable = redrawn[np.isfinite(redrawn).all(axis=1)]
    if not len(usable):
        return np.ones(len(points))
    shares: Floats = (_ranks(usable) != _ranks(points[None])).mean(axis=0)
    return shares


def _ranks(points: Floats) -> NDArray[np.intp]:
    """Rank each row, the highest first."""
    return np.argsort(np.argsort(-points, axis=1, kind="stable"), axis=1)


def _all_differences(table: _Table, fit: _Fit, level: float) -> tuple[PairDifference, ...]:
    from scipy.special import stdtr

    size, degrees = len(table.names), table.degrees_of_freedom
    pairs = list(combinations(range(size), 2))
    method = METHOD_ALL_PAIRS.format(" and ".join(table.sampled), len(pairs))
    found = []
    for i, j in pairs:
        contrast = np.zeros(size)
        contrast[i], contrast[j] = 1, -1
        points = float(POINTS * (fit.strengths[i] - fit.strengths[j]))
        error = POINTS * fit.covariance_of.standard_error(contrast)
        df = int(min(degrees[i], degrees[j]))
        low, high = t_interval(points, error, df, level=1 - (1 - level) / len(pairs))
        p_value = float(2 * stdtr(df, -abs(points) / error))
        found.append(
            PairDifference(
                model_a=table.names[i],
                model_b=table.names[j],
                points=points,
                standard_error=error,
                interval=Interval(low=low, high=high, level=level, method=method),
                p_value=p_value,
                adjusted_p_value=min(1.0, len(pairs) * p_value),
            )
        )
    return tuple(found)


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


def _elo(table: _Table, question: str, level: float, seed: int) -> Ranking:
    """Compute Elo averaged over orders of votes; bootstrap intervals use one order each."""
    rng = np.random.default_rng(seed)
    votes = np.arange(len(table.first))
    orders = [_elo_points(table, rng.permutation(votes)) for _ in range(ELO_SHUFFLES)]
    points = np.mean(orders, axis=0)
    resampler = TwoWayResampler(table.layout, resamples=ELO_RESAMPLES, seed=seed)
    drawn = [np.repeat(votes, row.astype(int)) for row in resampler.vote_counts()]
    resampled = np.array([_elo_points(table, rng.permutation(picked)) for picked in drawn])
    method = resampler.method.replace(", percentile", ", each in one random order, percentile")
    better, worse = _elo_beyond_doubt(points, resampled, level)
    volatility = _volatility(points, resampled)
    models = [
        RankedModel(
            model=table.names[number],
            points=float(points[number]),
            standard_error=None,
            interval=percentile_interval(resampled[:, number], level=level, method=method),
            best_rank=1 + int(better[number]),
            worst_rank=len(points) - int(worse[number]),
            num_votes=int(table.num_votes[number]),
            rank_volatility=float(volatility[number]),
        )
        for number in np.argsort(-points, kind="stable")
    ]
    return Ranking(
        kind="elo",
        question=question,
        models=tuple(models),
        differences=(),
        tie_parameter=None,
        iterations=ELO_SHUFFLES,
        converged=True,
    )


def _elo_beyond_doubt(
    points: Floats, resampled: Floats, level: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Count better and worse models by intervals that hold for all pairs at once.

    The largest deviation of any pair, in its own standard deviations, is in `level` of the
    resamples at most the critical value.
    """
    usable = resampled[np.isfinite(resampled).all(axis=1)]
    if len(usable) < len(resampled) / 2:
        return np.zeros(len(points), np.intp), np.zeros(len(points), np.intp)
    gap = points[:, None] - points
    deviations = np.abs(usable[:, :, None] - usable[:, None, :] - gap)
    spread = np.sqrt((deviations**2).mean(axis=0)) + np.finfo(float).tiny
    critical = np.quantile((deviations / spread).max(axis=(1, 2)), level)
    beyond = np.abs(gap) > critical * spread
    return (beyond & (gap < 0)).sum(axis=1), (beyond & (gap > 0)).sum(axis=1)


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
    centred: Floats = points - np.nansum(table.weights * points)
    return centred
