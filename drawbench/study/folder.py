"""A study: what is compared, what raters are asked, and its folder.

    STUDY/
        study.json       configuration, prompts, models; strictly checked when read
        images.jsonl     which blind image belongs to which model
        images/          copies under random names, without metadata
        study.sqlite     the votes, unless they go to PostgreSQL
        screenshots/     screenshots of the rating page, for the report

The items and blocks of a study are computed from `study.json` alone; the same file gives the same
study everywhere. Raters see the title, the instructions, the questions and the prompts, so none of
them may contain the name of a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from drawbench.errors import StudyError
from drawbench.study.assignment import comparison_index, deal
from drawbench.study.design import Kind, ModelName, Question, StudyConfig
from drawbench.study.strict import Slug, Strict, Text, first_fault
from drawbench.study.texts import Texts, english
from evalkit.core.errors import MissingDataError
from evalkit.core.tables import split_lines

SCHEMA_VERSION = 1
DOCUMENT = "study.json"
IMAGE_LIST = "images.jsonl"
IMAGE_FOLDER = "images"
DATABASE = "study.sqlite"
SCREENSHOT_FOLDER = "screenshots"
# Prefix of the sources of practice items and attention checks, which belong to no model.
RESERVED = "~"

PromptId = Annotated[str, StringConstraints(pattern=r"^~?[A-Za-z0-9][A-Za-z0-9._-]{0,79}$")]
ImageKey = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Role = Literal["rated", "practice", "check"]


class StudyPrompt(Strict):
    """A prompt of the suite."""

    id: PromptId
    text: Text
    category: Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ExtraItem(Strict):
    """A practice item or an attention check."""

    id: PromptId
    text: Text
    role: Literal["practice", "check"]
    kind: Kind
    expected: dict[str, str] = Field(default_factory=dict)
    """Right answer by question, with `first` for the intact set; empty for practice."""


class ModelCard(Strict):
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
        """The selection as a phrase of its own."""
        return "selection unknown" if self.selection == "unknown" else self.selection


class SuiteCard(Strict):
    """The suite that the prompts come from."""

    name: Slug | Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    sha256: str
    source: str = ""
    notes: tuple[str, ...] = ()


class StudyDocument(Strict):
    """The content of `study.json`."""

    schema_version: Literal[1] = 1
    uid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    """Random id that links the votes to the study."""
    label: str = Field(default="", max_length=200)
    """A label that every report shows, such as "sample"; empty for a real study."""
    config: StudyConfig
    suite: SuiteCard
    prompts: tuple[StudyPrompt, ...] = Field(min_length=1)
    extras: tuple[ExtraItem, ...] = ()
    models: tuple[ModelCard, ...]
    texts: Texts | None = None
    """What raters read besides the configuration; None in a study made before texts were kept."""

    @model_serializer(mode="wrap")
    def _without_missing_texts(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out texts that an older study lacks, so that its hash stays as it was."""
        content: dict[str, Any] = serialize(self)
        if content["texts"] is None:
            del content["texts"]
        return content

    @model_validator(mode="after")
    def _check(self) -> StudyDocument:
        ids = [prompt.id for prompt in self.prompts] + [extra.id for extra in self.extras]
        if len(set(ids)) != len(ids):
            raise ValueError("two prompts have the same id")
        if any(prompt.id.startswith(RESERVED) for prompt in self.prompts):
            raise ValueError(f"ids of prompts can't start with {RESERVED!r}")
        return self


class ImageEntry(Strict):
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
    """The content of one page: a prompt, and the models that are compared."""

    id: str
    """Contains prompt and comparison; never shown to raters."""
    role: Role
    kind: Kind
    block: str
    """Empty for practice items and checks, which every rater gets."""
    category: str
    prompt_id: str
    prompt: str
    model_a: str
    model_b: str
    """Empty for a single set."""
    expected: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """A study in its folder. Read one with `load_study`, make one with `drawbench.study.making`."""

    path: Path
    document: StudyDocument
    images: tuple[ImageEntry, ...]

    @property
    def config(self) -> StudyConfig:
        """All decisions of the study."""
        return self.document.config

    @property
    def texts(self) -> Texts:
        """What raters read besides the configuration."""
        return self.document.texts or english()

    @property
    def default_database(self) -> str:
        """The database that is used unless another one is given."""
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
        """Return the practice items, or the attention checks."""
        return [item for item in self.items.values() if item.role == role]

    def questions(self, item: Item) -> list[Question]:
        """Return the questions that are asked about an item."""
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
        """Return the blind names of a model's images for a prompt, by sample index."""
        return self._keys[source, prompt_id]

    @cached_property
    def _known_keys(self) -> frozenset[str]:
        return frozenset(entry.key for entry in self.images)

    def screenshots(self) -> list[Path]:
        """Return the screenshots for the report, in order; symbolic links are skipped."""
        folder = self.path / SCREENSHOT_FOLDER
        if folder.is_symlink():
            return []
        return [path for path in sorted(folder.glob("*.png")) if not path.is_symlink()]

    def image_path(self, key: str) -> Path | None:
        """Return the file behind a blind name, or None if the study has no such image.

        Symbolic links are not followed: they could point outside the study.
        """
        if key not in self._known_keys:
            return None
        path = self.path / IMAGE_FOLDER / f"{key}.png"
        return None if path.is_symlink() or not path.is_file() else path

    def missing_images(self) -> tuple[str, ...]:
        """Return the blind names of images whose file is missing or a symbolic link."""
        return tuple(entry.key for entry in self.images if self.image_path(entry.key) is None)


def load_study(path: Path) -> Study:
    """Read a study from its folder.

    Its image files need not be there: votes can be read, exported and backed up without pixels.
    Who needs them asks `Study.missing_images`.

    Raises:
        MissingDataError: There is no study, or its list of images is missing.
        StudyError: A file is damaged, of a newer version, or points out of the folder.
    """
    path = Path(path)
    file = path / DOCUMENT
    if not file.is_file():
        raise MissingDataError(
            f"{path} is not a study: it has no {DOCUMENT}. Make one with: evalkit drawbench new "
            f"{path}"
        )
    text = _read(file)
    _refuse_newer(text, file)
    try:
        document = StudyDocument.model_validate_json(text)
    except ValidationError as error:
        raise StudyError(f"{file}: {first_fault(error)}.") from error
    study = Study(path, document, _read_images(path / IMAGE_LIST))
    check_images(study)
    return study


def check_images(study: Study) -> None:
    """Refuse a study in which the list of images lacks one of an item.

    Raises:
        StudyError: An item has too few images, or they differ in number.
    """
    for item in study.items.values():
        for source in filter(None, (item.model_a, item.model_b)):
            number = len(study._keys.get((source, item.prompt_id), ()))
            if number != study.config.images_per_side:
                raise StudyError(
                    f"{study.path / IMAGE_LIST}: {source} has {number} images for "
                    f"{item.prompt_id}, expected {study.config.images_per_side}. Make a new study."
                )


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file} can't be read ({error}).") from error


def _refuse_newer(text: str, file: Path) -> None:
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError) as error:
        raise StudyError(f"{file} is not a study ({error}). Restore it from a backup.") from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StudyError(
            f"{file} has schema_version {version}, but this evalkit reads up to {SCHEMA_VERSION}. "
            "Update evalkit."
        )


def _read_images(file: Path) -> tuple[ImageEntry, ...]:
    if not file.is_file():
        raise MissingDataError(f"{file} is missing. Restore the study's folder.")
    entries = []
    for number, line in enumerate(split_lines(_read(file)), start=1):
        try:
            entries.append(ImageEntry.model_validate_json(line))
        except ValidationError as error:
            raise StudyError(f"{file}, line {number}: {first_fault(error)}.") from error
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
    """Map block names to the indices of their prompts, for one group of raters."""
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
