"""A measurement protocol: everything that must be fixed before two numbers are comparable.

A protocol is a TOML file. Each of its values has an entry in `[sources]` that names the publication
that states it; a value that no publication states is marked as `OUR_CHOICE`, and readers can see
how many of these there are.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OUR_CHOICE = "not stated; our choice"
"""Beginning of a source if no publication states the value."""

CLIP_SCALES = {"torchmetrics": 100.0, "hessel": 2.5, "raw": 1.0}
"""Factor of the cosine in each definition of the CLIP score."""

Crop = Literal["center", "squash", "none", "short-side", "torchvision", "adm"]
Filter = Literal["bicubic", "lanczos", "bilinear", "box"]
Resize = Literal["tf1", "pytorch-fid", "clean", "legacy_pytorch", "torchmetrics"]
Reencode = Literal["none", "png", "jpeg-75", "jpeg-90", "jpeg-95"]
Pool = Literal["all captions", "first captions", "one of the first five", "classes", "nothing"]
Draw = Literal[
    "hash-rank", "numpy-permutation", "in order", "list",
    "uniform classes", "classes in turn", "edm classes", "classes of the reference",
]  # fmt: skip
Listing = Literal["ids", "annotations", "images"]
Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def named_values(self, stated: frozenset[str] = frozenset()) -> dict[str, object]:
        """Return the values; an optional one only if it is set, or if a source is stated for it."""
        kept = self.model_fields_set | stated | self.always_named()
        return {name: value for name, value in self.model_dump().items() if name in kept}

    @classmethod
    def always_named(cls) -> frozenset[str]:
        """Return the fields that count as values also where the file leaves them out."""
        required = {name for name, field in cls.model_fields.items() if field.is_required()}
        return frozenset(required | (cls.model_fields.keys() & {"size_px"}))


class Captions(_Part):
    """The captions or classes that the model gets."""

    pool: Pool
    """The pool: all captions, possibly several of one image; the first caption of each image in
    the order of the annotations; one of its first five; classes; or nothing."""
    count: Annotated[int, Field(ge=1)]
    """Number of requests."""
    draw: Draw
    """Rule of the draw, see `evalkit.datasets.draws`."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    """Seed of the draw; `in order` and `list` ignore it."""
    listing: Listing = "ids"
    """Order in which the pool is numbered for the draw: by caption id, as the annotations array
    has it, or as the images array has it with the captions of each image in order."""
    order: Literal["drawn", "ids"] = "drawn"
    """Order of the drawn captions: as drawn, or by caption id."""
    newlines: Literal["kept", "deleted"] = "kept"
    """What happens to line breaks inside a caption."""
    list: str = ""
    """Name of the published list with `draw = "list"`, see `evalkit.datasets.published_lists`."""


class ReferenceImages(_Part):
    """The reference images and their preprocessing."""

    images: Literal["all images", "images of the drawn captions"]
    """Which images of the data set."""
    crop: Crop
    size_px: Pixels | None = None
    """Side after cropping, in pixels; none: the cropped size."""
    filter: Filter
    """Antialiased filter of that resizing, and of the samples' resizing."""
    reencode: Reencode
    """Lossy format in which images are re-encoded after resizing."""


class SampleImages(_Part):
    """Preprocessing of the model's images."""

    crop: Crop
    size_px: Pixels | None = None
    """Side after cropping, in pixels; none: the model's size."""
    saved: Reencode = "none"
    """File format of the model's images, before they are cropped and resized."""
    reencode: Reencode = "none"
    """Lossy format in which they are re-encoded after resizing."""
    exclude: Literal["none", "black"] = "none"
    """Images that are left out."""


class Extractor(_Part):
    """The network whose features the distance compares."""

    name: Text
    """`inception`, `dinov2`, `shapes-clip` or a model of open_clip."""
    resize: Resize
    """How images come to Inception's 299 px, see `evalkit.features.resize`."""


class ClipScore(_Part):
    """The CLIP that scores image and caption."""

    model: Text
    variant: Literal["torchmetrics", "hessel", "raw"]
    """Definition of the score, see `evalkit.metrics.clip_score`."""
    prefix: str
    """Prefix of each caption."""
    scale: float
    """Factor of the cosine, by the variant."""


class Settings(_Part):
    """Settings of single metrics that the protocol fixes."""

    is_split_size: Annotated[int, Field(ge=2)] | None = None
    """Images per part of the Inception Score, in the order of generation; None: 10 shuffled."""
    neighbours: Annotated[tuple[int, ...], Field(strict=False)] | None = None
    """k of precision and recall."""
    blur_radii_px: Annotated[tuple[float, ...], Field(strict=False)] = ()
    """Radii of the Gaussian blurs of both sets, of which `--blur` chooses one."""
    by_category: bool = False
    """Whether each category is measured on its own as well."""


class PublishedValue(_Part):
    """A value that was published under the protocol, for `evalkit protocols show`."""

    model: Text
    metric: Text
    value: float
    source: Text


class MeasurementProtocol(_Part):
    """How a number is measured, from the draw of captions to the metrics."""

    name: Annotated[str, Field(pattern=r"\A[a-z0-9][a-z0-9.-]*\z", max_length=60)]
    summary: Text
    """One line on its purpose."""
    dataset: Text
    """Name of `evalkit list datasets`."""
    captions: Captions
    reference: ReferenceImages
    samples: SampleImages
    extractor: Extractor
    clip: ClipScore | None = None
    """None for images without captions, or where no CLIP score is measured."""
    settings: Settings = Settings()
    metrics: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    """Metrics that are measured by default."""
    sources: dict[str, Text]
    """The source of each value by its dotted name, such as `captions.count`."""
    generation: dict[str, Text] = {}
    """How the published images were generated, in words: for readers, evalkit does not set it."""
    published: Annotated[tuple[PublishedValue, ...], Field(strict=False)] = ()
    """Values that were published under this protocol."""
    departures: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    """In what evalkit differs from what was published, one sentence each."""

    @model_validator(mode="after")
    def _check(self) -> MeasurementProtocol:
        stated, values = set(self.sources), set(self.values())
        if unknown := sorted(stated - values):
            raise ValueError(f"sources names {unknown[0]!r}, which is no value of the protocol.")
        if missing := sorted(values - stated):
            raise ValueError(f"sources does not say where {missing[0]!r} is stated.")
        self._check_captions()
        if self.clip is not None and self.clip.scale != CLIP_SCALES[self.clip.variant]:
            raise ValueError(
                f"clip.scale is {self.clip.scale:g}, and variant {self.clip.variant!r} means "
                f"{CLIP_SCALES[self.clip.variant]:g}."
            )
        for part in ("reference", "samples"):
            prepared = getattr(self, part)
            if prepared.crop not in ("none", "center") and prepared.size_px is None:
                raise ValueError(f"{part}.crop {prepared.crop!r} needs {part}.size_px.")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics names one twice: {', '.join(self.metrics)}.")
        return self

    def _check_captions(self) -> None:
        drawn = self.captions
        if (drawn.draw == "list") != bool(drawn.list):
            raise ValueError("captions.list is the name of a list, and goes with draw 'list'.")
        of_classes = drawn.draw.endswith("classes") or drawn.draw.startswith("classes")
        if of_classes != (drawn.pool == "classes"):
            raise ValueError(
                f"captions.draw {drawn.draw!r} does not draw from the pool {drawn.pool!r}."
            )
        if drawn.pool == "nothing" and drawn.draw != "in order":
            raise ValueError("captions.pool 'nothing' needs captions.draw 'in order'.")

    def values(self) -> dict[str, object]:
        """Return every value by its dotted name; values that are left out are None.

        An optional value that the file leaves out is no value, unless a source is stated for it.
        """
        found: dict[str, object] = {"dataset": self.dataset}
        for part in ("captions", "reference", "samples", "extractor", "clip", "settings"):
            fields: _Part | None = getattr(self, part)
            if fields is None:
                continue
            prefix = f"{part}."
            stated = {n.removeprefix(prefix) for n in self.sources if n.startswith(prefix)}
            found |= {f"{prefix}{n}": v for n, v in fields.named_values(frozenset(stated)).items()}
        return {**found, "metrics": self.metrics}

    @property
    def sha256(self) -> str:
        """Hash of everything that it decides, whatever its name."""
        text = json.dumps(self.values(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def our_choices(self) -> tuple[str, ...]:
        """Values that no publication states."""
        return tuple(name for name, text in self.sources.items() if text.startswith(OUR_CHOICE))

    @property
    def num_values(self) -> int:
        """Number of values that it decides."""
        return len(self.values())

    def choices_phrase(self) -> str:
        """Return how many of its values are our choice, in words.

        Such as `15 of 23 values our choice`.
        """
        return f"{len(self.our_choices)} of {self.num_values} values our choice"
