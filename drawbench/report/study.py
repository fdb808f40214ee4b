"""Collect the content of the report from a study's folder: wording, prompts, images, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from drawbench.errors import NoVotesError
from drawbench.exchange.exports import raters_frame, ratings_frame, reports_frame
from drawbench.report.card import ReportingCard
from drawbench.report.page import Context
from drawbench.stats.clustered import LEVEL
from drawbench.stats.raters import QualityRules
from drawbench.stats.ratings import (
    MeanRating,
    RatingDifference,
    Scale,
    mean_ratings,
    rating_differences,
)
from drawbench.store import Store
from drawbench.study import Study
from drawbench.study.design import StudyConfig, load_preset, make_config, preset_names

NO_DEVIATION = frozenset(
    ("models", "reference", "title", "contact", "seed", "source", "completion_code", "invited_only")
)
"""Settings in which every study differs."""
WORDING = frozenset(("consent", "content_warning", "instructions", "side_name"))
"""Texts that are too long to print beside those of the preset."""


def context_of(store: Store, *, level: float = LEVEL) -> Context:
    """Return the content of the page besides the analysis of pairs.

    Args:
        store: The study and its votes.
        level: Of the intervals of ratings of single sets.
    """
    study = store.study
    ratings = ratings_frame(store)
    means, differences = compare_ratings(ratings, scales_of(study), level=level)
    return Context(
        card=card_of(store),
        gallery=lambda prompt_id, model: images_of(study, prompt_id, model),
        label=study.document.label,
        source=f"the study {study.config.title!r}",
        marks=marks_of(study),
        notes=notes_of(study),
        fingerprint=fingerprint_of(study),
        ratings=means,
        rating_differences=differences,
        simulated_ratings=bool(ratings["simulated"].any()),
        reported=reports_frame(store),
    )


def marks_of(study: Study) -> tuple[str, ...]:
    """Return a warning for each model whose images are not a fair sample."""
    return tuple(
        f"The images of {card.name} are the best of several candidates (re-ranked), so this "
        "compares selections, not models."
        for card in study.document.models
        if card.selection == "re-ranked"
    )


def notes_of(study: Study) -> tuple[str, ...]:
    """Return the notes of the suite and the image folders, taken when the study was made."""
    unknown = [c.name for c in study.document.models if c.selection == "unknown"]
    notes = [f"selection unknown: how the images of {name} were chosen" for name in unknown]
    of_models = [f"{c.name}: {note}" for c in study.document.models for note in c.notes]
    return (*notes, *study.document.suite.notes, *of_models)


def fingerprint_of(study: Study) -> dict[str, Any]:
    """Return everything besides votes and statistics that could change a result."""
    document, config = study.document, study.config
    return {
        "study": document.uid,
        "preset": config.preset or "own",
        "suite": document.suite.name,
        "suite_sha256": document.suite.sha256,
        "images_per_side": config.images_per_side,
        "layout": config.layout,
        "assignment_seed": config.seed,
        "selection": {card.name: card.selection for card in document.models},
        "reranked": any(card.selection == "re-ranked" for card in document.models),
        "images": {card.name: card.fingerprint for card in document.models},
    }


def rules_of(study: Study) -> QualityRules:
    """Return the quality rules of the report, with the study's threshold for attention checks."""
    return QualityRules(min_checks_right=study.config.check_threshold)


def card_of(store: Store) -> ReportingCard:
    """Return the reporting card as far as the study can fill it in."""
    study, config = store.study, store.study.config
    raters = raters_frame(store)
    answers = "; ".join(
        f"{question.id}: {' / '.join(answer.label for answer in question.answers)}"
        for question in config.questions
    )
    hands = (
        "each rater rates one category"
        if config.layout == "category"
        else f"each rater rates up to {config.items_per_rater} items from all categories"
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
        selection="; ".join(f"{card.name}: {card.how_chosen}" for card in study.document.models),
        assignment=(
            f"{hands}, {config.raters_per_item} raters per item; sides and order of images "
            "drawn at random and balanced"
        ),
        screenshots=tuple(study.screenshots()),
        deviations=deviations_of(config),
    )


def deviations_of(config: StudyConfig) -> str:
    """Describe the deviations of a study from its preset, such as fewer raters."""
    if not config.preset:
        return "own design, not based on a protocol"
    if config.preset not in preset_names():
        return f"preset {config.preset} is unknown to this version of evalkit"
    preset, own = load_preset(config.preset), config.model_dump(mode="json")
    same = make_config({**preset, "models": config.models, "reference": config.reference})
    wanted = same.model_dump(mode="json")
    found = [
        f"own {key}"
        if isinstance(own[key], list) or key in WORDING
        else f"{key} is {own[key]}, not {wanted[key]}"
        for key in wanted
        if key not in NO_DEVIATION and own[key] != wanted[key]
    ]
    protocol = f"preset {config.preset} ({config.source})"
    return (
        f"{'; '.join(found)} (compared with {protocol})"
        if found
        else f"none (compared with {protocol})"
    )


def images_of(study: Study, prompt_id: str, model: str) -> Sequence[Path]:
    """Return the blind copies of a model's images for a prompt, possibly none."""
    try:
        keys = study.image_keys(model, prompt_id)
    except KeyError:
        return ()
    paths = (study.image_path(key) for key in keys)
    return [path for path in paths if path is not None]


def scales_of(study: Study) -> dict[str, Scale]:
    """Return the lowest and highest score that each question about single sets offers."""
    scales = {}
    for question in study.config.questions:
        scores = [answer.score for answer in question.answers if answer.score is not None]
        if scores:
            scales[question.id] = (min(scores), max(scores))
    return scales


def compare_ratings(
    ratings: pd.DataFrame, scales: Mapping[str, Scale], *, level: float = LEVEL
) -> tuple[tuple[MeanRating, ...], tuple[RatingDifference, ...]]:
    """Return mean ratings of single sets and their differences, if the study asks for any."""
    if ratings.empty:
        return (), ()
    try:
        return (
            mean_ratings(ratings, scales=scales, level=level),
            rating_differences(ratings, scales=scales, level=level),
        )
    except NoVotesError:
        return (), ()
