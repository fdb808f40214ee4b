"""The complete analysis of a table of votes, also as result records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from drawbench.stats.agreement import Agreement, MetricAgreement, agreement, metric_agreement
from drawbench.stats.bootstrap import RESAMPLES
from drawbench.stats.clustered import LEVEL, Estimate
from drawbench.stats.preference import PairResult, Preference, TieRule, preferences
from drawbench.stats.ranking import Model, Ranking, rank
from drawbench.stats.raters import (
    QualityRules,
    SideBias,
    filter_raters,
    rater_quality,
    response_times,
    side_bias,
)
from drawbench.stats.transitivity import Transitivity, transitivity
from drawbench.votes import orient_pairs, validate_votes, votes_sha256
from evalkit.core.intervals import check_level
from evalkit.core.results import Interval, ResultRecord

WIN_RATE = "drawbench-win-rate"
ALL_RATERS = "all"
UNFLAGGED_RATERS = "unflagged"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that could change a result, chosen before seeing it."""

    ties: TieRule = "half"
    level: float = LEVEL
    resamples: int = RESAMPLES
    """Resamples of the additional two-way bootstrap; 0 skips it."""
    seed: int = 0
    rules: QualityRules = field(default_factory=QualityRules)

    def __post_init__(self) -> None:
        check_level(self.level)


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The analysis of a study's votes."""

    options: Options
    raters: str
    """"all", or "unflagged" for the votes of raters that no rule flagged."""
    votes_sha256: str
    num_votes: int
    num_raters: int
    num_prompts: int
    num_simulated: int
    """Number of simulated votes."""
    num_partial_raters: int
    pairs: tuple[PairResult, ...]
    rankings: tuple[Ranking, ...]
    transitivity: tuple[Transitivity, ...]
    """Intransitive triples by question; none for fewer than three models."""
    agreements: tuple[Agreement, ...]
    side_bias: SideBias
    response_s: Mapping[str, float]
    quality: pd.DataFrame
    """One row per rater, see `rater_quality`."""
    prompts: pd.DataFrame
    """One row per pair, question and prompt, see `prompt_results`."""
    metrics: tuple[MetricAgreement, ...] = ()
    filtered: Analysis | None = None
    """The same for unflagged raters; None if no rater or every rater is flagged."""

    @property
    def simulated(self) -> bool:
        """Whether any vote is simulated."""
        return self.num_simulated > 0

    @property
    def num_flagged(self) -> int:
        """Number of flagged raters."""
        return int((self.quality["flags"].map(len) > 0).sum())


def analyse(
    votes: pd.DataFrame,
    *,
    options: Options | None = None,
    scores: Mapping[str, pd.DataFrame] | None = None,
) -> Analysis:
    """Analyse votes, for all raters and for unflagged raters.

    Args:
        votes: A table of votes, see `drawbench.votes`.
        options: Tie rule, level, seeds, rules.
        scores: Automatic scores by metric, see `metric_agreement`.

    Raises:
        VotesError: The table is not a valid table of votes.
        NoVotesError: It is empty, or ties are dropped and nothing else is left.
    """
    votes = validate_votes(votes)
    options = options or Options()
    quality = rater_quality(votes, options.rules)
    kept = filter_raters(votes, quality)
    filtered = None
    if 0 < len(kept) < len(votes):
        filtered = _analyse(kept, options, rater_quality(kept, options.rules), {}, UNFLAGGED_RATERS)
    return _analyse(votes, options, quality, scores or {}, ALL_RATERS, filtered)


def prompt_results(votes: pd.DataFrame) -> pd.DataFrame:
    """Tabulate answers by pair, question and prompt.

    Columns: `model_a`, `model_b`, `question`, `category`, `prompt_id`, `prompt`, `num_votes`,
    `share_a`, `share_tie`, `share_b`, `win_rate`, `one_sided` (distance of the win rate from 1/2,
    doubled, in [0, 1]), `disputed` (four times the product of both shares: 1 if half prefer each,
    0 if nobody disagrees).
    """
    oriented = orient_pairs(votes)
    keys = ["model_a", "model_b", "question", "category", "prompt_id"]
    counts = oriented.groupby([*keys, "answer"]).size().unstack(fill_value=0)
    counts = counts.reindex(columns=["a", "tie", "b"], fill_value=0)
    total = counts.sum(axis=1)
    table = counts.div(total, axis=0).add_prefix("share_").assign(num_votes=total).reset_index()
    table["win_rate"] = table["share_a"] + table["share_tie"] / 2
    table["one_sided"] = (2 * table["win_rate"] - 1).abs()
    table["disputed"] = 4 * table["share_a"] * table["share_b"]
    texts = dict(zip(votes["prompt_id"], votes["prompt"], strict=True)) if "prompt" in votes else {}
    table["prompt"] = [texts.get(prompt_id, "") for prompt_id in table["prompt_id"]]
    return table


def records(analysis: Analysis) -> list[ResultRecord]:
    """Convert all numbers to result records; those of unflagged raters follow, marked as such."""
    own = [
        *_win_rates(analysis),
        *_rankings(analysis),
        *_intransitive(analysis),
        *_agreements(analysis),
        _side_bias(analysis),
        *_metrics(analysis),
    ]
    return own + (records(analysis.filtered) if analysis.filtered else [])


def _analyse(
    votes: pd.DataFrame,
    options: Options,
    quality: pd.DataFrame,
    scores: Mapping[str, pd.DataFrame],
    raters: str,
    filtered: Analysis | None = None,
) -> Analysis:
    simulated = votes["simulated"] if "simulated" in votes else pd.Series(False, index=votes.index)
    pairs = preferences(
        votes,
        ties=options.ties,
        level=options.level,
        resamples=options.resamples,
        seed=options.seed,
    )
    metrics = [
        item
        for name, table in scores.items()
        for item in metric_agreement(
            votes, table, metric=name, level=options.level, seed=options.seed
        )
    ]
    return Analysis(
        options=options,
        raters=raters,
        votes_sha256=votes_sha256(votes),
        num_votes=len(votes),
        num_raters=votes["rater_id"].nunique(),
        num_prompts=votes["prompt_id"].nunique(),
        num_simulated=int(simulated.sum()),
        num_partial_raters=int(quality["partial"].sum()),
        pairs=pairs,
        rankings=tuple(_rank_all(votes, options)),
        transitivity=tuple(_triples(votes, options)),
        agreements=tuple(_agree_all(votes, options)),
        side_bias=side_bias(votes, level=options.level),
        response_s=response_times(votes),
        quality=quality,
        prompts=prompt_results(votes),
        metrics=tuple(metrics),
        filtered=filtered,
    )


def _triples(votes: pd.DataFrame, options: Options) -> Iterator[Transitivity]:
    if _num_models(votes) > 2:
        for _, of_question in votes.groupby("question", sort=True):
            yield transitivity(of_question, level=options.level)


def _num_models(votes: pd.DataFrame) -> int:
    return len({*votes["model_a"], *votes["model_b"]})


def _rank_all(votes: pd.DataFrame, options: Options) -> Iterator[Ranking]:
    """Select rankings: for a single pair only the one that models ties adds to the win rate."""
    kinds: tuple[Model, ...] = ("bradley-terry", "davidson", "elo")
    for _, of_question in votes.groupby("question", sort=True):
        for kind in kinds if _num_models(votes) > 2 else ("davidson",):
            yield rank(of_question, kind=kind, level=options.level, seed=options.seed)


def _agree_all(votes: pd.DataFrame, options: Options) -> Iterator[Agreement]:
    for _, of_question in votes.groupby("question", sort=True):
        yield agreement(of_question, level=options.level, seed=options.seed)
        if of_question["category"].nunique() > 1:
            for _, part in of_question.groupby("category", sort=True):
                yield agreement(part, level=options.level, seed=options.seed)


def _fingerprint(analysis: Analysis, **more: Any) -> dict[str, Any]:
    options = analysis.options
    return {
        "votes_sha256": analysis.votes_sha256,
        "raters": analysis.raters,
        "ties": options.ties,
        "num_raters": analysis.num_raters,
        "num_prompts": analysis.num_prompts,
        "simulated": analysis.simulated,
        "quality_rules": asdict(options.rules),
        **more,
    }


def _win_rates(analysis: Analysis) -> Iterator[ResultRecord]:
    for pair in analysis.pairs:
        for question in pair.questions:
            parts = [question.overall, question.category_mean, *question.categories]
            for item in parts:
                if item is not None:
                    yield _win_rate(analysis, item, pair)


def _win_rate(analysis: Analysis, item: Preference, pair: PairResult) -> ResultRecord:
    estimate = item.win_rate
    fingerprint = _fingerprint(
        analysis,
        question=item.question,
        category=item.category,
        pooling=item.pooling,
        interval_method=estimate.interval.method if estimate.interval else None,
        generalises_to=list(estimate.generalises_to),
        fixed=["categories", "models", "questions"],
        bootstrap_resamples=analysis.options.resamples,
        seed=analysis.options.seed,
    )
    details = {
        "model_a": item.model_a,
        "model_b": item.model_b,
        "verdict": item.winner or "undecided",
        "share_a": _share(item.share_a),
        "share_tie": _share(item.share_tie),
        "share_b": _share(item.share_b),
        "num_raters": item.num_raters,
        "num_prompts": item.num_prompts,
        "p_value": estimate.p_value,
        "degrees_of_freedom": estimate.degrees_of_freedom,
        "effective_votes": estimate.effective_votes,
        "wilson": asdict(item.wilson),
        "bootstrap": asdict(item.bootstrap) if item.bootstrap else None,
    }
    if item.adjusted_p_value is not None:
        details["p_value_adjusted"] = item.adjusted_p_value
        details["verdict_adjusted"] = {"a": item.model_a, "b": item.model_b}.get(
            item.adjusted_verdict or "", "undecided"
        )
    if item.category is None and item.pooling == "votes":
        details["conclusion"] = asdict(pair.conclusion)
    return ResultRecord(
        metric=WIN_RATE,
        value=estimate.value,
        n=item.num_votes,
        direction="higher",
        interval=estimate.interval,
        standard_error=estimate.standard_error,
        reason=estimate.reason,
        subject=f"{item.model_a} against {item.model_b}",
        fingerprint=fingerprint,
        details=details,
    )


def _share(estimate: Estimate) -> dict[str, Any]:
    interval: Interval | None = estimate.interval
    return {
        "value": estimate.value,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
    }


def _rankings(analysis: Analysis) -> Iterator[ResultRecord]:
    for ranking in analysis.rankings:
        metric = f"drawbench-{ranking.kind}"
        fingerprint = _fingerprint(analysis, question=ranking.question, seed=analysis.options.seed)
        fingerprint["ties"] = "modelled" if ranking.kind == "davidson" else "half"
        fingerprint["generalises_to"] = list(ranking.generalises_to)
        differences = [asdict(item) for item in ranking.differences]
        if not ranking.models:
            yield ResultRecord(
                metric=metric,
                value=None,
                n=0,
                direction="higher",
                unit="Elo points",
                state="not_applicable",
                reason=ranking.reason,
                fingerprint=fingerprint,
            )
        for place in ranking.models:
            yield ResultRecord(
                metric=metric,
                value=place.points,
                n=place.num_votes,
                direction="higher",
                unit="Elo points",
                interval=place.interval,
                standard_error=place.standard_error,
                subject=place.model,
                fingerprint=fingerprint,
                details={
                    "best_rank": place.best_rank,
                    "worst_rank": place.worst_rank,
                    "converged": ranking.converged,
                    "iterations": ranking.iterations,
                    "tie_parameter": ranking.tie_parameter,
                    "rank_volatility": place.rank_volatility,
                    "differences": [
                        item
                        for item in differences
                        if place.model in (item["model_a"], item["model_b"])
                    ],
                },
            )
        for left_out in ranking.unranked:
            yield ResultRecord(
                metric=metric,
                value=None,
                n=left_out.num_votes,
                direction="higher",
                unit="Elo points",
                state="not_applicable",
                reason=f"not ranked: {left_out.reason}",
                subject=left_out.model,
                fingerprint=fingerprint,
            )


def _intransitive(analysis: Analysis) -> Iterator[ResultRecord]:
    for item in analysis.transitivity:
        cycles = len(item.intransitive)
        yield ResultRecord(
            metric="drawbench-intransitive-triples",
            value=cycles / item.num_triples if item.num_triples else None,
            n=item.num_triples,
            direction="none",
            state="ok" if item.num_triples else "not_applicable",
            reason="no interval: a description of these votes"
            if item.num_triples
            else "no three models were all compared with one another",
            subject="models",
            fingerprint=_fingerprint(analysis, question=item.question, ties="half"),
            details={
                "intransitive": cycles,
                "beyond_chance": item.num_beyond_chance,
                "triples": [asdict(triple) for triple in item.intransitive],
            },
        )


def _agreements(analysis: Analysis) -> Iterator[ResultRecord]:
    for item in analysis.agreements:
        fingerprint = _fingerprint(
            analysis, question=item.question, category=item.category, seed=analysis.options.seed
        )
        reason = item.reason or "no interval: it needs two prompts that differ in agreement"
        yield ResultRecord(
            metric="krippendorff-alpha",
            value=item.alpha,
            n=item.num_items,
            direction="higher",
            interval=item.alpha_interval,
            state="ok" if item.alpha is not None else "not_applicable",
            reason="" if item.alpha_interval else reason,
            subject="raters",
            fingerprint={**fingerprint, "measurement": "ordinal"},
            details={
                "nominal": item.alpha_nominal,
                "equal_pairs": item.percent,
                "items_with_one_rating": item.num_single,
            },
        )
        yield ResultRecord(
            metric="fleiss-kappa",
            value=item.kappa,
            n=item.num_items,
            direction="higher",
            state="ok" if item.kappa is not None else "not_applicable",
            reason=item.reason or "no interval: see that of krippendorff-alpha",
            subject="raters",
            fingerprint=fingerprint,
        )


def _side_bias(analysis: Analysis) -> ResultRecord:
    bias = analysis.side_bias
    rate = bias.left_rate
    return ResultRecord(
        metric="drawbench-left-rate",
        value=rate.value if rate else None,
        n=bias.num_votes,
        direction="none",
        interval=rate.interval if rate else None,
        standard_error=rate.standard_error if rate else None,
        state="ok" if rate else "not_applicable",
        reason=bias.reason,
        subject="raters",
        fingerprint=_fingerprint(analysis, ties="half"),
        details={"biased": bias.biased, "a_on_left": bias.a_on_left},
    )


def _metrics(analysis: Analysis) -> Iterator[ResultRecord]:
    for item in analysis.metrics:
        yield ResultRecord(
            metric=f"{item.metric}-against-people",
            value=item.correlation,
            n=item.num_prompts,
            direction="higher",
            interval=item.interval,
            state="ok" if item.correlation is not None else "not_applicable",
            reason=item.reason,
            subject=f"{item.model_a} against {item.model_b}",
            fingerprint=_fingerprint(
                analysis,
                question=item.question,
                category=item.category,
                over=item.over,
                seed=analysis.options.seed,
            ),
            details={
                "statistic": f"Spearman correlation over {item.over}",
                "same_side": item.same_side,
                "mean_difference": item.mean_difference,
                "win_rate": item.win_rate,
            },
        )
