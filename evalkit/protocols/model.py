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

Crop = Literal["center", "squash", "none"]
Filter = Literal["bicubic", "lanczos", "bilinear", "box"]
Resize = Literal["tf1", "pytorch-fid", "clean", "legacy_pytorch", "torchmetrics"]
Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Captions(_Part):
    """The captions that the model gets as prompts."""

    pool: Literal["all captions"]
    """The pool: all captions of the data set, possibly several of one image."""
    count: Annotated[int, Field(ge=1)]
    """Number of drawn captions; all if there are fewer."""
    draw: Literal["hash-rank"]
    """Rule of the draw; `hash-rank`: the `count` smallest sha256(seed/caption id)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]


class ReferenceImages(_Part):
    """The reference images and their preprocessing."""

    images: Literal["all images"]
    """All images of the data set, whichever captions were drawn."""
    crop: Crop
    size_px: Pixels | None = None
    """Side after cropping, in pixels; none: the cropped size."""
    filter: Filter
    """Antialiased filter of that resizing, and of the samples' resizing."""
    reencode: Literal["none"]
    """Lossy format in which images are re-encoded before they are measured."""


class SampleImages(_Part):
    """Preprocessing of the model's images."""

    crop: Crop
    size_px: Pixels | None = None
    """Side after cropping, in pixels; none: the model's size."""


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
    clip: ClipScore
    metrics: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    """Metrics that are measured by default."""
    sources: dict[str, Text]
    """The source of each value by its dotted name, such as `captions.count`."""

    @model_validator(mode="after")
    def _check(self) -> MeasurementProtocol:
        stated, values = set(self.sources), set(self.values())
        if unknown := sorted(stated - values):
            raise ValueError(f"sources names {unknown[0]!r}, which is no value of the protocol.")
        if missing := sorted(values - stated):
            raise ValueError(f"sources does not say where {missing[0]!r} is stated.")
        scale = CLIP_SCALES[self.clip.variant]
        if self.clip.scale != scale:
            raise ValueError(
                f"clip.scale is {self.clip.scale:g}, and variant {self.clip.variant!r} means "
                f"{scale:g}."
            )
        for part in ("reference", "samples"):
            prepared = getattr(self, part)
            if prepared.crop == "squash" and prepared.size_px is None:
                raise ValueError(f"{part}.crop 'squash' needs {part}.size_px.")
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics names one twice: {', '.join(self.metrics)}.")
        return self

    def values(self) -> dict[str, object]:
        """Return every value by its dotted name; values that are left out are None."""
        found: dict[str, object] = {"dataset": self.dataset}
        for part in ("captions", "reference", "samples", "extractor", "clip"):
            fields = getattr(self, part).model_dump()
            found |= {f"{part}.{name}": value for name, value in fields.items()}
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
