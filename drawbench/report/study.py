"""What the page shows of a study in its folder: wording, prompts, images, reports of raters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from drawbench.errors import NoVotesError
from drawbench.exports import raters_frame, ratings_frame, reports_frame
from drawbench.report.card import ReportingCard
from drawbench.report.page import Context
from drawbench.stats.raters import QualityRules
from drawbench.stats.ratings import MeanRating, mean_ratings
from drawbench.store import Store
from drawbench.study import Study


def context_of(store: Store) -> Context:
    """Everything but the numbers."""
    study = store.study
    return Context(
        card=card_of(store),
        gallery=lambda prompt_id, model: images_of(study, prompt_id, model),
        label=study.document.label,
        source=f"the study {study.config.title!r}",
        ratings=ratings_of(store),
        reported=reports_frame(store),
    )


def rules_of(study: Study) -> QualityRules:
    """The rules of the report, with the threshold of attention checks that the study set."""
    return QualityRules(min_checks_right=study.config.check_threshold)


def card_of(store: Store) -> ReportingCard:
    """The reporting card as far as the study knows it."""
    study, config = store.study, store.study.config
    raters = raters_frame(store)
    answers = "; ".join(
        f"{question.id}: {' / '.join(answer.label for answer in question.answers)}"
        for question in config.questions
    )
    hands = (
        "each rater rates one category"
        if config.layout == "category"
        else f"each rater rates up to {config.items_per_rater} items of all categories"
    )
    return ReportingCard(
        title=config.title,
        raters=f"{len(raters)} raters joined, {(raters['finished_at'] != '').sum()} finished",
        consent=config.consent,
        instructions=config.instructions.strip(),
        questions={question.id: question.text for question in config.questions},
        answers=answers,
        suite=f"{study.document.suite.name}, {len(study.document.prompts)} prompts",
        images_per_side=config.images_per_side,
        selection="; ".join(f"{card.name}: {card.selection}" for card in study.document.models),
        assignment=(
            f"{hands}, {config.raters_per_item} raters wanted per item; sides and order of images "
            "drawn at random and balanced"
        ),
        deviations=f"preset {config.preset}; {config.source}" if config.preset else "own design",
    )


def images_of(study: Study, prompt_id: str, model: str) -> Sequence[Path]:
    """The blind copies of a model's images for a prompt; none where the study has none."""
    try:
        keys = study.image_keys(model, prompt_id)
    except KeyError:
        return ()
    paths = (study.image_path(key) for key in keys)
    return [path for path in paths if path is not None]


def ratings_of(store: Store) -> tuple[MeanRating, ...]:
    """Mean ratings of single sets; none where the study asks for none."""
    ratings = ratings_frame(store)
    try:
        return mean_ratings(ratings) if len(ratings) else ()
    except NoVotesError:
        return ()
