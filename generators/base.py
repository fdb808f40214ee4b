"""The interface of every generator: `spec`, which states what it can do, and `generate`.

Units: images are uint8, height x width x 3, RGB, 0-255. A stage is one network of a cascade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

from generators.settings import (
    Settings,
    StageSettings,
    StageSpec,
    default_settings,
    resolve_settings,
)

if TYPE_CHECKING:
    from generators.numerics import Numerics

__all__ = [
    "UNKNOWN_PRECISION",
    "Accelerated",
    "Conditioning",
    "Generator",
    "GeneratorSpec",
    "Request",
    "Sample",
    "Settings",
    "StageSettings",
    "StageSpec",
    "Status",
    "resolve_settings",
]
UNKNOWN_PRECISION = "not known"
"""Of models that evalkit does not run itself."""
Conditioning = Literal["none", "class", "text"]
Status = Literal["ok", "refused", "filtered", "failed"]


@dataclass(frozen=True)
class Request:
    """One requested image."""

    prompt: str | None = None
    """The caption, for a text-conditional model."""
    label: int | None = None
    """The class index, for a class-conditional model."""
    seed: int = 0
    """Seed of this image's noise, in [0, 2**63)."""
    index: int = 0
    """Its place in the run, from 0."""
    sample_index: int = 0
    """0 for the first sample of a prompt."""
    image: np.ndarray | None = None
    """uint8, height x width x 3: for a model that inpaints, the image to keep parts of."""
    mask: np.ndarray | None = None
    """bool, height x width: which pixels of `image` to keep."""


@dataclass(frozen=True)
class Sample:
    """The result of a request: an image, or the reason why there is none."""

    image: np.ndarray | None
    """uint8, height x width x 3, RGB, 0-255; None unless the status is `ok`."""
    status: Status = "ok"
    """`refused` and `filtered` are decisions of the model; `failed` is an error."""
    reason: str = ""
    """Why there is no image."""
    notes: tuple[str, ...] = ()
    """Remarks for the reader of a score, such as `caption truncated`."""


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec:
    """What a generator is and can do; all of it goes into the fingerprint."""

    name: str
    """The catalog name, `MODEL:PRESET`."""
    display_name: str
    """Name in reports."""
    conditioning: Conditioning
    """The input of a request: nothing, a class or a caption."""
    stages: tuple[StageSpec, ...]
    """In the order in which they run; the first one determines the content."""
    size_px: int | None
    """Edge of its native, square images; None: not known before they are made."""
    training_data: tuple[str, ...]
    """Names of its training data sets; empty: unknown."""
    weights: str
    """Where the weights came from."""
    weights_sha256: str
    """Hash of all weights files, in the order of the stages."""
    fixed_size: bool = True
    """Whether all its images have that size; else settings or given images decide."""
    num_classes: int | None = None
    """Number of labels of a class-conditional model."""
    precision: str = "float32"
    """Arithmetic of its networks unless bfloat16 is chosen; an option `dtype` goes first."""
    main_stage: str = ""
    """The stage of an unqualified setting, if it has the setting; empty: the first with it."""

    @property
    def edge_px(self) -> int:
        """The edge, of a generator that states it."""
        assert self.size_px is not None, f"{self.name} states no size"
        return self.size_px

    def default_settings(self) -> dict[str, StageSettings]:
        """Return the default settings of each stage, by stage name."""
        return default_settings(self)


@runtime_checkable
class Generator(Protocol):
    """A model: requests in, uint8 images out."""

    spec: GeneratorSpec

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one sample per request, in order; all requests are one batch."""
        ...


@runtime_checkable
class Accelerated(Generator, Protocol):
    """A generator that can also run in bfloat16, or compiled."""

    def accelerate(self, numerics: Numerics) -> None:
        """Change the numerics of all later calls to `generate`."""
        ...
