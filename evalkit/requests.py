"""What a model is asked for: captions or classes of a data set, prompts, labels, or just images.

A source is where requests come from. It is checked before anything heavy is imported, and selects
when the model is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from evalkit.core.errors import ConfigError
from evalkit.core.run import WorkItem
from evalkit.core.seeding import image_seed
from evalkit.datasets.base import (
    SELECTION_RULE,
    Caption,
    CaptionedImages,
    copy_of,
    hash_captions,
    known_as,
    select_captions,
)
from evalkit.datasets.classes import (
    CLASS_RULE,
    PLAIN_RULE,
    class_requests,
    labelled_part,
    plain_requests,
)
from evalkit.datasets.open import open_dataset, require_dataset
from evalkit.protocols.catalog import protocol_for

if TYPE_CHECKING:
    from evalkit.core.progress import ProgressFactory
    from evalkit.protocols.model import MeasurementProtocol
    from generators.base import GeneratorSpec

GIVEN_RULE = "prompts as given, in turns"
LABELS_RULE = "labels as given, in turns"


@dataclass(frozen=True, kw_only=True)
class Requests:
    """The images that a run is to make, and what they are measured against."""

    wanted: Sequence[tuple[Caption, int]]
    """A caption (without a text for models that take none) and the sample's number, by index."""
    name: str
    """What the run's configuration calls the source."""
    captions_sha256: str
    rule: str
    """How they were chosen."""
    dataset: CaptionedImages | None = None
    """The reference; None for requests that belong to no data set."""
    reference: str = ""
    """Which images of the data set are the reference, in words."""
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

    def items(self, spec: GeneratorSpec, seed: int) -> list[WorkItem]:
        """Return one work item per image, with only what the model takes."""
        return [
            WorkItem(
                index=index,
                caption_id=caption.id,
                sample_index=sample,
                seed=image_seed(seed, caption.id, sample),
                prompt=caption.text if spec.conditioning == "text" else None,
                label=caption.label if spec.conditioning == "class" else None,
                image_id=caption.image_id or None,
            )
            for index, (caption, sample) in enumerate(self.wanted)
        ]


@runtime_checkable
class RequestSource(Protocol):
    """Where requests come from."""

    @property
    def name(self) -> str:
        """Short name, for the run's folder."""

    def check(self) -> None:
        """Stop at once where the source can't be used; nothing heavy is imported."""

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Select the requests for a model."""


@dataclass(frozen=True)
class DatasetSource:
    """Captions of a data set, or its classes, or as many images as its protocol says."""

    name: str
    """Name or path of the data set."""
    n: int | None = None
    """Captions to draw; None: the protocol's number, or all there are if they are fewer."""
    coco_root: Path | None = None
    protocol: MeasurementProtocol | None = None
    """None: what the name of the data set stands for."""

    def check(self) -> None:
        """Stop where the data set can't be opened.

        Raises:
            UnknownNameError: No data set has this name, and it is no folder.
            MissingDataError: Found nowhere.
            ConfigError: `coco_root` for another data set.
        """
        require_dataset(self.name, coco_root=self.coco_root)

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Open the data set and choose.

        A model that takes captions gets captions. One that takes classes gets each class as often
        as the reference has it, the reference being the images that have a class. Any other is
        asked for n images.

        Raises:
            ConfigError: More captions than there are, or classes that the model doesn't know.
            DataError: No image has a class.
            MissingDataError: Found nowhere.
        """
        with progress(f"Opening {self.name}") as report:
            dataset = open_dataset(self.name, coco_root=self.coco_root, on_progress=report)
        return self.select_from(dataset, spec, seed)

    def select_from(self, dataset: CaptionedImages, spec: GeneratorSpec, seed: int) -> Requests:
        """Choose from the data set, which is open already."""
        whole = f"all images of {dataset.name}"
        protocol = self.protocol or protocol_for(known_as(dataset))
        count = protocol.captions.count
        if spec.conditioning == "text":
            captions = select_captions(dataset, _number(self.n, count, dataset), seed)
            return _of_dataset(dataset, captions, SELECTION_RULE, whole)
        number = self.n or count
        if spec.conditioning == "none":
            return _of_dataset(dataset, plain_requests(number), PLAIN_RULE, whole)
        assert spec.num_classes is not None, "a class-conditional model says how many it knows"
        part, labels = labelled_part(dataset, spec.num_classes)
        if len(labels) < len(dataset.image_ids):
            whole = f"the {len(labels):,} images of {dataset.name} that have a class"
        return _of_dataset(part, class_requests(labels, number), CLASS_RULE, whole)


@dataclass(frozen=True)
class PromptSource:
    """Prompts as they are given; a prompt draws the same noise whatever stands beside it."""

    prompts: Sequence[Caption]
    """Texts, with ids and categories where a file has them."""
    n: int | None = None
    """Images in all, the prompts in turns; None: one of each."""
    name: str = "prompts"

    @classmethod
    def of_texts(cls, texts: Sequence[str], n: int | None = None) -> PromptSource:
        """Build a source from texts; the hash of each text is its id."""
        return cls([Caption(prompt_id(text), "", text) for text in texts], n)

    def check(self) -> None:
        """Stop where there is no prompt, or one is blank.

        Raises:
            ConfigError: Says which.
        """
        if not self.prompts:
            raise ConfigError("there are no prompts; give at least one with --prompt")
        for number, prompt in enumerate(self.prompts, start=1):
            if not prompt.text.strip():
                raise ConfigError(f"prompt {number} of {len(self.prompts)} is blank; leave it out")

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Select the prompts in rotation.

        Raises:
            ConfigError: The model takes none.
        """
        del seed, progress
        if spec.conditioning != "text":
            raise ConfigError(f"{spec.name} takes no prompts; {_takes(spec)}")
        return _given(self.prompts, self.n, name="prompts", rule=GIVEN_RULE)


@dataclass(frozen=True)
class LabelSource:
    """Class labels as they are given."""

    labels: Sequence[int]
    n: int | None = None
    """Images in all, the labels in turns; None: one of each."""
    name: str = "labels"

    def check(self) -> None:
        """Stop at labels that no model has.

        Raises:
            ConfigError: None, or a negative one.
        """
        if not self.labels:
            raise ConfigError("there are no labels; give some with --labels 3,7")
        if min(self.labels) < 0:
            raise ConfigError(f"--labels: {min(self.labels)} is no label; they start at 0")

    def select(self, spec: GeneratorSpec, seed: int, progress: ProgressFactory) -> Requests:
        """Select the labels in rotation.

        Raises:
            ConfigError: The model takes none, or doesn't know one of them.
        """
        del seed, progress
        if spec.conditioning != "class" or spec.num_classes is None:
            raise ConfigError(f"{spec.name} takes no labels; {_takes(spec)}")
        if max(self.labels) >= spec.num_classes:
            raise ConfigError(
                f"--labels: {spec.name} has no label {max(self.labels)}; it knows 0 to "
                f"{spec.num_classes - 1}"
            )
        wanted = [Caption(f"class-{label}", "", "", label) for label in self.labels]
        return _given(wanted, self.n, name="labels", rule=LABELS_RULE)


def prompt_id(text: str) -> str:
    """Derive an id from a prompt's text, so that a prompt has the same noise in any list.

    >>> prompt_id("a red circle") == prompt_id("a red circle"), len(prompt_id("x"))
    (True, 19)
    """
    return f"prompt-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"


def belongs_to_no_dataset(dataset: Mapping[str, Any]) -> bool:
    """Return whether a run's `dataset` entry stands for given prompts or labels."""
    return dataset.get("selection") in (GIVEN_RULE, LABELS_RULE)


def _given(captions: Sequence[Caption], n: int | None, *, name: str, rule: str) -> Requests:
    seen: dict[str, int] = {}
    wanted = []
    for index in range(n or len(captions)):
        caption = captions[index % len(captions)]
        seen[caption.id] = seen.get(caption.id, -1) + 1
        wanted.append((caption, seen[caption.id]))
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


def _number(n: int | None, count: int, dataset: CaptionedImages) -> int:
    available = len(dataset.captions)
    if not available:
        raise ConfigError(
            f"{dataset.name} has no captions: add captions.jsonl (file_name, text) to the folder"
        )
    return min(available, count) if n is None else n


def _takes(spec: GeneratorSpec) -> str:
    return {
        "text": "it takes prompts: --prompt, --prompts or --data",
        "class": "it takes classes: --labels or --data",
        "none": "it is unconditional: give --data and --n",
    }[spec.conditioning]
