"""Requests to a model: captions or classes of a data set, prompts, labels, or just images.

A source provides requests. It is checked before any heavy import, and selects requests once the
model is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload, runtime_checkable

from evalkit.core.errors import ConfigError
from evalkit.core.run import WorkItem
from evalkit.core.seeding import image_seed
from evalkit.datasets.base import (
    Caption,
    CaptionedImages,
    copy_of,
    hash_captions,
    known_as,
)
from evalkit.datasets.classes import (
    CLASS_RULE,
    PLAIN_RULE,
    class_requests,
    drawn_class_requests,
    labelled_part,
    plain_requests,
)
from evalkit.datasets.draws import draw_captions, is_seeded_by_run, selection_rule
from evalkit.datasets.open import open_dataset, require_dataset
from evalkit.protocols.catalog import protocol_for

if TYPE_CHECKING:
    from evalkit.core.progress import ProgressFactory
    from evalkit.protocols.model import MeasurementProtocol
    from generators.base import Conditioning, GeneratorSpec

GIVEN_RULE = "prompts as given, in turns"
LABELS_RULE = "labels as given, in turns"
IMPORTED_RULE = "images as given"


@dataclass(frozen=True, kw_only=True)
class Requests:
    """The images that a run has to make, and the reference that they are measured against."""

    wanted: Sequence[tuple[Caption, int]]
    """Caption (without a text for models that take none) and sample number, by index."""
    name: str
    """Name of the source in the run's configuration."""
    captions_sha256: str
    rule: str
    """How they were chosen."""
    dataset: CaptionedImages | None = None
    """The reference; None for requests that belong to no data set."""
    reference: str = ""
    """Description of the reference images."""
    marks: Mapping[str, Any] = field(default_factory=dict)
    """Further entries of the configuration."""

    @property
    def captions(self) -> list[Caption]:
        """The caption of each image."""
        return [caption for caption, _ in self.wanted]

    def described(self) -> dict[str, Any]:
        """Return the entry `dataset` of a run's configuration."""
        copied = copy_of(self.dataset) if self.dataset is not None else ""
        return {
            "name": self.name,
            "n": len(self.wanted),
            "captions_sha256": self.captions_sha256,
            "selection": self.rule,
            **({"copy_of": copied} if copied else {}),
        }

    def items(self, spec: GeneratorSpec, seed: int) -> Sequence[WorkItem]:
        """Return one work item per image, with only what the model takes."""
        return Items(self.wanted, spec.conditioning, seed)


class Items(Sequence[WorkItem]):
    """The work items of a run, each built when it is asked for: a run may have millions."""

    def __init__(
        self, wanted: Sequence[tuple[Caption, int]], conditioning: Conditioning, seed: int
    ) -> None:
        self._wanted = wanted
        self._conditioning = conditioning
        self._seed = seed

    def __len__(self) -> int:
        return len(self._wanted)

    @overload
    def __getitem__(self, at: int) -> WorkItem: ...
    @overload
    def __getitem__(self, at: slice) -> list[WorkItem]: ...
    def __getitem__(self, at: int | slice) -> WorkItem | list[WorkItem]:
        """Return an item, or a list of some."""
        found = range(len(self._wanted))[at]
        return self._item(found) if isinstance(found, int) else [self._item(i) for i in found]

    def _item(self, index: int) -> WorkItem:
        caption, sample = self._wanted[index]
        return WorkItem(
            index=index,
            caption_id=caption.id,
            sample_index=sample,
            seed=image_seed(self._seed, caption.id, sample),
            prompt=caption.text if self._conditioning == "text" else None,
            label=caption.label if self._conditioning == "class" else None,
            image_id=caption.image_id or None,
        )


class InTurns(Sequence[tuple[Caption, int]]):
    """Captions in turns, each with the number of times that its id came before."""

    def __init__(self, captions: Sequence[Caption], num: int) -> None:
        self._captions = captions
        self._num = num
        self._each: dict[str, int] = {}
        """How often an id occurs in one turn."""
        self._before: list[int] = []
        """How often the id of each caption came earlier in the turn."""
        for caption in captions:
            self._before.append(self._each.get(caption.id, 0))
            self._each[caption.id] = self._before[-1] + 1

    def __len__(self) -> int:
        return self._num

    @overload
    def __getitem__(self, at: int) -> tuple[Caption, int]: ...
    @overload
    def __getitem__(self, at: slice) -> list[tuple[Caption, int]]: ...
    def __getitem__(self, at: int | slice) -> tuple[Caption, int] | list[tuple[Caption, int]]:
        """Return a caption with its sample number, or a list of some."""
        found = range(self._num)[at]
        return self._pair(found) if isinstance(found, int) else [self._pair(i) for i in found]

    def _pair(self, index: int) -> tuple[Caption, int]:
        turn, place = divmod(index, len(self._captions))
        caption = self._captions[place]
        return caption, turn * self._each[caption.id] + self._before[place]


@runtime_checkable
class RequestSource(Protocol):
    """A provider of requests."""

    @property
    def name(self) -> str:
        """Short name, for the run folder."""

    def check(self) -> None:
        """Raise an error if the source is unusable, before any heavy import."""

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Select the requests for a model."""


@dataclass(frozen=True)
class DatasetSource:
    """Captions or classes of a data set, or as many images as its protocol says."""

    name: str
    """Name or path of the data set."""
    n: int | None = None
    """Captions to draw; None: the protocol's number, or all if there are fewer."""
    coco_root: Path | None = None
    protocol: MeasurementProtocol | None = None
    """None: the data set's own protocol."""
    allow_short: bool = False
    """Draw all captions where a named protocol draws more than there are."""
    labels: Sequence[int] = ()
    """Classes of a class-conditional model; empty: those of the data set (see `labelled_part`)."""

    def check(self) -> None:
        """Raise an error if the data set can't be opened.

        Raises:
            UnknownNameError: No data set has this name, and it is not a folder.
            MissingDataError: Not found.
            ConfigError: `coco_root` for another data set.
        """
        require_dataset(self.name, coco_root=self.coco_root)

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Open the data set and select the requests.

        A text model gets captions as prompts. A class-conditional model gets each class as often as
        the reference, which is then the images that have a class. Any other model gets n requests.

        Raises:
            ConfigError: Too few captions, or classes that the model lacks.
            DataError: No image has a class.
            MissingDataError: Not found.
        """
        with progress(f"Opening {self.name}") as report:
            dataset = open_dataset(self.name, coco_root=self.coco_root, on_progress=report)
        return self.select_from(dataset, spec, seed)

    def select_from(self, dataset: CaptionedImages, spec: GeneratorSpec, seed: int) -> Requests:
        """Select the requests from an open data set."""
        whole = f"all images of {dataset.name}"
        if self.labels and spec.conditioning != "class":
            raise ConfigError(f"{spec.name} takes no labels; {_takes(spec)}.")
        protocol = self.protocol or protocol_for(known_as(dataset))
        rule = protocol.captions
        takes_captions = rule.pool not in ("classes", "nothing")
        if spec.conditioning == "text":
            if not takes_captions:
                raise ConfigError(
                    f"{spec.name} takes captions, but the protocol {protocol.name} has none. Use "
                    "a class-conditional or unconditional model, or another protocol."
                )
            count = self._count(dataset, protocol)
            captions = draw_captions(dataset, rule, count, seed)
            return _of_dataset(dataset, captions, selection_rule(rule), whole)
        number = self.n or rule.count
        if spec.conditioning == "none":
            return _of_dataset(dataset, plain_requests(number), PLAIN_RULE, whole)
        assert spec.num_classes is not None, "a class-conditional model says how many it knows"
        drawn_by_rule = rule.pool == "classes" and rule.draw != "classes of the reference"
        if drawn_by_rule and not self.labels:  # given labels override the draw
            drawn = drawn_class_requests(
                rule.draw,
                number,
                num_classes=spec.num_classes,
                seed=seed if is_seeded_by_run(rule) else rule.seed,
                size_px=spec.size_px,
            )
            return _of_dataset(dataset, drawn, selection_rule(rule), whole)
        part, labels = labelled_part(dataset, spec.num_classes, self.labels)
        if len(labels) < len(dataset.image_ids):
            whole = f"the {len(labels):,} images of {dataset.name} that have a class"
        requests = _of_dataset(part, class_requests(labels, number, seed), CLASS_RULE, whole)
        return replace(requests, marks={"labels": list(self.labels)}) if self.labels else requests

    def _count(self, dataset: CaptionedImages, protocol: MeasurementProtocol) -> int:
        """Return the number of captions to draw.

        Raises:
            ConfigError: The data set has none, or fewer than the named protocol says.
        """
        available, count = len(dataset.captions), protocol.captions.count
        if not available:
            raise ConfigError(
                f"{dataset.name} has no captions: add captions.jsonl (file_name, text) to the "
                "folder."
            )
        if self.n is not None:
            return self.n
        if available < count and self.protocol is not None and not self.allow_short:
            raise ConfigError(
                f"{dataset.name} has {available:,} captions, but {protocol.name} draws {count:,}. "
                "Give the whole data set, draw fewer with --n, or accept all of them with "
                "--allow-short."
            )
        return min(available, count)


@dataclass(frozen=True)
class PromptSource:
    """Given prompts; a prompt gets the same noise in any list."""

    prompts: Sequence[Caption]
    """Prompts, with ids and categories if a file has them."""
    n: int | None = None
    """Total number of images, prompts in rotation; None: one per prompt."""
    name: str = "prompts"

    @classmethod
    def of_texts(cls, texts: Sequence[str], n: int | None = None) -> PromptSource:
        """Build a source from texts; the hash of each text is its id."""
        return cls([Caption(prompt_id(text), "", text) for text in texts], n)

    def check(self) -> None:
        """Check that there are prompts, and that none is blank.

        Raises:
            ConfigError: There is none, or one is blank.
        """
        if not self.prompts:
            raise ConfigError("There are no prompts. Give at least one with --prompt.")
        for number, prompt in enumerate(self.prompts, start=1):
            if not prompt.text.strip():
                raise ConfigError(f"Prompt {number} of {len(self.prompts)} is blank. Leave it out.")
            if not prompt.text.isprintable() and _is_broken(prompt.text):
                raise ConfigError(
                    f"Prompt {number} of {len(self.prompts)} holds half of a surrogate pair: "
                    f"{prompt.text!r}; write the whole character."
                )

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Select the prompts in rotation.

        Raises:
            ConfigError: The model takes no prompts.
        """
        del seed, progress
        if spec.conditioning != "text":
            raise ConfigError(f"{spec.name} takes no prompts; {_takes(spec)}.")
        return _given(self.prompts, self.n, name="prompts", rule=GIVEN_RULE)


@dataclass(frozen=True)
class LabelSource:
    """Given class labels."""

    labels: Sequence[int]
    n: int | None = None
    """Total number of images, labels in rotation; None: one per label."""
    name: str = "labels"

    def check(self) -> None:
        """Check that there are labels, and that none is negative.

        Raises:
            ConfigError: There is none, or one is negative.
        """
        if not self.labels:
            raise ConfigError("There are no labels. Give some with --labels 3,7.")
        if min(self.labels) < 0:
            raise ConfigError(f"--labels: {min(self.labels)} is no label. Labels start at 0.")

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Select the labels in rotation.

        Raises:
            ConfigError: The model takes no labels, or lacks one of them.
        """
        del seed, progress
        if spec.conditioning != "class" or spec.num_classes is None:
            raise ConfigError(f"{spec.name} takes no labels; {_takes(spec)}.")
        if max(self.labels) >= spec.num_classes:
            raise ConfigError(
                f"--labels: {spec.name} has no label {max(self.labels)}; its labels are 0 to "
                f"{spec.num_classes - 1}."
            )
        wanted = [Caption(f"class-{label}", "", "", label) for label in self.labels]
        return _given(wanted, self.n, name="labels", rule=LABELS_RULE)


def prompt_id(text: str) -> str:
    """Derive an id from a prompt's text, so that a prompt has the same noise in any list.

    >>> prompt_id("a red circle") == prompt_id("a red circle"), len(prompt_id("x"))
    (True, 19)
    """
    return f"prompt-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def belongs_to_no_dataset(dataset: Mapping[str, Any]) -> bool:
    """Return whether a run's `dataset` entry stands for given prompts, labels or images."""
    return dataset.get("selection") in (GIVEN_RULE, LABELS_RULE, IMPORTED_RULE)


def _given(captions: Sequence[Caption], n: int | None, *, name: str, rule: str) -> Requests:
    wanted = InTurns(captions, n or len(captions))
    return Requests(wanted=wanted, name=name, captions_sha256=hash_captions(captions), rule=rule)


def _of_dataset(
    dataset: CaptionedImages, captions: Sequence[Caption], rule: str, reference: str
) -> Requests:
    return Requests(
        wanted=[(caption, 0) for caption in captions],
        name=dataset.name,
        captions_sha256=hash_captions(captions),
        rule=rule,
        dataset=dataset,
        reference=reference,
    )


def _takes(spec: GeneratorSpec) -> str:
    return {
        "text": "it takes prompts: --prompt, --prompts or --data",
        "class": "it takes classes: --labels or --data",
        "none": "it is unconditional: give --data and --n",
    }[spec.conditioning]
