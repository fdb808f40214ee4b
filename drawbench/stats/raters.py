"""Rater quality: response times, straight-lining, agreement and side bias.

A flag is a reason to look at a rater, not to exclude one: results of all raters and of the
unflagged ones are reported side by side, and the DrawBench paper excluded nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from drawbench.errors import NoVotesError
from drawbench.stats.clustered import LEVEL, Estimate, estimate_mean, make_layout
from drawbench.stats.preference import CLUSTER_COLUMNS
from drawbench.votes import orient_pairs
from evalkit.core.intervals import check_level

FAILED_STATUSES = ("rejected", "returned", "timed-out", "timed out", "screened out")


@dataclass(frozen=True, kw_only=True)
class QualityRules:
    """Rules by which raters are flagged; chosen before seeing results, and printed with them."""

    min_median_response_s: float = 2.0
    """A faster median response is too fast for looking at sixteen images; one answer is enough."""
    max_same_side: float = 0.95
    """A larger share of answers at one position on the screen is straight-lining."""
    min_votes: int = 10
    """Raters with fewer answers to a question are not flagged for straight-lining."""
    min_checks_right: float = 0.8
    """A smaller share of passed attention checks is flagged; Imagen's COCO study required 0.8."""


@dataclass(frozen=True, kw_only=True)
class SideBias:
    """Preference for the left side, whatever it shows."""

    left_rate: Estimate | None
    """Win rate of the left side with ties as half; 1/2 is no bias."""
    a_on_left: float | None
    """Share of votes with A on the left; should be near 1/2."""
    num_votes: int
    reason: str = ""

    @property
    def biased(self) -> bool:
        """Whether the interval excludes 1/2."""
        interval = self.left_rate.interval if self.left_rate else None
        return interval is not None and not interval.low <= 0.5 <= interval.high


def rater_quality(votes: pd.DataFrame, rules: QualityRules | None = None) -> pd.DataFrame:
    """Return one row per rater: counts, response time, sides, agreement and flags.

    Columns: `rater_id`, `num_votes`, `num_prompts`, `median_response_s`, `same_side` (largest
    share of one position on the screen, for the most uniform question), `longest_run`, `agreement`
    (share of the others' ratings of the same items that are equal, in [0, 1]), `checks_shown`,
    `checks_failed`, `partial`, `rater_status`, `simulated`, `flags` (a tuple of words). Values
    that the votes don't contain are missing.

    Raises:
        NoVotesError: `votes` is empty.
    """
    if votes.empty:
        raise NoVotesError("There are no votes to compute rater quality from.")
    rules = rules or QualityRules()
    table = votes.groupby("rater_id", sort=True).agg(
        num_votes=("answer", "size"), num_prompts=("prompt_id", "nunique")
    )
    table["median_response_s"] = _per_rater(votes, "response_s", "median", table)
    table["same_side"], table["longest_run"] = _straight_lining(votes, rules, table)
    table["agreement"] = _agreement_with_others(votes).reindex(table.index)
    for name in ("checks_shown", "checks_failed"):
        table[name] = _per_rater(votes, name, "max", table)
    for name in ("partial", "simulated"):
        table[name] = _per_rater(votes, name, "max", table).fillna(False).astype(bool)
    table["rater_status"] = _per_rater(votes, "rater_status", "first", table).fillna("").astype(str)
    table["flags"] = [_flags(row, rules) for row in table.itertuples()]
    return table.reset_index()


def filter_raters(votes: pd.DataFrame, quality: pd.DataFrame) -> pd.DataFrame:
    """Return the votes of raters without a flag."""
    clean = quality.loc[quality["flags"].map(len) == 0, "rater_id"]
    return votes[votes["rater_id"].isin(clean)].reset_index(drop=True)


def side_bias(votes: pd.DataFrame, *, level: float = LEVEL) -> SideBias:
    """Test whether the left side wins more often than the right, clustered by raters and prompts.

    Since sides are random, a bias favours neither model; it only costs precision.

    Raises:
        NoVotesError: `votes` is empty.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    if votes.empty:
        raise NoVotesError("There are no votes to test for a side bias.")
    if "left_model" not in votes:
        reason = "sides were not recorded (no column left_model)"
        return SideBias(left_rate=None, a_on_left=None, num_votes=len(votes), reason=reason)
    oriented = orient_pairs(votes)
    side = _displayed(oriented)
    left_score = np.select([side == "left", side == "middle"], [1.0, 0.5], 0.0)
    layout = make_layout(*(oriented[name].to_numpy(dtype=object) for name in CLUSTER_COLUMNS))
    rate = estimate_mean(left_score, np.ones(len(oriented)), layout, level=level)
    a_left = float((oriented["left_model"] == oriented["model_a"]).mean())
    return SideBias(left_rate=rate, a_on_left=a_left, num_votes=len(oriented), reason=rate.reason)


def response_times(votes: pd.DataFrame) -> dict[str, float]:
    """Return the 5th, 50th and 95th percentile of seconds per answer; empty if not recorded."""
    if "response_s" not in votes or votes["response_s"].notna().sum() == 0:
        return {}
    seconds = votes["response_s"].dropna().to_numpy(dtype=np.float64)
    return {
        name: float(np.percentile(seconds, q)) for name, q in (("p5", 5), ("p50", 50), ("p95", 95))
    }


def _displayed(votes: pd.DataFrame) -> pd.Series:
    """Return the position of the chosen answer: left, middle (tie) or right."""
    a_left = votes["left_model"] == votes["model_a"]
    chose_left = (votes["answer"] == "a") == a_left
    side = np.where(votes["answer"] == "tie", "middle", np.where(chose_left, "left", "right"))
    return pd.Series(side, index=votes.index)


def _per_rater(votes: pd.DataFrame, column: str, how: str, table: pd.DataFrame) -> pd.Series:
    if column not in votes:
        return pd.Series(np.nan, index=table.index, dtype=object)
    return votes.groupby("rater_id")[column].agg(how).reindex(table.index)


def _straight_lining(
    votes: pd.DataFrame, rules: QualityRules, table: pd.DataFrame
) -> tuple[pd.Series, pd.Series]:
    """Return the largest share and longest run of one position over well-answered questions."""
    nothing = pd.Series(np.nan, index=table.index)
    if "left_model" not in votes:
        return nothing, nothing
    ordered = votes.assign(side=_displayed(votes))
    if "answered_at" in votes:
        ordered = ordered.sort_values("answered_at", kind="stable")
    keys = ["rater_id", "question"]
    ordered = ordered.sort_values(keys, kind="stable")
    sizes = ordered.groupby(keys).size()
    most_common = ordered.groupby([*keys, "side"]).size().groupby(keys).max()
    changed = ordered[[*keys, "side"]].ne(ordered[[*keys, "side"]].shift()).any(axis=1)
    longest = ordered.groupby([*keys, changed.cumsum()]).size().groupby(keys).max()
    enough = sizes >= rules.min_votes
    share, run = (most_common / sizes)[enough], longest[enough]
    return (
        share.groupby("rater_id").max().reindex(table.index),
        run.groupby("rater_id").max().reindex(table.index),
    )


def _agreement_with_others(votes: pd.DataFrame) -> pd.Series:
    """Compute each rater's mean share of equal ratings among the others' on the same item."""
    oriented = orient_pairs(votes)
    keys = ["question", "prompt_id", "model_a", "model_b"]
    keys += ["item_id"] if "item_id" in votes else []
    others = oriented.groupby(keys)["answer"].transform("size") - 1
    equal = oriented.groupby([*keys, "answer"])["answer"].transform("size") - 1
    share = (equal / others.where(others > 0)).dropna()
    return share.groupby(oriented.loc[share.index, "rater_id"]).mean()


def _checks_right(value: Callable[[str], float]) -> float:
    """Return the share of passed attention checks; one failure counts as all without a total."""
    failed, shown = value("checks_failed"), value("checks_shown")
    return 1 - failed / max(shown, failed, 1) if shown > 0 else float(not failed > 0)


def _flags(row: object, rules: QualityRules) -> tuple[str, ...]:
    def value(name: str) -> float:
        number = getattr(row, name)
        return float("nan") if number is None else float(number)

    checks = {
        "too fast": value("median_response_s") < rules.min_median_response_s,
        "straight-lining": value("same_side") > rules.max_same_side,
        "failed checks": _checks_right(value) < rules.min_checks_right,
        "refused by the platform": str(getattr(row, "rater_status", "")).lower() in FAILED_STATUSES,
    }
    return tuple(name for name, raised in checks.items() if raised)
