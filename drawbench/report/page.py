"""The HTML report of a study: it renders results, computes nothing and opens offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from drawbench.report import charts
from drawbench.report.card import ReportingCard
from drawbench.report.pictures import SCREENSHOT_PX, Gallery, no_pictures, picture, thumbnails
from drawbench.report.tables import numbered_raters
from drawbench.stats.analysis import Analysis
from drawbench.stats.clustered import Estimate
from drawbench.stats.ranking import Ranking
from drawbench.stats.ratings import MeanRating, RatingDifference
from evalkit.core.results import Interval

TEMPLATE = "page.html.jinja"
NUM_EXAMPLES = 6
"""Number of prompts shown of each kind, one-sided and disputed."""
MIN_VOTES_OF_EXAMPLE = 2
RANKING_NAMES = {
    "bradley-terry": "Bradley-Terry, ties as half a win",
    "davidson": "Davidson, ties modelled",
    "elo": "Elo, averaged over orders of the votes; for comparison only",
}


@dataclass(frozen=True, kw_only=True)
class Context:
    """The content of the page besides the numbers."""

    card: ReportingCard = field(default_factory=ReportingCard)
    gallery: Gallery = no_pictures
    label: str = ""
    """A label at the top of the page, such as "sample study"."""
    source: str = ""
    """Where the votes came from."""
    marks: Sequence[str] = ()
    """Warnings, such as re-ranked images."""
    notes: Sequence[str] = ()
    """Notes on prompts and images."""
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    """What the study adds to every fingerprint: suite, design, selection, images."""
    ratings: Sequence[MeanRating] = ()
    rating_differences: Sequence[RatingDifference] = ()
    simulated_ratings: bool = False
    """Whether any of the ratings is simulated."""
    reported: pd.DataFrame | None = None
    """Images that raters reported, as `drawbench.exchange.exports.reports_frame` lists them."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A one-sided or disputed prompt."""

    prompt_id: str
    prompt: str
    category: str
    question: str
    model_a: str
    model_b: str
    num_votes: int
    shares: tuple[float, float, float]
    pictures_a: list[str]
    pictures_b: list[str]


def render_page(analysis: Analysis, context: Context | None = None) -> str:
    """Render the whole page; the template escapes texts from prompts, models and raters."""
    context = context or Context()
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            analysis=analysis,
            filtered=analysis.filtered,
            card=context.card,
            card_rows=context.card.rows(),
            screenshots=[picture(path, SCREENSHOT_PX) for path in context.card.screenshots],
            marks=[mark for mark in (context.label, *context.marks) if mark],
            notes=context.notes,
            source=context.source,
            ratings=context.ratings,
            rating_differences=context.rating_differences,
            reported=None if context.reported is None else context.reported.to_dict("records"),
            one_sided=examples(analysis, context.gallery, by="one_sided"),
            disputed=examples(analysis, context.gallery, by="disputed"),
            flagged=flagged_raters(analysis),
            fingerprint=[*fingerprint_rows(analysis), *_study_rows(context)],
            ranking_names=RANKING_NAMES,
            ranking_spans=[_ranking_span(ranking) for ranking in analysis.rankings],
            charts=charts,
        )
    )


def examples(analysis: Analysis, gallery: Gallery, *, by: str) -> list[Example]:
    """Return the prompts on which raters agree most, or disagree most, each prompt once."""
    table = analysis.prompts
    table = table[(table["num_votes"] >= MIN_VOTES_OF_EXAMPLE) & (table[by] > 0)]
    table = table.sort_values([by, "num_votes", "prompt_id"], ascending=[False, False, True])
    table = table.drop_duplicates("prompt_id").head(NUM_EXAMPLES)
    return [_example(row, gallery) for row in table.to_dict("records")]


def flagged_raters(analysis: Analysis) -> list[dict[Any, Any]]:
    """Return the flagged raters under numbers."""
    table = numbered_raters(analysis)
    return table[table["flags"].map(len) > 0].to_dict("records")


def fingerprint_rows(analysis: Analysis) -> list[tuple[str, str]]:
    """Return everything that could change a number."""
    options = analysis.options
    return [
        ("Hash of the votes (sha256)", analysis.votes_sha256),
        (
            "Votes, raters, prompts",
            f"{analysis.num_votes}, {analysis.num_raters}, {analysis.num_prompts}",
        ),
        (
            "Ties",
            {"half": "half a win for each side", "drop": "left out of win rates"}[options.ties],
        ),
        ("Level of intervals", percent(options.level, 0)),
        ("Resamples of the bootstrap, seed", f"{options.resamples}, {options.seed}"),
        ("A rater is flagged if", describe_rules(analysis)),
    ]


def _study_rows(context: Context) -> list[tuple[str, str]]:
    labels = {"study": "Study", "suite": "Prompts", "suite_sha256": "Hash of the prompts (sha256)"}
    return [
        (label, str(context.fingerprint[key]))
        for key, label in labels.items()
        if key in context.fingerprint
    ]


def describe_rules(analysis: Analysis) -> str:
    """Describe the rater quality rules in words."""
    rules = analysis.options.rules
    return (
        f"the median response time is less than {rules.min_median_response_s:g} s, more than "
        f"{percent(rules.max_same_side, 0)} of answers are at one position on the screen (for "
        f"raters with at least {rules.min_votes} answers), fewer than "
        f"{percent(rules.min_checks_right, 0)} of attention checks are right, or the platform "
        "rejected them"
    )


def percent(value: float | None, digits: int = 1) -> str:
    """Format a share.

    >>> percent(0.1234), percent(None)
    ('12.3 %', '–')
    """
    return "–" if value is None or pd.isna(value) else f"{100 * value:.{digits}f} %"


def count(value: int) -> str:
    """Format a count.

    >>> count(10000)
    '10,000'
    """
    return f"{value:,}"


def percent_range(interval: Interval | None, digits: int = 1) -> str:
    """Format an interval of shares."""
    if interval is None:
        return "no interval"
    return f"{100 * interval.low:.{digits}f} – {100 * interval.high:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """Format a number; a dash for none."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def number_range(interval: Interval | None, digits: int = 2) -> str:
    """Format an interval."""
    if interval is None:
        return "no interval"
    return f"{number(interval.low, digits)} … {number(interval.high, digits)}"


def p_value(value: float | None) -> str:
    """Format a p-value.

    >>> p_value(0.00001), p_value(0.0432)
    ('< 0.001', '0.043')
    """
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def groups_of(items: Sequence[Any], *names: str) -> list[tuple[tuple[Any, ...], list[Any]]]:
    """Group consecutive items that share the values of some attributes."""
    groups: dict[tuple[Any, ...], list[Any]] = {}
    for item in items:
        groups.setdefault(tuple(getattr(item, name) for name in names), []).append(item)
    return list(groups.items())


def spoken_sample(estimate: Estimate) -> str:
    """Name the quantity that an interval is for."""
    return " and ".join(estimate.generalises_to) or "these votes only"


def only_sample(estimate: Estimate) -> str:
    """Say of which population alone an interval speaks, as that of a category of one prompt does.

    >>> from drawbench.stats.clustered import estimate_mean, make_layout
    >>> import numpy as np
    >>> layout = make_layout(np.arange(3), np.zeros(3), np.zeros(3))
    >>> only_sample(estimate_mean(np.ones(3), np.ones(3), layout))
    'raters only: one prompt'
    """
    if not estimate.generalises_to:
        return "these votes only: one rater, one prompt"
    missing = {"raters": "one prompt", "prompts": "one rater"}
    return " and ".join(f"{name} only: {missing[name]}" for name in estimate.generalises_to)


def ranked_sample(rankings: Sequence[Ranking]) -> str:
    """Name what the intervals of rankings generalise over, each kind of sample once."""
    samples = {" and ".join(item.generalises_to): None for item in rankings if item.models}
    return " or ".join(samples) or "nothing, as there is no ranking"


def sentence(text: str) -> str:
    """Begin with a capital letter and leave names as they are.

    >>> sentence("models A and b")
    'Models A and b'
    """
    return text[:1].upper() + text[1:]


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = (count, percent, percent_range, number, number_range, p_value, spoken_sample)
    for function in (*filters, groups_of, only_sample, ranked_sample, sentence):
        environment.filters[function.__name__] = function
    return environment


def _example(row: Mapping[Any, Any], gallery: Gallery) -> Example:
    return Example(
        prompt_id=row["prompt_id"],
        prompt=row["prompt"] or row["prompt_id"],
        category=row["category"],
        question=row["question"],
        model_a=row["model_a"],
        model_b=row["model_b"],
        num_votes=int(row["num_votes"]),
        shares=(row["share_a"], row["share_tie"], row["share_b"]),
        pictures_a=thumbnails(gallery, row["prompt_id"], row["model_a"]),
        pictures_b=thumbnails(gallery, row["prompt_id"], row["model_b"]),
    )


def _ranking_span(ranking: Ranking) -> tuple[float, float]:
    if not ranking.models:
        return (0.0, 1.0)
    return charts.span_of(
        [0.0, *(place.points for place in ranking.models)],
        [place.interval for place in ranking.models],
    )
