"""Interim results of a running study: quotas, win rates, raters, disputed prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from drawbench.exchange.exports import quota_frame, raters_frame, reports_frame, votes_frame
from drawbench.report.study import images_of, rules_of
from drawbench.stats.analysis import Analysis, Options, analyse
from drawbench.store import Store

NUM_DISPUTED = 5

PEEKING_NOTE = (
    "The study is not complete. Intervals are valid for one look at the end: repeated looks, with "
    "a stop as soon as an interval excludes 50 %, are wrong more than 5 % of the time. To see how "
    "often, run: evalkit drawbench plan --looks N."
)


@dataclass(frozen=True, kw_only=True)
class LiveResults:
    """Interim results of a study."""

    quotas: pd.DataFrame
    """Complete ratings by category: `category`, `done`, `in_work`, `open`, `wanted`, `share`."""
    raters: pd.DataFrame
    """One row per rater, with flags from the quality rules."""
    reports: pd.DataFrame
    """Images that raters reported."""
    analysis: Analysis | None
    """None before the first vote on a pair."""

    @property
    def is_complete(self) -> bool:
        """Whether every item has its quota."""
        return bool((self.quotas["done"] == self.quotas["wanted"]).all())


@dataclass(frozen=True, kw_only=True)
class Disputed:
    """A prompt on which raters disagree."""

    prompt: str
    category: str
    question: str
    model_a: str
    model_b: str
    share_a: float
    share_tie: float
    share_b: float
    num_votes: int
    images_a: list[Path]
    images_b: list[Path]


def look(store: Store) -> LiveResults:
    """Compute the interim results of a study."""
    votes = votes_frame(store)
    options = Options(rules=rules_of(store.study), resamples=0)
    analysis = analyse(votes, options=options) if len(votes) else None
    return LiveResults(
        quotas=quotas_by_category(quota_frame(store)),
        raters=_with_quality(raters_frame(store), analysis),
        reports=reports_frame(store),
        analysis=analysis,
    )


def quotas_by_category(quotas: pd.DataFrame) -> pd.DataFrame:
    """Sum complete ratings by category."""
    table = quotas.groupby("category", sort=False)[["done", "in_work", "open", "wanted"]].sum()
    return table.assign(share=table["done"] / table["wanted"]).reset_index()


def win_rate_table(analysis: Analysis) -> pd.DataFrame:
    """Tabulate shares and win rates in percent, overall and by category, with intervals.

    Columns: `pair`, `question`, `where`, `votes`, `prefer_a`, `tie`, `prefer_b`, `win_rate`, `low`,
    `high` (missing without an interval), `verdict`.
    """
    rows = []
    for pair in analysis.pairs:
        for question in pair.questions:
            for item in (question.overall, *question.categories):
                interval = item.win_rate.interval
                is_overall = item is question.overall
                rows.append(
                    {
                        "pair": f"{item.model_a} : {item.model_b}",
                        "question": item.question,
                        "where": "overall" if is_overall else item.category or "",
                        "votes": item.num_votes,
                        "prefer_a": 100 * item.share_a.value,
                        "tie": 100 * item.share_tie.value,
                        "prefer_b": 100 * item.share_b.value,
                        "win_rate": 100 * item.win_rate.value,
                        "low": None if interval is None else 100 * interval.low,
                        "high": None if interval is None else 100 * interval.high,
                        "verdict": item.winner or "undecided",
                    }
                )
    return pd.DataFrame(rows)


def disputed_prompts(store: Store, analysis: Analysis, count: int = NUM_DISPUTED) -> list[Disputed]:
    """Return the prompts on which raters disagree most, each prompt once."""
    table = analysis.prompts[analysis.prompts["num_votes"] > 1]
    table = table.sort_values(["disputed", "num_votes"], ascending=False, kind="stable")
    table = table[table["disputed"] > 0].drop_duplicates("prompt_id").head(count)
    return [
        Disputed(
            prompt=row["prompt"],
            category=row["category"],
            question=row["question"],
            model_a=row["model_a"],
            model_b=row["model_b"],
            share_a=row["share_a"],
            share_tie=row["share_tie"],
            share_b=row["share_b"],
            num_votes=row["num_votes"],
            images_a=list(images_of(store.study, row["prompt_id"], row["model_a"])),
            images_b=list(images_of(store.study, row["prompt_id"], row["model_b"])),
        )
        for row in table.to_dict("records")
    ]


def _with_quality(raters: pd.DataFrame, analysis: Analysis | None) -> pd.DataFrame:
    if analysis is None:
        return raters.assign(flags="")
    quality = analysis.quality[["rater_id", "median_response_s", "same_side", "agreement", "flags"]]
    quality = quality.assign(flags=quality["flags"].map(", ".join))
    merged = raters.merge(quality, on="rater_id", how="left")
    return merged.assign(flags=merged["flags"].fillna(""))
