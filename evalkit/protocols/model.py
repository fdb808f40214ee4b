"""A measurement protocol: everything that has to be agreed upon before two numbers compare.

A protocol is a TOML file. Each of its values has an entry in `[sources]` that says where it is
stated; where nobody states it, the entry says so (`OUR_CHOICE`), and how many such values there are
is part of what a reader has to know.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

OUR_CHOICE = "not stated; our choice"
"""How a source begins where no publication states the value."""

CLIP_SCALES = {"torchmetrics": 100.0, "hessel": 2.5, "raw": 1.0}
"""What each definition of the CLIP score multiplies a cosine with."""

Crop = Literal["center", "squash", "none"]
Filter = Literal["bicubic", "lanczos", "bilinear", "box"]
Text = Annotated[str, Field(min_length=1)]
Pixels = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Captions(_Part):
    """Which captions the model is asked for."""

    pool: Literal["all captions"]
    """What they are drawn from: every caption of the data set, several of one image among them."""
    count: Annotated[int, Field(ge=1)]
    """How many are drawn; all there are where these are fewer."""
    draw: Literal["hash-rank"]
    """Rule of the draw; `hash-rank`: the `count` smallest sha256(seed/caption id)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)]


class ReferenceImages(_Part):
    """Which real images the samples are compared with, and what happens to them first."""

    images: Literal["all images"]
    """All of the data set, whichever captions were drawn."""
    crop: Crop
    size_px: Pixels | None = None
    """Side after cropping, in pixels; none: as the crop leaves them."""
    filter: Filter
    """Antialiased filter of that resizing, and of the samples' where they are resized."""
    reencode: Literal["none"]
    """Lossy format that images pass through before they are measured."""


class SampleImages(_Part):
    """What happens to the model's images before they are measured."""

    crop: Crop
    size_px: Pixels | None = None
    """Side after cropping, in pixels; none: as the model made them."""


class Extractor(_Part):
    """The network whose features the distance is taken of."""

    name: Text
    """`inception`, `dinov2`, `shapes-clip` or a model of open_clip."""
    resize: Text
    """How images come to Inception's 299 px, see `evalkit.features.resize`."""


class ClipScore(_Part):
    """The CLIP that scores image and caption."""

    model: Text
    variant: Literal["torchmetrics", "hessel", "raw"]
    """Definition of the score, see `evalkit.metrics.clip_score`."""
    prefix: str
    """Put before each caption."""
    scale: float
    """What the cosine is multiplied with: the variant's."""


class MeasurementProtocol(_Part):
    """How a number of one name is made, from the draw of the captions to the metrics."""

    name: Annotated[str, Field(pattern=r"[a-z0-9][a-z0-9.-]*")]
    summary: Text
    """One line that says what it is for."""
    dataset: Text
    """Name of `evalkit list datasets`."""
    captions: Captions
    reference: ReferenceImages
    samples: SampleImages
    extractor: Extractor
    clip: ClipScore
    metrics: Annotated[tuple[Text, ...], Field(min_length=1, strict=False)]
    """Metrics that are measured unless others are asked for."""
    sources: dict[str, Text]
    """Where each value is stated, by its dotted name, such as `captions.count`."""

    @model_validator(mode="after")
    def _check(self) -> MeasurementProtocol:
        stated, values = set(self.sources), set(self.values())
        if unknown := sorted(stated - values):
            raise ValueError(f"sources names {unknown[0]!r}, which is no value of the protocol")
        if missing := sorted(values - stated):
            raise ValueError(f"sources does not say where {missing[0]!r} is stated")
        scale = CLIP_SCALES[self.clip.variant]
        if self.clip.scale != scale:
            raise ValueError(
                f"clip.scale is {self.clip.scale:g}, and variant {self.clip.variant!r} means "
                f"{scale:g}"
            )
        if self.samples.crop == "squash" and self.samples.size_px is None:
            raise ValueError("samples.crop 'squash' needs samples.size_px")
        return self

    def values(self) -> dict[str, object]:
        """Return every value by its dotted name; values that are left out are None."""
        found: dict[str, object] = {"dataset": self.dataset}
        for part in ("captions", "reference", "samples", "extractor", "clip"):
            fields = getattr(self, part).model_dump()
            found |= {f"{part}.{name}": value for name, value in fields.items()}
        return {**found, "metrics": self.metrics}

    @property
    def our_choices(self) -> tuple[str, ...]:
        """Values that no publication states."""
        return tuple(name for name, text in self.sources.items() if text.startswith(OUR_CHOICE))
