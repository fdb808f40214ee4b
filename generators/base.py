"""What every generator offers: a spec that says what it can do, and `generate`.

Units: images are uint8, height x width x 3, RGB, 0-255. A stage is one network of a cascade.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from evalkit.core.errors import ConfigError
from generators.options import apply_options, listed_options

Conditioning = Literal["none", "class", "text"]
Status = Literal["ok", "refused", "filtered", "failed"]
GUIDANCE_RANGE = (0.0, 100.0)
"""Of a stage that says nothing else."""


@dataclass(frozen=True)
class Request:
    """One image that is wanted."""

    prompt: str | None = None
    """The caption, for a text-conditional model."""
    label: int | None = None
    """The class index, for a class-conditional model."""
    seed: int = 0
    """Seed of this image's noise, in [0, 2**63)."""
    image: np.ndarray | None = None
    """uint8, height x width x 3: for a model that inpaints, the image to keep parts of."""
    mask: np.ndarray | None = None
    """bool, height x width: which pixels of `image` to keep."""


@dataclass(frozen=True)
class Sample:
    """What came of a request: an image, or the reason why there is none."""

    image: np.ndarray | None
    """uint8, height x width x 3, RGB, 0-255; None unless the status is `ok`."""
    status: Status = "ok"
    """`refused` and `filtered` are the model's own doing, `failed` is a fault."""
    reason: str = ""
    """Why there is no image."""
    notes: tuple[str, ...] = ()
    """What the reader of a score should know, such as `caption truncated`."""


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How one stage of a cascade samples."""

    steps: int | None = None
    """Network evaluations (pairs count once), or tokens for an autoregressive stage."""
    sampler: str | None = None
    """Name of the sampler, such as `ancestral` or `ddim`."""
    guidance: float | None = None
    """Scale: of classifier-free guidance, s in eps_u + s (eps_c - eps_u), 1 is off; or of a noisy
    classifier's gradient, 0 is off. None: has none."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of this stage, with their defaults."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage: its name, its defaults, what may be chosen."""

    name: str
    defaults: StageSettings
    samplers: tuple[str, ...] = ()
    max_steps: int | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What an option whose value is a word may be."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The least and the most that `guidance`, or an option whose value is a number, may be."""


Settings = Mapping[str, StageSettings]


@dataclass(frozen=True, kw_only=True)
class GeneratorSpec:
    """What a generator is and can do; all of it goes into the fingerprint."""

    name: str
    """The catalog name, `MODEL:PRESET`."""
    display_name: str
    """What reports call it."""
    conditioning: Conditioning
    """What it is asked with."""
    stages: tuple[StageSpec, ...]
    """In the order in which they run; the first is the one that decides the content."""
    size_px: int
    """Edge of the square images it makes natively."""
    training_data: tuple[str, ...]
    """Names of the data sets it was trained on; empty means unknown."""
    weights: str
    """Where the weights came from."""
    weights_sha256: str
    """Hash of all weights files, in the order of the stages."""
    num_classes: int | None = None
    """Number of labels of a class-conditional model."""
    main_stage: str = ""
    """The stage that a bare setting goes to if it has it; empty: the first one that has it."""

    def default_settings(self) -> dict[str, StageSettings]:
        """Each stage's defaults by stage name."""
        return {stage.name: stage.defaults for stage in self.stages}


@runtime_checkable
class Generator(Protocol):
    """Prompts and seeds in, uint8 images out."""

    spec: GeneratorSpec

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """One sample per request, in order; all of them are one batch."""
        ...


def resolve_settings(
    spec: GeneratorSpec,
    *,
    guidance: str | None = None,
    steps: str | None = None,
    sampler: str | None = None,
    options: str | None = None,
) -> dict[str, StageSettings]:
    """Settings from what a user typed.

    A bare value (`3`, `50`, `ddim`) goes to the main stage, or to the first that has the setting;
    `base=1.35,sr1=8` names stages. Options are named: `threshold=static,sr1.aug_level=0.2`.

    Raises:
        ConfigError: The generator has no such stage or setting, or the value is out of range.
    """
    settings = spec.default_settings()
    for setting, text in (("guidance", guidance), ("steps", steps), ("sampler", sampler)):
        if text is not None:
            settings = _apply(spec, settings, setting, text)
    return settings if options is None else apply_options(spec, settings, options)


def _apply(
    spec: GeneratorSpec, settings: dict[str, StageSettings], setting: str, text: str
) -> dict[str, StageSettings]:
    having = [s.name for s in spec.stages if getattr(s.defaults, setting) is not None]
    if not having:
        raise ConfigError(_not_had(spec, setting))
    changed = dict(settings)
    bare = spec.main_stage if spec.main_stage in having else having[0]
    for part in text.split(","):
        name, eq, value = part.strip().partition("=")
        stage, raw = (name, value) if eq else (bare, name)
        if stage not in having:
            raise ConfigError(
                f"{spec.name} has no {setting} for a stage {stage!r}; it has it for: "
                + ", ".join(having)
            )
        parsed = _parse(spec, stage, setting, raw)
        change: dict[str, Any] = {setting: parsed}
        changed[stage] = replace(changed[stage], **change)
    return changed


def _not_had(spec: GeneratorSpec, setting: str) -> str:
    why = " (it is unconditional)" if spec.conditioning == "none" and setting == "guidance" else ""
    has = sorted(
        name
        for name in ("guidance", "steps", "sampler")
        if any(getattr(s.defaults, name) is not None for s in spec.stages)
    )
    has += [f"--set {option}" for option in listed_options(spec)]
    return f"{spec.name} has no {setting}{why}; it has: {', '.join(has) or 'no settings'}"


def _parse(spec: GeneratorSpec, stage: str, setting: str, raw: str) -> float | int | str:
    stage_spec = next(s for s in spec.stages if s.name == stage)
    if setting == "sampler":
        if raw not in stage_spec.samplers:
            known = ", ".join(stage_spec.samplers)
            raise ConfigError(f"{spec.name}: no sampler {raw!r} for {stage}; it has: {known}")
        return raw
    try:
        number = float(raw) if setting == "guidance" else int(raw)
    except ValueError:
        kind = "a number" if setting == "guidance" else "a whole number"
        raise ConfigError(f"--{setting} for {stage}: expected {kind}, got {raw!r}") from None
    if setting == "steps":
        most = stage_spec.max_steps
        if number < 1 or (most is not None and number > most):
            raise ConfigError(f"--steps for {stage}: expected 1 to {most}, got {number}")
        return number
    low, high = stage_spec.ranges.get(setting, GUIDANCE_RANGE)
    if not low <= number <= high:
        raise ConfigError(f"--guidance for {stage}: expected {low:g} to {high:g}, got {raw}")
    return number
