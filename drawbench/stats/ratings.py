"""Ratings of single sets, such as "does the caption describe the image: yes, somewhat, no".

Imagen's COCO study asks this about each model and the real images, and reports the mean of 100, 50
and 0 (Saharia et al. 2022, section 4.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.clustered import LEVEL, Floats, estimate_mean, make_layout
from drawbench.stats.preference import CLUSTER_COLUMNS
from evalkit.core.intervals import check_level
from evalkit.core.results import Interval, ResultRecord

COLUMNS = (*CLUSTER_COLUMNS, "model", "question", "answer", "score")


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


def mean_ratings(ratings: pd.DataFrame, *, level: float = LEVEL) -> tuple[MeanRating, ...]:
    """Compute mean scores by question and model, cluster-robust over raters and prompts.

    Args:
        ratings: One row per answer: `rater_id`, `prompt_id`, `category`, `model`, `question`,
            `answer`, `score`. Questions without scores are left out.
        level: Of the intervals.

    Raises:
        NoVotesError: There is no answer with a score.
        VotesError: A column is missing.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    missing = [name for name in COLUMNS if name not in ratings]
    if missing:
        raise VotesError(
            f"ratings: column {missing[0]!r} is missing. Expected {', '.join(COLUMNS)}."
        )
    scored = ratings[pd.to_numeric(ratings["score"], errors="coerce").notna()]
    if scored.empty:
        raise NoVotesError("No rating has a score, so there is no mean.")
    return tuple(_means(scored, level))


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


def _means(scored: pd.DataFrame, level: float) -> Iterator[MeanRating]:
    for question, of_question in scored.groupby("question", sort=True):
        every_score = of_question["score"].to_numpy(dtype=np.float64)
        low, high = float(every_score.min()), float(every_score.max())
        for model, part in of_question.groupby("model", sort=True):
            yield _mean(str(model), str(question), part, (low, high), level)


def _mean(
    model: str, question: str, part: pd.DataFrame, ends: tuple[float, float], level: float
) -> MeanRating:
    """Estimate a mean: scores are scaled to [0, 1] like shares, and the result back."""
    low, span = ends[0], (ends[1] - ends[0]) or 1.0
    unit_scores: Floats = (part["score"].to_numpy(dtype=np.float64) - low) / span
    layout = make_layout(*(part[name].to_numpy(dtype=object) for name in CLUSTER_COLUMNS))
    found = estimate_mean(unit_scores, np.ones(len(part)), layout, level=level)
    interval = found.interval and Interval(
        low=low + span * found.interval.low,
        high=low + span * found.interval.high,
        level=level,
        method=found.interval.method,
    )
    return MeanRating(
        model=model,
        question=question,
        value=low + span * found.value,
        standard_error=None if found.standard_error is None else span * found.standard_error,
        interval=interval,
        reason=found.reason,
        answers={str(k): float(v) for k, v in part["answer"].value_counts(normalize=True).items()},
        num_votes=len(part),
        num_raters=layout.num_raters,
        num_prompts=layout.num_prompts,
    )
