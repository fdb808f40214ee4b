"""The design of a study: what is compared, what raters are asked and told, how many are wanted.

A design comes from a preset, which follows a paper, from a TOML file, or both. It is strictly
checked: unknown keys are errors. Raters see the title, the instructions and the questions, so none
of these may hold the name of a model.
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
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from drawbench.errors import StudyError
from evalkit.core.errors import MissingDataError
from evalkit.core.registry import unknown

PRESETS = ("glide-pairwise", "imagen-coco", "imagen-drawbench", "unclip-diversity")
MIN_MODEL_NAME = 3  # shorter names ("A", "v2") are found in any text and give nothing away

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:()+-]{0,79}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Kind = Literal["pair", "single"]

DEFAULT_CONSENT = (
    "Taking part is voluntary. You can stop at any time and delete all your answers. We store your "
    "answers, when you gave them and how long you looked, under a random number, and no name, "
    "address or device. The answers are used to compare computer programs that make images."
)
DEFAULT_WARNING = (
    "The images were made by computer programs. We can't rule out that some are disturbing, "
    "offensive or of a sexual or violent nature. Please take part only if you are an adult and "
    "agree to see such images. You can report an image or stop at any time."
)


class Strict(BaseModel):
    """What people write or edit: checked strictly, and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(Strict):
    """One of the answers that a question offers."""

    value: Slug
    """`first`, `tie` or `second` for a pair; any word for a single image."""
    label: Text
    """What the button says."""
    score: float | None = None
    """What the answer counts in a mean, for single images."""


class Question(Strict):
    """A question about a pair of sets, or about one set."""

    id: Slug
    text: Text
    """What the rater reads; `{caption}` is replaced by the prompt."""
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


class StudyConfig(Strict):
    """All decisions of a study. Unknown keys are errors."""

    title: Text = "Comparing images"
    preset: str = ""
    """Preset it was made from, empty for one's own."""
    source: str = ""
    """Where the wording comes from."""
    models: tuple[ModelName, ...] = Field(min_length=1, max_length=50)
    """Two for a pair, more for a balanced tournament; one against a reference."""
    reference: ModelName | None = None
    """Name of the real images, for presets that compare with them."""
    needs_reference: bool = False
    questions: tuple[Question, ...] = Field(min_length=1, max_length=9)
    side_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z ]{1,20}$")] = "Set"
    """What a side is called on the page: "Set A" and "Set B"."""
    images_per_side: int = Field(ge=1, le=64)
    raters_per_item: int = Field(ge=1, le=10_000)
    """Quota of complete votes for each prompt, pair and question."""
    layout: Literal["category", "mixed"] = "category"
    """One category per rater, or a hand of prompts from all."""
    items_per_rater: int | None = Field(default=None, ge=1)
    """Largest hand; None gives a rater the whole category."""
    num_practice: int = Field(default=1, ge=0, le=10)
    num_checks: int = Field(default=0, ge=0, le=20)
    """Attention checks per rater."""
    check_threshold: float = Field(default=0.8, ge=0, le=1)
    """Share of right checks below which a rater is left out of the filtered results."""
    instructions: Text
    consent: Text = DEFAULT_CONSENT
    content_warning: Text = DEFAULT_WARNING
    contact: str = Field(default="", max_length=300)
    """Whom raters can write to."""
    lease_minutes: int = Field(default=120, ge=1, le=100_000)
    """How long the place of a silent rater is kept."""
    completion_code: str = Field(default="", max_length=80)
    """The same code for everybody, as Prolific wants; empty gives each rater one of their own."""
    invited_only: bool = False
    """Let in only those who have a personal link."""
    seed: int = Field(default=0, ge=0)
    allow_reranked: bool = False

    @model_validator(mode="after")
    def _check(self) -> StudyConfig:
        names = [*self.models, *([self.reference] if self.reference else [])]
        if len({name.lower() for name in names}) != len(names):
            raise ValueError(f"two models have the same name: {', '.join(names)}")
        if self.needs_reference != (self.reference is not None):
            raise ValueError(
                "this design compares with real images: name them with --reference"
                if self.needs_reference
                else "this design has no place for a reference: leave --reference out"
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
        """(model, other model) for each pair and (model, "") for each model shown alone."""
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
    """A question with the caption put in, whatever the caption holds."""
    return question.text.replace("{caption}", caption)


def preset_names() -> tuple[str, ...]:
    """The designs that come with evalkit."""
    return PRESETS


def load_preset(name: str) -> dict[str, Any]:
    """The settings of a preset, ready to be completed with models.

    Raises:
        UnknownNameError: There is no such preset.
    """
    if name not in PRESETS:
        raise unknown(name, PRESETS, kind="presets")
    text = (files("drawbench.study") / "presets" / f"{name}.toml").read_text("utf-8")
    return {**tomllib.loads(text), "preset": name}


def make_config(settings: Mapping[str, Any], *, source: str = "study") -> StudyConfig:
    """Check settings and give them their types; lists and tuples are both welcome.

    Raises:
        StudyError: A key is unknown or missing, or a value is not allowed.
    """
    try:
        return StudyConfig.model_validate_json(json.dumps(dict(settings)))
    except (ValidationError, TypeError) as error:
        raise StudyError(f"{source}: {first_fault(error)}") from error


def read_config_file(path: Path) -> dict[str, Any]:
    """The settings in a TOML file; a key `preset` brings those of a preset along.

    Raises:
        MissingDataError: There is no such file.
        StudyError: It is no TOML.
        UnknownNameError: The preset does not exist.
    """
    try:
        settings = tomllib.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise MissingDataError(f"{path}: no such file. Give a TOML file of settings.") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a TOML file of settings ({error}).") from error
    return {**(load_preset(settings["preset"]) if settings.get("preset") else {}), **settings}


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
                f"the name of model {name!r} stands in a text that raters read ({found[:60]!r}); "
                "take it out, or the study is not blind"
            )


def names_in(name: str, texts: Sequence[str]) -> str | None:
    """The first text that holds a model's name as a word, or None."""
    if len(name) < MIN_MODEL_NAME:
        return None
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", re.IGNORECASE)
    return next((text for text in texts if pattern.search(text)), None)


def first_fault(error: Exception) -> str:
    """The first fault of a validation, on one line."""
    if not isinstance(error, ValidationError):
        return str(error)
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    what = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "extra_forbidden":
        what = "unknown key"
    seen = "" if fault["type"] in ("value_error", "missing") else f" (got {fault['input']!r:.80})"
    return f"{where + ': ' if where else ''}{what}{seen}"
