"""The tables of the report as CSV. Raters appear as numbers, since ids can be personal data."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from drawbench.stats.analysis import Analysis
from drawbench.stats.clustered import Estimate
from drawbench.stats.preference import Preference
from drawbench.votes import csv_text

PREFERENCE_COLUMNS = (
    "raters",
    "model_a",
    "model_b",
    "question",
    "category",
    "pooling",
    "ties",
    "votes",
    "num_raters",
    "num_prompts",
    "share_a",
    "share_a_low",
    "share_a_high",
    "share_tie",
    "share_tie_low",
    "share_tie_high",
    "share_b",
    "share_b_low",
    "share_b_high",
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "standard_error",
    "degrees_of_freedom",
    "p_value",
    "p_value_adjusted",
    "verdict",
    "verdict_adjusted",
    "wilson_low",
    "wilson_high",
    "bootstrap_low",
    "bootstrap_high",
    "method",
)
PROMPT_COLUMNS = (
    "model_a",
    "model_b",
    "question",
    "category",
    "prompt_id",
    "prompt",
    "num_votes",
    "share_a",
    "share_tie",
    "share_b",
    "win_rate",
    "one_sided",
    "disputed",
)
RATER_COLUMNS = (
    "rater",
    "num_votes",
    "num_prompts",
    "median_response_s",
    "same_side",
    "longest_run",
    "agreement",
    "checks_shown",
    "checks_failed",
    "partial",
    "rater_status",
    "simulated",
    "flags",
)


def results_csv(analysis: Analysis) -> str:
    """Write one row per pair, question and category: first all raters, then unflagged ones."""
    analyses = [analysis, *([analysis.filtered] if analysis.filtered else [])]
    rows = [
        _preference_row(part.raters, item) for part in analyses for item in all_preferences(part)
    ]
    return csv_text(PREFERENCE_COLUMNS, rows)


def prompts_csv(analysis: Analysis) -> str:
    """Write one row per pair, question and prompt."""
    rows = analysis.prompts[list(PROMPT_COLUMNS)].astype(object).itertuples(index=False, name=None)
    return csv_text(PROMPT_COLUMNS, rows)


def raters_csv(analysis: Analysis) -> str:
    """Write one row per rater."""
    table = numbered_raters(analysis)
    table["flags"] = table["flags"].map("; ".join)
    rows = table[list(RATER_COLUMNS)].astype(object).itertuples(index=False, name=None)
    return csv_text(RATER_COLUMNS, rows)


def numbered_raters(analysis: Analysis) -> pd.DataFrame:
    """Return the raters of an analysis under numbers instead of ids."""
    table = analysis.quality.copy()
    table.insert(0, "rater", [f"rater {number}" for number in range(1, len(table) + 1)])
    return table


def all_preferences(analysis: Analysis) -> Iterator[Preference]:
    """Yield overall result, category mean and categories of every question and pair."""
    for pair in analysis.pairs:
        for question in pair.questions:
            yield question.overall
            if question.category_mean is not None:
                yield question.category_mean
            yield from question.categories


def _preference_row(raters: str, item: Preference) -> list[object]:
    names = {"a": item.model_a, "b": item.model_b}
    verdict = names.get(item.verdict, "undecided")
    adjusted = names.get(item.adjusted_verdict, "undecided") if item.adjusted_verdict else ""
    bootstrap = item.bootstrap.interval if item.bootstrap else None
    rate = item.win_rate
    return [
        raters,
        item.model_a,
        item.model_b,
        item.question,
        item.category or "all",
        item.pooling,
        item.ties,
        item.num_votes,
        item.num_raters,
        item.num_prompts,
        *_ends(item.share_a),
        *_ends(item.share_tie),
        *_ends(item.share_b),
        *_ends(rate),
        rate.standard_error,
        rate.degrees_of_freedom,
        rate.p_value,
        item.adjusted_p_value,
        verdict,
        adjusted,
        item.wilson.interval.low,
        item.wilson.interval.high,
        bootstrap.low if bootstrap else None,
        bootstrap.high if bootstrap else None,
        rate.interval.method if rate.interval else rate.reason,
    ]


def _ends(estimate: Estimate) -> tuple[float, float | None, float | None]:
    interval = estimate.interval
    return (estimate.value, interval.low if interval else None, interval.high if interval else None)
