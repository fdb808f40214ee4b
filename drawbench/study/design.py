"""The design of a study: what is compared, what raters read and answer, how many ratings it needs.

A design comes from a preset, which follows a paper, from a TOML file, or both. It is strictly
checked: unknown keys are errors. Raters see the title, the instructions and the questions, so none
of them may contain the name of a model.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from drawbench.errors import StudyError
from drawbench.study.strict import Growing, Slug, Strict, Text, added_later, first_fault
from drawbench.study.texts import SideName, Texts, english
from evalkit.core.registry import unknown
from evalkit.core.tables import read_toml

PRESETS = ("glide-pairwise", "imagen-coco", "imagen-drawbench", "unclip-diversity")
CAPTION = "{caption}"
"""Placeholder of the prompt in a question."""
MIN_MODEL_NAME = 3  # shorter names ("A", "v2") occur in any text and reveal nothing

ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:()+-]{0,79}$")]
Kind = Literal["pair", "single"]


class Answer(Strict):
    """One of the answers that a question offers."""

    value: Slug
    """`first`, `tie` or `second` for a pair; any word for a single image."""
    label: Text
    """The text of the button."""
    score: float | None = None
    """Its value in a mean rating, for single images."""


class Question(Strict):
    """A question about a pair of sets, or about one set."""

    id: Slug
    text: Text
    """The text that raters read; `{caption}` is replaced by the prompt."""
    kind: Kind
    answers: tuple[Answer, ...] = Field(min_length=2, max_length=9)

    @model_validator(mode="after")
    def _check(self) -> Question:
        values = [answer.value for answer in self.answers]
        if len(set(values)) != len(values):
            raise ValueError(f"question {self.id!r} offers an answer twice")
        if self.kind == "pair" and values not in (["first", "tie", "second"], ["first", "second"]):
            raise ValueError(
                f"question {self.id!r} is about a pair, so its answers must be first, tie, second "
                f"or first, second; got {', '.join(values)}"
            )
        return self


class StudyConfig(Growing):
    """All decisions of a study. Unknown keys are errors."""

    title: Text = Field(default_factory=lambda: english().study.title)
    preset: str = ""
    """Preset that it was made from; empty for an own design."""
    source: str = ""
    """Where the wording comes from."""
    models: tuple[ModelName, ...] = Field(min_length=1, max_length=50)
    """Two for a pair, more for a balanced tournament, one for a comparison with a reference."""
    reference: ModelName | None = None
    """Name of the set of real images, for presets that compare with real images."""
    needs_reference: bool = False
    questions: tuple[Question, ...] = Field(min_length=1, max_length=9)
    side_name: SideName = "Set"
    """Name of a side on the page: "Set" gives "Set A" and "Set B"."""
    images_per_side: int = Field(ge=1, le=64)
    raters_per_item: int = Field(ge=1, le=10_000)
    """Quota of complete votes for each prompt, pair and question."""
    layout: Literal["category", "mixed"] = "category"
    """Whether a rater gets one category, or a hand of prompts from all categories."""
    items_per_rater: int | None = Field(default=None, ge=1)
    """Maximum number of items per rater; None gives a rater the whole category."""
    num_practice: int = Field(default=1, ge=0, le=10)
    num_checks: int = Field(default=0, ge=0, le=20)
    """Attention checks per rater."""
    check_threshold: float = Field(default=0.8, ge=0, le=1)
    """Share of passed checks below which the filtered results exclude a rater."""
    instructions: Text
    consent: Text = Field(default_factory=lambda: english().study.consent)
    content_warning: Text = Field(default_factory=lambda: english().study.content_warning)
    contact: str = Field(default="", max_length=300)
    """Contact address for raters."""
    lease_minutes: int = Field(default=120, ge=1, le=100_000)
    """Minutes after which the open items of an inactive rater may go to others."""
    completion_code: str = Field(default="", max_length=80)
    """One code for all raters, as Prolific requires; empty gives each rater a different one."""
    invited_only: bool = False
    """Admit only raters with a personal link."""
    return_by_platform_id: bool = added_later(lambda: True)
    """Whether a rater who opens the crowd platform's link again goes on where they were. Such an
    id is no secret: whoever knows it can answer in that rater's place."""
    seed: int = Field(default=0, ge=0)
    allow_reranked: bool = False

    @model_validator(mode="after")
    def _check(self) -> StudyConfig:
        names = [*self.models, *([self.reference] if self.reference else [])]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(f"two models have the same name: {', '.join(names)}")
        if self.needs_reference != (self.reference is not None):
            raise ValueError(
                "this design compares with real images; give them with --reference NAME=FOLDER"
                if self.needs_reference
                else "this design has no place for a reference; leave --reference out"
            )
        pairs = any(question.kind == "pair" for question in self.questions)
        if pairs and len(self.models) < 2 and not self.reference:
            raise ValueError("a comparison needs two models, got one")
        ids = [question.id for question in self.questions]
        if len(set(ids)) != len(ids):
            raise ValueError("two questions have the same id")
        if self.layout == "mixed" and self.items_per_rater is None:
            raise ValueError("layout 'mixed' needs items_per_rater")
        _refuse_names_in_texts(self, names)
        return self

    def comparisons(self) -> tuple[tuple[str, str], ...]:
        """Return (model, other model) for each pair, and (model, "") for each model shown alone."""
        kinds = {question.kind for question in self.questions}
        found: list[tuple[str, str]] = []
        if "pair" in kinds and self.reference:
            found += [(model, self.reference) for model in self.models]
        elif "pair" in kinds:
            found += itertools.combinations(self.models, 2)
        if "single" in kinds:
            found += [
                (m, "") for m in [*self.models, *([self.reference] if self.reference else [])]
            ]
        return tuple(found)


def question_text(question: Question, caption: str) -> str:
    """Return a question with the caption filled in; braces in the caption are left alone."""
    return question.text.replace(CAPTION, caption)


def preset_names() -> tuple[str, ...]:
    """Return the names of the designs that come with evalkit."""
    return PRESETS


def load_preset(name: str, texts: Texts | None = None) -> dict[str, Any]:
    """Return the settings of a preset, ready to be completed with models.

    Args:
        name: One of `preset_names()`.
        texts: Its wording; None takes the English one.

    Raises:
        UnknownNameError: There is no such preset.
    """
    if name not in PRESETS:
        raise unknown(name, PRESETS, kind="presets")
    texts = texts or english()
    wording = texts.presets[name]
    raw = (files("drawbench.study") / "presets" / f"{name}.toml").read_text("utf-8")
    settings = tomllib.loads(raw)
    questions = [
        {
            **question,
            "text": wording.questions[question["id"]].text,
            "answers": [
                {**answer, "label": wording.questions[question["id"]].answers[answer["value"]]}
                for answer in question["answers"]
            ],
        }
        for question in settings["questions"]
    ]
    if texts != english():
        settings["source"] += f"; raters read other texts (language: {texts.language})"
    return {
        **default_texts(texts),
        **settings,
        "preset": name,
        "side_name": wording.side_name,
        "instructions": wording.instructions,
        "questions": questions,
    }


def default_texts(texts: Texts) -> dict[str, str]:
    """Return the texts of every study that sets no others: title, consent and warning."""
    wording = texts.study
    return {
        "title": wording.title,
        "consent": wording.consent,
        "content_warning": wording.content_warning,
    }


def make_config(settings: Mapping[str, Any], *, source: str = "study") -> StudyConfig:
    """Check settings and convert them to their types; lists and tuples are both accepted.

    Raises:
        StudyError: A key is unknown or missing, or a value is not allowed.
    """
    try:
        return StudyConfig.model_validate_json(json.dumps(dict(settings)))
    except (ValidationError, TypeError) as error:
        raise StudyError(f"{source}: {first_fault(error)}.") from error


def read_config_file(path: Path, texts: Texts | None = None) -> dict[str, Any]:
    """Read settings from a TOML file; its key `preset` adds those of a preset.

    Args:
        path: The file.
        texts: The wording of what the file does not set; None takes the English one.

    Raises:
        MissingDataError: There is no such file.
        StudyError: It is not TOML.
        UnknownNameError: The preset does not exist.
    """
    settings = read_toml(Path(path), what="settings", fault=StudyError)
    if settings.get("preset"):
        return {**load_preset(settings["preset"], texts), **settings}
    return {**default_texts(texts or english()), **settings}


def _refuse_names_in_texts(config: StudyConfig, names: Sequence[str]) -> None:
    texts = [
        config.title,
        config.instructions,
        config.consent,
        config.content_warning,
        config.contact,
    ]
    for question in config.questions:
        texts += [question.text, *(answer.label for answer in question.answers)]
    for name in names:
        found = names_in(name, texts)
        if found:
            raise ValueError(
                f"a text that raters read contains the name of model {name!r} ({found[:60]!r}), "
                "so the study is not blind; change the text or the name"
            )


def names_in(name: str, texts: Sequence[str]) -> str | None:
    """Return the first text that contains a model's name as a word, or None."""
    if len(name) < MIN_MODEL_NAME:
        return None
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)
    return next((text for text in texts if pattern.search(text)), None)
