"""Ratings of single sets, such as "does the caption describe the image: yes, somewhat, no".

Imagen's COCO study asks this about each model and the real images, and reports the mean of 100, 50
and 0 (Saharia et al. 2022, section 4.3).

Scores are scaled to [0, 1] by the lowest and the highest score that the question offers, whether
given or not, and treated like win rates (`drawbench.stats.clustered`), so a mean at the end of the
scale has an interval with a width. Two models are compared on the prompts that
both were rated on. Raters and prompts that rate or show both are one cluster, so what they have in
common cancels: the test is paired wherever the design is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.clustered import LEVEL, Estimate, Layout, Pooling, estimate_mean, make_layout
from drawbench.stats.effective import Floats
from drawbench.stats.preference import CLUSTER_COLUMNS, holm
from evalkit.core.intervals import check_level
from evalkit.core.results import Interval, ResultRecord

COLUMNS = (*CLUSTER_COLUMNS, "model", "question", "answer", "score")

Scale = tuple[float, float]
"""Lowest and highest score that a question offers."""


@dataclass(frozen=True, kw_only=True)
class MeanRating:
    """The mean score of one model on one question."""

    model: str
    question: str
    value: float
    """Mean in the unit of the scores; higher is better."""
    standard_error: float | None
    interval: Interval | None
    reason: str
    """The reason if there is no interval."""
    answers: Mapping[str, float]
    """Share of each answer, in [0, 1]."""
    num_votes: int
    num_raters: int
    num_prompts: int


@dataclass(frozen=True, kw_only=True)
class RatingDifference:
    """The difference of two models' mean scores on one question, in a paired test."""

    model_a: str
    model_b: str
    question: str
    value: float
    """Mean of A less mean of B, in the unit of the scores; above 0 is better for A."""
    standard_error: float | None
    interval: Interval | None
    reason: str
    """The reason if there is no interval."""
    p_value: float | None
    """Two-sided, for no difference."""
    adjusted_p_value: float | None
    """Corrected for the number of all differences (Holm 1979)."""
    num_votes: int
    """Ratings of either model on the shared prompts."""
    num_prompts: int
    """Prompts on which both models were rated."""

    @property
    def better(self) -> str | None:
        """The model whose mean is higher, if the interval excludes 0."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return None
        return self.model_a if self.value > 0 else self.model_b


def mean_ratings(
    ratings: pd.DataFrame, *, scales: Mapping[str, Scale] | None = None, level: float = LEVEL
) -> tuple[MeanRating, ...]:
    """Compute mean scores by question and model, cluster-robust over raters and prompts.

    Args:
        ratings: One row per answer: `rater_id`, `prompt_id`, `category`, `model`, `question`,
            `answer`, `score`. Questions without scores are left out.
        scales: Lowest and highest offered score by question. For a question without one, they are
            the lowest and the highest given score, and the interval can't reach beyond them.
        level: Of the intervals.

    Raises:
        NoVotesError: There is no answer with a score.
        VotesError: A column is missing, or a score is outside its scale.
        ConfigError: A level outside (0, 1).
    """
    scored = _scored(ratings, level)
    return tuple(
        _mean(str(model), question, part, scale, level)
        for question, of_question, scale in _by_question(scored, scales or {})
        for model, part in of_question.groupby("model", sort=True)
    )


def rating_differences(
    ratings: pd.DataFrame, *, scales: Mapping[str, Scale] | None = None, level: float = LEVEL
) -> tuple[RatingDifference, ...]:
    """Compare every two models on every question, on the prompts that both were rated on.

    Arguments and errors are those of `mean_ratings`. Models that share no prompt are not compared.
    """
    scored = _scored(ratings, level)
    found = [
        _difference(question, pair, of_question, scale, level)
        for question, of_question, scale in _by_question(scored, scales or {})
        for pair in combinations(sorted(of_question["model"].unique()), 2)
    ]
    differences = [item for item in found if item is not None]
    tested = [item.p_value for item in differences if item.p_value is not None]
    corrected = iter(holm(tested) if tested else [])
    return tuple(
        item if item.p_value is None else replace(item, adjusted_p_value=next(corrected))
        for item in differences
    )


def _scored(ratings: pd.DataFrame, level: float) -> pd.DataFrame:
    check_level(level)
    missing = [name for name in COLUMNS if name not in ratings]
    if missing:
        raise VotesError(
            f"ratings: column {missing[0]!r} is missing. Expected {', '.join(COLUMNS)}."
        )
    scores = pd.to_numeric(ratings["score"], errors="coerce")
    scored = ratings.assign(score=scores)[scores.notna()]
    if scored.empty:
        raise NoVotesError("No rating has a score, so there is no mean.")
    return scored


def _by_question(
    scored: pd.DataFrame, scales: Mapping[str, Scale]
) -> Iterator[tuple[str, pd.DataFrame, Scale]]:
    for question, part in scored.groupby("question", sort=True):
        given = float(part["score"].min()), float(part["score"].max())
        scale = scales.get(str(question), given)
        if given[0] < scale[0] or given[1] > scale[1]:
            raise VotesError(
                f"ratings: question {question!r} has scores from {given[0]:g} to {given[1]:g}, "
                f"outside its scale of {scale[0]:g} to {scale[1]:g}. Correct the scores or the "
                "scale."
            )
        yield str(question), part, scale


def rating_records(
    ratings: tuple[MeanRating, ...], fingerprint: Mapping[str, object]
) -> list[ResultRecord]:
    """Convert mean ratings to result records."""
    return [
        ResultRecord(
            metric="drawbench-mean-rating",
            value=item.value,
            n=item.num_votes,
            direction="higher",
            unit="score",
            interval=item.interval,
            standard_error=item.standard_error,
            reason=item.reason,
            subject=item.model,
            fingerprint={**fingerprint, "question": item.question},
            details={
                "answers": dict(item.answers),
                "num_raters": item.num_raters,
                "num_prompts": item.num_prompts,
            },
        )
        for item in ratings
    ]


def difference_records(
    differences: Sequence[RatingDifference], fingerprint: Mapping[str, object]
) -> list[ResultRecord]:
    """Convert differences of mean ratings to result records."""
    return [
        ResultRecord(
            metric="drawbench-rating-difference",
            value=item.value,
            n=item.num_votes,
            direction="higher",
            unit="score",
            interval=item.interval,
            standard_error=item.standard_error,
            reason=item.reason,
            subject=f"{item.model_a} against {item.model_b}",
            fingerprint={**fingerprint, "question": item.question},
            details={
                "num_prompts": item.num_prompts,
                "p_value": item.p_value,
                "p_value_adjusted": item.adjusted_p_value,
                "num_tests": len(differences),
                "better": item.better or "undecided",
            },
        )
        for item in differences
    ]


def _mean(model: str, question: str, part: pd.DataFrame, scale: Scale, level: float) -> MeanRating:
    """Estimate a mean: scores are scaled to [0, 1] like shares, and the result back."""
    low, span = scale[0], scale[1] - scale[0]
    scores = part["score"].to_numpy(dtype=np.float64)
    layout = make_layout(*(part[name].to_numpy(dtype=object) for name in CLUSTER_COLUMNS))
    found = _estimate((scores - low) / (span or 1.0), layout, "votes", span, level)
    return MeanRating(
        model=model,
        question=question,
        value=low + span * found.value,
        standard_error=None if found.standard_error is None else span * found.standard_error,
        interval=_rescaled(found.interval, low, span),
        reason=found.reason,
        answers={str(k): float(v) for k, v in part["answer"].value_counts(normalize=True).items()},
        num_votes=len(part),
        num_raters=layout.num_raters,
        num_prompts=layout.num_prompts,
    )


def _difference(
    question: str, pair: tuple[str, str], ratings: pd.DataFrame, scale: Scale, level: float
) -> RatingDifference | None:
    """Estimate the mean of A's scaled scores and of B's subtracted from 1.

    It is half the difference of means, plus 1/2, and the models are its strata, each with half of
    the weight.
    """
    prompts = [set(ratings.loc[ratings["model"] == model, "prompt_id"]) for model in pair]
    shared = prompts[0] & prompts[1]
    if not shared:
        return None
    votes = ratings[ratings["model"].isin(pair) & ratings["prompt_id"].isin(shared)]
    low, span = scale[0], scale[1] - scale[0]
    scores = (votes["score"].to_numpy(dtype=np.float64) - low) / (span or 1.0)
    scores = np.where(votes["model"] == pair[0], scores, 1 - scores)
    layout = make_layout(
        *(votes[name].to_numpy(dtype=object) for name in ("rater_id", "prompt_id", "model"))
    )
    found = _estimate(scores, layout, "categories", span, level)
    return RatingDifference(
        model_a=pair[0],
        model_b=pair[1],
        question=question,
        value=span * (2 * found.value - 1),
        standard_error=None if found.standard_error is None else 2 * span * found.standard_error,
        interval=_rescaled(found.interval, -span, 2 * span),
        reason=found.reason,
        p_value=found.p_value,
        adjusted_p_value=None,
        num_votes=len(votes),
        num_prompts=len(shared),
    )


def _estimate(
    unit_scores: Floats, layout: Layout, pooling: Pooling, span: float, level: float
) -> Estimate:
    ones = np.ones(len(unit_scores))
    found = estimate_mean(unit_scores, ones, layout, pooling=pooling, level=level)
    if span > 0:
        return found
    reason = "no interval: all scores are equal, and the scale of the question is not known"
    return replace(found, standard_error=None, interval=None, p_value=None, reason=reason)


def _rescaled(interval: Interval | None, low: float, span: float) -> Interval | None:
    return interval and Interval(
        low=low + span * interval.low,
        high=low + span * interval.high,
        level=interval.level,
        method=interval.method,
    )
