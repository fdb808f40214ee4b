"""Preferences between two models: shares, win rates and verdicts, as DrawBench reports them.

Saharia et al. 2022 (section 4.3, appendix C) print the shares of votes for A, for neither and for
B, with 95 % intervals of an unstated method. Here every interval generalises over raters and
prompts; the interval of pooled votes is reported next to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from drawbench.errors import NoVotesError, VotesError
from drawbench.stats.bootstrap import RESAMPLES, TwoWayResampler, percentile_interval
from drawbench.stats.clustered import LEVEL, Estimate, Pooling, estimate_mean, make_layout
from drawbench.stats.effective import Floats
from drawbench.votes import orient_pairs
from evalkit.core.intervals import check_level, wilson_interval
from evalkit.core.registry import require
from evalkit.core.results import Interval

TieRule = Literal["half", "drop"]
Verdict = Literal["a", "b", "undecided"]
ConclusionKind = Literal["decided", "partly decided", "split", "undecided"]

SAME_WIDTH = 0.05  # intervals whose widths differ by less are "about as wide"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Another interval for the same win rate, and how its width compares."""

    interval: Interval
    width_ratio: float | None
    """Ratio of its width to that of the cluster-robust interval."""
    note: str
    """Too narrow, too wide or about as wide, and why."""


@dataclass(frozen=True, kw_only=True)
class Preference:
    """The preference between two models on one question."""

    model_a: str
    model_b: str
    question: str
    category: str | None
    """None for all categories."""
    pooling: Pooling
    """Pooling of categories: by "votes", or the unweighted mean of "categories"."""
    ties: TieRule
    """"half": a tie is half a win for each; "drop": the win rate leaves ties out."""
    share_a: Estimate
    share_tie: Estimate
    share_b: Estimate
    win_rate: Estimate
    """Win rate of A; higher is better for A, 1/2 is a draw."""
    num_votes: int
    num_raters: int
    num_prompts: int
    wilson: Comparison
    bootstrap: Comparison | None = None
    adjusted_p_value: float | None = None
    """Corrected for the number of categories (Holm 1979)."""
    adjusted_verdict: Verdict | None = None

    @property
    def verdict(self) -> Verdict:
        """The better model if the interval of the win rate excludes 1/2."""
        return verdict_of(self.win_rate.interval)

    @property
    def winner(self) -> str | None:
        """The model that the verdict names."""
        return {"a": self.model_a, "b": self.model_b}.get(self.verdict)


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The conclusion over all questions: one model wins, or none."""

    kind: ConclusionKind
    winner: str | None
    """Set only if every question decides for it; since all must agree, no correction is needed."""
    sentence: str


@dataclass(frozen=True, kw_only=True)
class QuestionResult:
    """One question on one pair: overall and by category."""

    overall: Preference
    category_mean: Preference | None
    """The unweighted mean of the categories; None for fewer than two."""
    categories: tuple[Preference, ...]


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """All questions on one pair of models."""

    model_a: str
    model_b: str
    questions: tuple[QuestionResult, ...]
    conclusion: Conclusion


def preference(
    votes: pd.DataFrame,
    *,
    ties: TieRule = "half",
    pooling: Pooling = "votes",
    level: float = LEVEL,
    resamples: int = 0,
    seed: int = 0,
) -> Preference:
    """Compute the share of votes for model A as DrawBench does (Saharia et al. 2022, app. C).

    Votes of one rater, and votes on one prompt, are correlated, so the interval is
    cluster-robust over both; a binomial interval on pooled votes is too narrow.

    Args:
        votes: Votes on one question and one pair of models; see `drawbench.votes`.
        ties: "half" gives half a win to each side, "drop" leaves ties out of the win rate.
        pooling: "votes" weights votes equally, "categories" is their unweighted mean.
        level: Of the intervals.
        resamples: Of the additional two-way bootstrap; 0 skips it.
        seed: Of the bootstrap.

    Returns:
        Shares in [0, 1] that sum to 1, each with an interval; a higher win rate is better for
        model A.

    Raises:
        NoVotesError: `votes` is empty, or contains only ties and `ties="drop"`.
        VotesError: `votes` contains more than one question or pair.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    if votes.empty:
        raise NoVotesError("There are no votes to compute a preference from.")
    votes = orient_pairs(votes)
    for name in ("model_a", "model_b", "question"):
        if votes[name].nunique() > 1:
            seen = ", ".join(sorted(votes[name].unique()))
            raise VotesError(f"Expected one {name}, got {seen}. Compute each on its own votes.")
    first = votes.iloc[0]
    categories = votes["category"].unique()
    scores = answer_scores(votes["answer"].to_numpy(dtype=object))
    layout = make_layout(*(votes[name].to_numpy(dtype=object) for name in CLUSTER_COLUMNS))
    if ties == "drop" and scores.tie.all():
        raise NoVotesError(
            f"{first['model_a']} against {first['model_b']}, question {first['question']!r}: all "
            f"{len(votes)} votes are ties, and ties are dropped. Count ties as half a win instead "
            "(--ties half)."
        )
    numerator, denominator = win_terms(scores, ties)
    win_rate = estimate_mean(numerator, denominator, layout, pooling=pooling, level=level)
    ones = np.ones(len(votes))
    shares = [
        estimate_mean(share, ones, layout, pooling=pooling, level=level)
        for share in (scores.a, scores.tie, scores.b)
    ]
    resampled = None
    if resamples:
        resampler = TwoWayResampler(layout, resamples=resamples, seed=seed)
        means = resampler.means(numerator, denominator, pooling=pooling)
        resampled = percentile_interval(means, level=level, method=resampler.method)
    return Preference(
        model_a=first["model_a"],
        model_b=first["model_b"],
        question=first["question"],
        category=str(categories[0]) if len(categories) == 1 and categories[0] else None,
        pooling=pooling,
        ties=ties,
        share_a=shares[0],
        share_tie=shares[1],
        share_b=shares[2],
        win_rate=win_rate,
        num_votes=len(votes),
        num_raters=layout.num_raters,
        num_prompts=layout.num_prompts,
        wilson=_wilson(win_rate, float(denominator.sum()), level),
        bootstrap=None if resampled is None else _compare(resampled, win_rate, _BOOTSTRAP_NOTES),
    )


CLUSTER_COLUMNS = ("rater_id", "prompt_id", "category")


def preferences(
    votes: pd.DataFrame,
    *,
    ties: TieRule = "half",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[PairResult, ...]:
    """Compute preferences for every pair and question, overall and by category, and conclusions.

    Arguments and errors are those of `preference`.
    """
    options = {"ties": ties, "level": level, "resamples": resamples, "seed": seed}
    results = []
    for (model_a, model_b), of_pair in split_pairs(votes):
        questions = tuple(
            _question(of_question, options)
            for _, of_question in of_pair.groupby("question", sort=False)
        )
        conclusion = conclude([question.overall for question in questions])
        results.append(
            PairResult(model_a=model_a, model_b=model_b, questions=questions, conclusion=conclusion)
        )
    return tuple(results)


def split_pairs(votes: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    """Yield the votes on each pair of models, in alphabetical order of pairs."""
    if votes.empty:
        raise NoVotesError("There are no votes to compute a preference from.")
    oriented = orient_pairs(votes).sort_values("question", kind="stable")
    for pair, of_pair in oriented.groupby(["model_a", "model_b"], sort=True):
        yield (str(pair[0]), str(pair[1])), of_pair


@dataclass(frozen=True)
class Scores:
    """Encode answers as numbers, one element per vote."""

    a: Floats
    tie: Floats
    b: Floats


def answer_scores(answers: np.ndarray) -> Scores:
    """Return indicators of the answers A, tie and B."""
    return Scores(*((answers == answer).astype(float) for answer in ("a", "tie", "b")))


def win_terms(scores: Scores, ties: TieRule) -> tuple[Floats, Floats]:
    """Return each vote's win for A and its weight."""
    if ties == "half":
        return scores.a + scores.tie / 2, np.ones_like(scores.a)
    return scores.a, 1 - scores.tie


def verdict_of(interval: Interval | None) -> Verdict:
    """Return A, B, or undecided where the interval contains 1/2 or is missing."""
    if interval is None or interval.low <= 0.5 <= interval.high:
        return "undecided"
    return "a" if interval.low > 0.5 else "b"


def conclude(questions: Sequence[Preference]) -> Conclusion:
    """Combine the verdicts of all questions on one pair.

    A model wins if every question decides for it. If questions decide for different models, the
    verdict is split: both are reported and neither model wins.
    """
    winners = {item.question: item.winner for item in questions}
    decided = {name for name in winners.values() if name}
    verdicts = "; ".join(f"{question}: {name or 'undecided'}" for question, name in winners.items())
    if len(decided) > 1:
        sentence = f"Split verdict, so neither model wins ({verdicts})."
        return Conclusion(kind="split", winner=None, sentence=sentence)
    if not decided:
        return Conclusion(kind="undecided", winner=None, sentence=f"Undecided ({verdicts}).")
    name = decided.pop()
    if None in winners.values():
        sentence = (
            f"{name} leads, but not every question is decided, so no model wins ({verdicts})."
        )
        return Conclusion(kind="partly decided", winner=None, sentence=sentence)
    number = len(winners)
    ending = {1: "the question asked", 2: "both questions"}.get(number, f"all {number} questions")
    return Conclusion(
        kind="decided", winner=name, sentence=f"{name} wins on {ending} ({verdicts})."
    )


def adjust_for_categories(
    categories: Sequence[Preference], *, level: float = LEVEL
) -> tuple[Preference, ...]:
    """Correct p-values and verdicts for the number of categories (Holm 1979)."""
    check_level(level)
    known = {item.category: p for item in categories if (p := item.win_rate.p_value) is not None}
    if not known:
        return tuple(categories)
    corrected = dict(zip(known, holm(list(known.values())), strict=True))
    return tuple(_with_adjusted(item, corrected.get(item.category), level) for item in categories)


def _with_adjusted(item: Preference, p_value: float | None, level: float) -> Preference:
    if p_value is None:
        return item
    direction: Verdict = "a" if item.win_rate.value > 0.5 else "b"
    verdict: Verdict = direction if p_value < 1 - level else "undecided"
    return replace(item, adjusted_p_value=p_value, adjusted_verdict=verdict)


def _question(votes: pd.DataFrame, options: dict[str, Any]) -> QuestionResult:
    overall = replace(preference(votes, **options), category=None)
    if votes["category"].nunique() < 2:
        return QuestionResult(overall=overall, category_mean=None, categories=())
    categories = []
    for name, of_category in votes.groupby("category", sort=True):
        if options["ties"] == "drop" and (of_category["answer"] == "tie").all():
            continue
        categories.append(replace(preference(of_category, **options), category=str(name)))
    return QuestionResult(
        overall=overall,
        category_mean=_category_mean(votes, options),
        categories=adjust_for_categories(categories, level=options["level"]),
    )


def _category_mean(votes: pd.DataFrame, options: dict[str, Any]) -> Preference | None:
    """Return None for a category of only ties that are dropped, since it has no win rate."""
    only_ties = (votes["answer"] == "tie").groupby(votes["category"]).all()
    if options["ties"] == "drop" and only_ties.any():
        return None
    return replace(preference(votes, pooling="categories", **options), category=None)


_WILSON_NOTES = {
    "narrower": "too narrow: it takes every vote for independent of the others",
    "wider": "wider here: ties vary less than the wins and losses that it assumes",
}
_BOOTSTRAP_NOTES = {
    "narrower": "narrower here",
    "wider": "too wide: it counts the noise of single votes more than once",
}


def _wilson(win_rate: Estimate, n: float, level: float) -> Comparison:
    low, high = wilson_interval(win_rate.value, n, level=level)
    interval = Interval(low=low, high=high, level=level, method="Wilson on pooled votes")
    return _compare(interval, win_rate, _WILSON_NOTES)


def _compare(interval: Interval, win_rate: Estimate, notes: dict[str, str]) -> Comparison:
    reference = win_rate.interval
    if reference is None or reference.high == reference.low:
        return Comparison(interval=interval, width_ratio=None, note="nothing to compare it with")
    ratio = (interval.high - interval.low) / (reference.high - reference.low)
    note = notes["narrower" if ratio < 1 else "wider"]
    if abs(ratio - 1) <= SAME_WIDTH:
        note = "about as wide"
    return Comparison(interval=interval, width_ratio=ratio, note=note)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number by Holm's step-down method (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    multitest = require("statsmodels.stats.multitest", extra="study", what="Holm's correction")
    return [float(p) for p in multitest.multipletests(list(p_values), method="holm")[1]]
