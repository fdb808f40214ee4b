"""A study: what is compared, what raters are asked, and the folder that holds it.

    STUDY/
        study.json       configuration, prompts, models; strictly checked when read
        images.jsonl     which blind image is whose
        images/          copies under random names, without metadata
        study.sqlite     the votes, unless they go to PostgreSQL
        screenshots/     what raters saw, for the report

The items and blocks of a study are computed from `study.json` alone; the same file gives the same
study everywhere. Raters see the title, the instructions, the questions and the prompts, so none of
these may hold the name of a model.
"""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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

from drawbench.assignment import comparison_index, deal
from drawbench.errors import StudyError
from evalkit.errors import MissingDataError
from evalkit.registry import unknown

SCHEMA_VERSION = 1
DOCUMENT = "study.json"
IMAGE_LIST = "images.jsonl"
IMAGE_FOLDER = "images"
DATABASE = "study.sqlite"
SCREENSHOT_FOLDER = "screenshots"
PRESETS = ("glide-pairwise", "imagen-coco", "imagen-drawbench", "unclip-diversity")
# Stands in the sources of practice items and attention checks, which belong to no model.
RESERVED = "~"
MIN_MODEL_NAME = 3  # shorter names ("A", "v2") are found in any text and give nothing away

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:()+-]{0,79}$")]
PromptId = Annotated[str, StringConstraints(pattern=r"^~?[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
ImageKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Kind = Literal["pair", "single"]
Role = Literal["rated", "practice", "check"]

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


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Answer(_Strict):
    """One of the answers that a question offers."""

    value: Slug
    """`first`, `tie` or `second` for a pair; any word for a single image."""
    label: Text
    """What the button says."""
    score: float | None = None
    """What the answer counts in a mean, for single images."""


class Question(_Strict):
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


class StudyConfig(_Strict):
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


class StudyPrompt(_Strict):
    """A prompt of the suite."""

    id: PromptId
    text: Text
    category: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ExtraItem(_Strict):
    """A practice item or an attention check."""

    id: PromptId
    text: Text
    role: Literal["practice", "check"]
    kind: Kind
    expected: dict[str, str] = Field(default_factory=dict)
    """Right answer by question, with `first` for the intact set; empty for practice."""


class ModelCard(_Strict):
    """Where the images of a model come from."""

    name: ModelName
    selection: Literal["first by sample index", "re-ranked", "unknown", "drawn by evalkit"]
    """How the images were chosen from all samples."""
    origin: str = ""
    """Name of the run folder or folder of images."""
    fingerprint: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def how_chosen(self) -> str:
        """The selection in words that stand by themselves."""
        return "selection unknown" if self.selection == "unknown" else self.selection


class SuiteCard(_Strict):
    """Which suite the prompts are."""

    name: Slug | Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    sha256: str
    source: str = ""
    notes: tuple[str, ...] = ()


class StudyDocument(_Strict):
    """The content of `study.json`."""

    schema_version: Literal[1] = 1
    uid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """Random name that ties the votes to the study."""
    label: str = Field(default="", max_length=200)
    """A mark that every report carries, such as "sample"; empty for a real study."""
    config: StudyConfig
    suite: SuiteCard
    prompts: tuple[StudyPrompt, ...] = Field(min_length=1)
    extras: tuple[ExtraItem, ...] = ()
    models: tuple[ModelCard, ...]

    @model_validator(mode="after")
    def _check(self) -> StudyDocument:
        ids = [prompt.id for prompt in self.prompts] + [extra.id for extra in self.extras]
        if len(set(ids)) != len(ids):
            raise ValueError("two prompts have the same id")
        if any(prompt.id.startswith(RESERVED) for prompt in self.prompts):
            raise ValueError(f"ids of prompts can't start with {RESERVED!r}")
        return self


class ImageEntry(_Strict):
    """One line of `images.jsonl`."""

    key: ImageKey
    """Random name under which it is served."""
    source: str
    """Model, or `~clear` and `~broken` for practice and checks."""
    prompt_id: PromptId
    sample_index: int = Field(ge=0)
    sha256: str
    """Hash of the blind copy."""
    source_sha256: str = ""
    """Hash of the file that it was copied from."""
    width: int = Field(ge=1)
    height: int = Field(ge=1)


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is shown on one page."""

    id: str
    """Names prompt and comparison; never shown to raters."""
    role: Role
    kind: Kind
    block: str
    """Empty for practice and checks, which everybody gets."""
    category: str
    prompt_id: str
    prompt: str
    model_a: str
    model_b: str
    """Empty for a single set."""
    expected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study in its folder. Read one with `load_study`, make one with `drawbench.making`."""

    path: Path
    document: StudyDocument
    images: tuple[ImageEntry, ...]

    @property
    def config(self) -> StudyConfig:
        """All decisions of the study."""
        return self.document.config

    @property
    def default_database(self) -> str:
        """The database that is used where no other is named."""
        return f"sqlite:///{(self.path / DATABASE).absolute()}"

    @cached_property
    def items(self) -> Mapping[str, Item]:
        """Rated items, then practice items, then checks, by id."""
        return {
            item.id: item for item in [*_rated_items(self.document), *_extra_items(self.document)]
        }

    @cached_property
    def blocks(self) -> Mapping[str, tuple[Item, ...]]:
        """The rated items of each block, in the order of the suite."""
        blocks: dict[str, list[Item]] = {}
        for item in self.items.values():
            if item.role == "rated":
                blocks.setdefault(item.block, []).append(item)
        return {block: tuple(items) for block, items in blocks.items()}

    def extras(self, role: Role) -> list[Item]:
        """The practice items, or the attention checks."""
        return [item for item in self.items.values() if item.role == role]

    def questions(self, item: Item) -> list[Question]:
        """The questions that are asked about an item."""
        return [question for question in self.config.questions if question.kind == item.kind]

    @cached_property
    def _keys(self) -> Mapping[tuple[str, str], tuple[str, ...]]:
        found: dict[tuple[str, str], list[ImageEntry]] = {}
        for entry in self.images:
            found.setdefault((entry.source, entry.prompt_id), []).append(entry)
        return {
            place: tuple(e.key for e in sorted(entries, key=lambda e: e.sample_index))
            for place, entries in found.items()
        }

    def image_keys(self, source: str, prompt_id: str) -> tuple[str, ...]:
        """The blind names of a model's images for a prompt, by sample index."""
        return self._keys[source, prompt_id]

    @cached_property
    def _known_keys(self) -> frozenset[str]:
        return frozenset(entry.key for entry in self.images)

    def screenshots(self) -> list[Path]:
        """Pictures of the page for the report, in order; links are not followed."""
        folder = self.path / SCREENSHOT_FOLDER
        if folder.is_symlink():
            return []
        return [path for path in sorted(folder.glob("*.png")) if not path.is_symlink()]

    def image_path(self, key: str) -> Path | None:
        """The file behind a blind name, or None if the study has no such image.

        A link among the images is not followed: it could lead out of the study.
        """
        if key not in self._known_keys:
            return None
        path = self.path / IMAGE_FOLDER / f"{key}.png"
        return None if path.is_symlink() or not path.is_file() else path


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
    text = (files("drawbench") / "presets" / f"{name}.toml").read_text("utf-8")
    return {**tomllib.loads(text), "preset": name}


def make_config(settings: Mapping[str, Any], *, source: str = "study") -> StudyConfig:
    """Check settings and give them their types; lists and tuples are both welcome.

    Raises:
        StudyError: A key is unknown or missing, or a value is not allowed.
    """
    try:
        return StudyConfig.model_validate_json(json.dumps(dict(settings)))
    except (ValidationError, TypeError) as error:
        raise StudyError(f"{source}: {_explain(error)}") from error


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


def load_study(path: Path) -> Study:
    """Read a study from its folder.

    Raises:
        MissingDataError: There is no study, or images of it are missing.
        StudyError: A file is damaged, of a newer version, or points out of the folder.
    """
    path = Path(path)
    file = path / DOCUMENT
    if not file.is_file():
        raise MissingDataError(
            f"{path} is no study: it has no {DOCUMENT}. Make one with: evalkit drawbench new {path}"
        )
    text = _read(file)
    _refuse_newer(text, file)
    try:
        document = StudyDocument.model_validate_json(text)
    except ValidationError as error:
        raise StudyError(f"{file}: {_explain(error)}") from error
    study = Study(path, document, _read_images(path / IMAGE_LIST))
    check_images(study)
    return study


def check_images(study: Study) -> None:
    """Refuse a study in which an item lacks an image.

    Raises:
        StudyError: An item has too few images, or they differ in number.
        MissingDataError: A listed image is not there.
    """
    for item in study.items.values():
        for source in filter(None, (item.model_a, item.model_b)):
            number = len(study._keys.get((source, item.prompt_id), ()))
            if number != study.config.images_per_side:
                raise StudyError(
                    f"{study.path / IMAGE_LIST}: {source} has {number} images for "
                    f"{item.prompt_id}, expected {study.config.images_per_side}. Make the study "
                    "anew."
                )
    for entry in study.images:
        if study.image_path(entry.key) is None:
            raise MissingDataError(
                f"{study.path / IMAGE_FOLDER / entry.key}.png is missing or a link. Restore the "
                "folder."
            )


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file}: can't be read ({error}).") from error


def _refuse_newer(text: str, file: Path) -> None:
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise StudyError(f"{file}: not a study ({error}). Restore it from a backup.") from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StudyError(
            f"{file} has schema_version {version}, this evalkit reads up to {SCHEMA_VERSION}. "
            "Update evalkit."
        )


def _read_images(file: Path) -> tuple[ImageEntry, ...]:
    if not file.is_file():
        raise MissingDataError(f"{file} is missing. Restore the study's folder.")
    entries = []
    for number, line in enumerate(_read(file).splitlines(), start=1):
        try:
            entries.append(ImageEntry.model_validate_json(line))
        except ValidationError as error:
            raise StudyError(f"{file}, line {number}: {_explain(error)}") from error
    return tuple(entries)


def _rated_items(document: StudyDocument) -> list[Item]:
    comparisons = document.config.comparisons()
    items = []
    for group in range(len(comparisons)):
        for block, indices in _hands(document, group).items():
            for index in indices:
                prompt = document.prompts[index]
                a, b = comparisons[comparison_index(index, group, len(comparisons))]
                items.append(
                    Item(
                        id=f"{prompt.id}/{a}/{b}" if b else f"{prompt.id}/{a}",
                        role="rated",
                        kind="pair" if b else "single",
                        block=f"{block}#{group + 1}" if len(comparisons) > 1 else block,
                        category=prompt.category,
                        prompt_id=prompt.id,
                        prompt=prompt.text,
                        model_a=a,
                        model_b=b,
                    )
                )
    return items


def _hands(document: StudyDocument, group: int) -> dict[str, list[int]]:
    """Block name and indices of its prompts, for one group of raters."""
    config = document.config
    if config.layout == "mixed":
        assert config.items_per_rater is not None
        num_hands = -(-len(document.prompts) // config.items_per_rater)
        labelled = [(prompt.category, index) for index, prompt in enumerate(document.prompts)]
        hands = deal(labelled, num_hands, config.seed + group)
        return {f"hand {number:03d}": sorted(hand) for number, hand in enumerate(hands, start=1)}
    by_category: dict[str, list[int]] = {}
    for index, prompt in enumerate(document.prompts):
        by_category.setdefault(prompt.category, []).append(index)
    if config.items_per_rater is None:
        return by_category
    return {
        f"{category} {part + 1}" if parts > 1 else category: indices[part::parts]
        for category, indices in by_category.items()
        for parts in [-(-len(indices) // config.items_per_rater)]
        for part in range(parts)
    }


def _extra_items(document: StudyDocument) -> list[Item]:
    return [
        Item(
            id=extra.id,
            role=extra.role,
            kind=extra.kind,
            block="",
            category="",
            prompt_id=extra.id,
            prompt=extra.text,
            model_a=f"{RESERVED}clear",
            model_b=f"{RESERVED}broken" if extra.kind == "pair" else "",
            expected=extra.expected,
        )
        for role in ("practice", "check")
        for extra in document.extras
        if extra.role == role
    ]


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


def _explain(error: Exception) -> str:
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
