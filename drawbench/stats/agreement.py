"""Agreement between raters, and between raters and automatic scores.

An item is one comparison of one prompt; its ratings are the answers a, tie, b. An item with a
single rating is left out and reported: it has no information on agreement, and counting it would
inflate the result.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.bootstrap import percentile_interval
from drawbench.stats.clustered import LEVEL
from drawbench.stats.effective import Floats
from drawbench.votes import ANSWERS, orient_pairs, read_cells
from evalkit.core.intervals import check_level
from evalkit.core.registry import require
from evalkit.core.results import Interval

Measurement = Literal["nominal", "ordinal"]
Unit = Literal["prompts", "categories"]

RESAMPLES = 2000
METHOD_PROMPTS = "bootstrap over prompts, percentile; raters taken as they are"
SCORE_COLUMNS = ("prompt_id", "model", "score")
MIN_UNITS = 5
"""With fewer prompts or categories, no correlation is reported."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement between raters on one question."""

    question: str
    category: str | None
    alpha: float | None
    """Krippendorff's alpha for ordered answers; 1 is perfect, 0 chance level, negative worse."""
    alpha_interval: Interval | None
    alpha_nominal: float | None
    """The same for nominal answers."""
    kappa: float | None
    """Fleiss' kappa; only if every item has the same number of ratings."""
    percent: float | None
    """Share of equal pairs of ratings on one item, in [0, 1]."""
    num_items: int
    """Items with at least two ratings."""
    num_single: int
    """Items with one rating, left out."""
    reason: str = ""
    """Why something is missing."""


@dataclass(frozen=True, kw_only=True)
class MetricAgreement:
    """Correlation between differences of an automatic score and people's preferences."""

    metric: str
    model_a: str
    model_b: str
    question: str
    category: str | None
    over: Unit
    """What is correlated: single prompts, or the means of categories."""
    correlation: float | None
    """Spearman's, between the difference of scores and A's win rate."""
    interval: Interval | None
    same_side: float | None
    """Share of prompts (or categories) without ties on which score and votes agree."""
    mean_difference: float | None
    """Mean over prompts of A's score minus B's, in the unit of the score."""
    win_rate: float | None
    """A's win rate, mean over the same prompts."""
    num_prompts: int
    reason: str = ""


def fleiss_kappa(counts: ArrayLike) -> float:
    """Compute Fleiss' kappa (1971) of a table of items by answers.

    Args:
        counts: How often each item got each answer; rows sum to the same number of ratings.

    Returns:
        1 for perfect agreement, 0 for chance level.

    Raises:
        VotesError: Items have different numbers of ratings, or fewer than two.

    >>> fleiss_kappa([[2, 0], [0, 2]])
    1.0
    """
    inter_rater = require("statsmodels.stats.inter_rater", extra="study", what="Fleiss' kappa")
    table = np.asarray(counts, dtype=float)
    ratings = table.sum(axis=1)
    if not len(table) or ratings.min() != ratings.max() or ratings.min() < 2:
        raise VotesError(
            "Fleiss' kappa needs the same number of ratings, at least 2, on every item; "
            f"got {ratings.min():.0f} to {ratings.max():.0f}. Use Krippendorff's alpha instead."
            if len(table)
            else "Fleiss' kappa needs at least one item, got none."
        )
    if np.count_nonzero(table.sum(axis=0)) < 2:
        raise VotesError("Fleiss' kappa needs two different answers, but all ratings are equal.")
    return float(inter_rater.fleiss_kappa(table))


def krippendorff_alpha(counts: ArrayLike, *, measurement: Measurement = "ordinal") -> float:
    """Compute Krippendorff's alpha (2004) of a table of items by ordered answers.

    Args:
        counts: How often each item got each answer; items with one rating are left out by the
            formula.
        measurement: "nominal" treats answers as names, "ordinal" as ranks.

    Raises:
        VotesError: No item has two ratings, or all ratings are equal.

    >>> krippendorff_alpha([[2, 0, 0], [0, 0, 2]])
    1.0
    """
    krippendorff = require("krippendorff", extra="study", what="Krippendorff's alpha")
    table = np.asarray(counts)
    pairable = table[table.sum(axis=1) >= 2]
    if not len(pairable):
        raise VotesError("Krippendorff's alpha needs an item with two ratings, got none.")
    if np.count_nonzero(pairable.sum(axis=0)) < 2:
        raise VotesError(
            "Krippendorff's alpha needs two different answers, but all ratings are equal."
        )
    return float(krippendorff.alpha(value_counts=pairable, level_of_measurement=measurement))


def agreement(votes: pd.DataFrame, *, level: float = LEVEL, seed: int = 0) -> Agreement:
    """Measure how far raters agree on one question.

    Args:
        votes: Votes on one question, any number of pairs and categories.
        level: Of the interval of alpha.
        seed: Of its bootstrap.

    Raises:
        NoVotesError: `votes` is empty.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    if votes.empty:
        raise NoVotesError("There are no votes to compute agreement from.")
    counts, prompts = answer_counts(votes)
    pairable = counts.sum(axis=1) >= 2
    table, prompt_of = counts[pairable], prompts[pairable]
    reasons: list[str] = []
    alpha = _or_reason(reasons, krippendorff_alpha, table)
    nominal = None if alpha is None else krippendorff_alpha(table, measurement="nominal")
    kappa = None if alpha is None else _or_reason(reasons, fleiss_kappa, table)
    interval = None if alpha is None else _alpha_interval(table, prompt_of, level, seed)
    ratings = table.sum(axis=1)
    equal = (table * (table - 1)).sum(axis=1) / np.maximum(ratings * (ratings - 1), 1)
    categories = votes["category"].unique()
    return Agreement(
        question=str(votes["question"].iloc[0]),
        category=str(categories[0]) if len(categories) == 1 and categories[0] else None,
        alpha=alpha,
        alpha_interval=interval,
        alpha_nominal=nominal,
        kappa=kappa,
        percent=float(equal.mean()) if len(table) else None,
        num_items=int(pairable.sum()),
        num_single=int((~pairable).sum()),
        reason=" ".join(reasons),
    )


def answer_counts(votes: pd.DataFrame) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Count answers a, tie, b per item (items by 3), and return the prompt of each item."""
    keys = ["prompt_id", "model_a", "model_b", *(["item_id"] if "item_id" in votes else [])]
    table = orient_pairs(votes).groupby([*keys, "answer"]).size().unstack(fill_value=0)
    counts = table.reindex(columns=list(ANSWERS), fill_value=0)
    prompts = counts.index.get_level_values("prompt_id").to_numpy(dtype=object)
    return counts.to_numpy(dtype=np.intp), prompts


def alpha_from_pairs(coincidences: Floats) -> Floats:
    """Compute ordinal alpha of coincidence matrices (..., answers, answers); NaN without variation.

    Krippendorff 2004, chapter 11: one minus observed over expected disagreement, where the distance
    of two ranks counts the ratings between them.
    """
    totals = coincidences.sum(axis=-1)
    n = totals.sum(axis=-1)
    below = np.cumsum(totals, axis=-1) - totals / 2
    distance = (below[..., :, None] - below[..., None, :]) ** 2
    observed = (coincidences * distance).sum(axis=(-2, -1))
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum(axis=(-2, -1)) / (n - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alphas: Floats = 1 - observed / expected
    return alphas


def metric_agreement(
    votes: pd.DataFrame, scores: pd.DataFrame, *, metric: str, level: float = LEVEL, seed: int = 0
) -> tuple[MetricAgreement, ...]:
    """Correlate a metric with votes: do people prefer the model with the higher score?

    The correlations are over all prompts, over the means of categories, and within each category.

    Args:
        votes: Votes on any questions and pairs.
        scores: One row per prompt and model: `prompt_id`, `model`, `score`; higher should be
            better.
        metric: Its name.
        level: Of the intervals, which generalise over prompts.
        seed: Of their bootstrap.

    Raises:
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    by_prompt = scores.set_index(["prompt_id", "model"])["score"]
    rows = _win_rates_by_prompt(votes)
    for side in ("a", "b"):
        keys = pd.MultiIndex.from_arrays([rows["prompt_id"], rows[f"model_{side}"]])
        rows[f"score_{side}"] = by_prompt.reindex(keys).to_numpy()
    rows["difference"] = rows["score_a"] - rows["score_b"]
    results = []
    for names, of_pair in rows.groupby(["model_a", "model_b", "question"]):
        for category, over, part in _views(of_pair):
            results.append(_agreement_of(metric, names, category, over, part, level, seed))
    return tuple(results)


def read_scores(path: object) -> dict[str, pd.DataFrame]:
    """Read a CSV of scores: `prompt_id, model, score` and, for several, `metric`.

    Raises:
        VotesError: A column is missing, a score is not a number, or a prompt and model appear
            twice.
    """
    from pathlib import Path

    cells = read_cells(Path(str(path)))
    missing = [name for name in SCORE_COLUMNS if name not in cells.columns]
    if missing:
        raise VotesError(
            f"{path}: column {missing[0]!r} is missing. Expected {', '.join(SCORE_COLUMNS)}."
        )
    numbers = pd.to_numeric(cells["score"], errors="coerce")
    bad = np.flatnonzero(~np.isfinite(numbers))
    if bad.size:
        seen = cells["score"].iloc[bad[0]]
        raise VotesError(
            f"{path}: row {bad[0] + 1}: score is not a number, got {seen!r}. Write a "
            "number such as 0.25."
        )
    cells["score"] = numbers
    name = cells["metric"] if "metric" in cells else pd.Series("score", index=cells.index)
    again = cells.assign(metric=name).duplicated(["metric", "prompt_id", "model"])
    if again.any():
        row = int(np.flatnonzero(again)[0])
        raise VotesError(
            f"{path}: row {row + 1}: second score for the same prompt and model. Keep one."
        )
    return {str(metric): part for metric, part in cells.groupby(name)}


def _or_reason(reasons: list[str], compute, table: Floats) -> float | None:  # type: ignore[no-untyped-def]
    try:
        return float(compute(table))
    except VotesError as error:
        reasons.append(str(error))
        return None


def _alpha_interval(
    counts: NDArray[np.intp], prompts: NDArray[np.object_], level: float, seed: int
) -> Interval | None:
    """Resample prompts with all their items. None for a single prompt."""
    codes = np.unique(prompts, return_inverse=True)[1]
    size = int(codes.max()) + 1
    if size < 2:
        return None
    table = counts.astype(float)
    pairs = table[:, :, None] * table[:, None, :] - table[:, :, None] * np.eye(table.shape[1])
    pairs /= (table.sum(axis=1) - 1)[:, None, None]
    by_prompt = np.zeros((size, *pairs.shape[1:]))
    np.add.at(by_prompt, codes, pairs)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(size, np.full(size, 1 / size), size=RESAMPLES).astype(float)
    alphas = alpha_from_pairs(np.tensordot(drawn, by_prompt, axes=1))
    return percentile_interval(alphas, level=level, method=METHOD_PROMPTS)


def _win_rates_by_prompt(votes: pd.DataFrame) -> pd.DataFrame:
    oriented = orient_pairs(votes)
    score = oriented["answer"].map({"a": 1.0, "tie": 0.5, "b": 0.0})
    keys = ["model_a", "model_b", "question", "category", "prompt_id"]
    return score.groupby([oriented[name] for name in keys]).mean().rename("win_rate").reset_index()


def _views(rows: pd.DataFrame) -> Iterator[tuple[str | None, Unit, pd.DataFrame]]:
    """Yield all prompts, the means of categories, and the prompts of each category."""
    yield None, "prompts", rows
    if rows["category"].nunique() > 1:
        known = rows.dropna(subset=["difference"])
        means = known.groupby("category")[["difference", "win_rate"]].mean()
        yield None, "categories", means.reset_index()
        for category, part in rows.groupby("category"):
            yield str(category), "prompts", part


def _agreement_of(
    metric: str,
    names: tuple[Hashable, ...],
    category: str | None,
    over: Unit,
    rows: pd.DataFrame,
    level: float,
    seed: int,
) -> MetricAgreement:
    known = rows.dropna(subset=["difference"])
    difference, win_rate = (
        known[name].to_numpy(dtype=float) for name in ("difference", "win_rate")
    )
    correlation, reason = _spearman(difference, win_rate, over)
    interval = None
    if correlation is not None and over == "prompts":
        interval = _spearman_interval(difference, win_rate, level, seed)
        if interval is None:
            reason = "no interval: the correlations of all resamples are equal"
    elif correlation is not None:
        reason = "no interval: the categories are those of the suite, not a sample of any"
    return MetricAgreement(
        metric=metric,
        model_a=str(names[0]),
        model_b=str(names[1]),
        question=str(names[2]),
        category=category,
        over=over,
        correlation=correlation,
        interval=interval,
        same_side=_same_side(difference, win_rate),
        mean_difference=float(difference.mean()) if len(known) else None,
        win_rate=float(win_rate.mean()) if len(known) else None,
        num_prompts=len(known),
        reason=reason,
    )


def _spearman(difference: Floats, win_rate: Floats, over: Unit) -> tuple[float | None, str]:
    """Return the correlation, or the reason why there is none."""
    from scipy.stats import rankdata

    if len(difference) < MIN_UNITS:
        return None, f"{len(difference)} {over}, at least {MIN_UNITS} are needed"
    if np.ptp(difference) == 0 or np.ptp(win_rate) == 0:
        return None, "all score differences, or all win rates, are equal"
    return float(_pearson(rankdata(difference)[None], rankdata(win_rate)[None])[0]), ""


def _spearman_interval(
    difference: Floats, win_rate: Floats, level: float, seed: int
) -> Interval | None:
    from scipy.stats import rankdata

    rng = np.random.default_rng(seed)
    picks = rng.integers(len(difference), size=(RESAMPLES, len(difference)))
    resampled = _pearson(rankdata(difference[picks], axis=1), rankdata(win_rate[picks], axis=1))
    method = "bootstrap over prompts, percentile"
    return percentile_interval(resampled, level=level, method=method)


def _same_side(difference: Floats, win_rate: Floats) -> float | None:
    decided = (difference != 0) & (win_rate != 0.5)
    same = (difference > 0)[decided] == (win_rate > 0.5)[decided]
    return float(same.mean()) if decided.any() else None


def _pearson(x: Floats, y: Floats) -> Floats:
    """Correlate rows; NaN where a row is constant."""
    x = x - x.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: Floats = (x * y).sum(axis=1) / np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    return out
