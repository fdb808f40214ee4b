"""Settings of a generator's stages: defaults, allowed values, and parsing of user input.

A stage is one network of a cascade. An option exists if the stage has a default for it, whose type
it then has, or lists it as undecided.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

from evalkit.core.errors import ConfigError

OptionValue = str | int | float | bool
TRUTH = {"true": True, "yes": True, "false": False, "no": False}
GUIDANCE_RANGE = (0.0, 100.0)
"""Allowed guidance scales, unless the stage sets its own range."""
Setting = Literal["guidance", "steps", "sampler"]
SETTINGS: tuple[Setting, ...] = ("guidance", "steps", "sampler")


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """How one stage of a cascade samples."""

    steps: int | None = None
    """Network evaluations (pairs count once), or tokens for an autoregressive stage."""
    sampler: str | None = None
    """Name of the sampler, such as `ancestral` or `ddim`."""
    guidance: float | None = None
    """Scale: of classifier-free guidance, s in eps_u + s (eps_c - eps_u), 1 is off (DALL-E:
    logits); or of a noisy classifier's gradient, 0 is off. None: the stage has none."""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Further settings of this stage, with their defaults."""


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage: its name, its defaults and the allowed values."""

    name: str
    defaults: StageSettings
    samplers: tuple[str, ...] = ()
    max_steps: int | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Allowed words of each string option; an option without choices takes any text."""
    undecided: Mapping[str, type[OptionValue]] = field(default_factory=dict)
    """Further options by type, which have no default: without a value, the model decides."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Minimum and maximum of `guidance` and of each numeric option."""


Settings = Mapping[str, StageSettings]


@runtime_checkable
class Staged(Protocol):
    """A spec that settings are resolved against, such as `generators.base.GeneratorSpec`."""

    @property
    def name(self) -> str:
        """The catalog name, for messages."""
        ...

    @property
    def conditioning(self) -> str:
        """`none`, `class` or `text`."""
        ...

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """In the order in which they run."""
        ...

    @property
    def main_stage(self) -> str:
        """The stage of an unqualified setting, if it has the setting; empty: the first with it."""
        ...


def resolve_settings(
    spec: Staged,
    *,
    guidance: str | None = None,
    steps: str | None = None,
    sampler: str | None = None,
    options: str | Sequence[str] | None = None,
) -> dict[str, StageSettings]:
    """Resolve the settings that a user typed.

    A bare value (`3`, `50`, `ddim`) applies to the main stage, or the first with the setting;
    `base=1.35,sr1=8` names stages. Options are named: `threshold=static,sr1.aug_level=0.2`. A text
    without choices, such as `negative_prompt=blurry, dark`, ends where the next option begins.

    Raises:
        ConfigError: The generator has no such stage or setting, or the value is out of range.
    """
    settings = default_settings(spec)
    for setting, text in zip(SETTINGS, (guidance, steps, sampler), strict=True):
        if text is not None:
            settings = _apply(spec, settings, setting, text)
    seen: set[str] = set()
    for argument in (options,) if isinstance(options, str) else options or ():
        settings = _apply_options(spec, settings, argument, seen)
    return settings


def default_settings(spec: Staged) -> dict[str, StageSettings]:
    """Return the default settings of each stage, by stage name."""
    return {stage.name: stage.defaults for stage in spec.stages}


def _apply(
    spec: Staged, settings: dict[str, StageSettings], setting: Setting, text: str
) -> dict[str, StageSettings]:
    having = {s.name: s for s in spec.stages if getattr(s.defaults, setting) is not None}
    if not having:
        raise ConfigError(_not_had(spec, setting))
    changed, seen = dict(settings), set[str]()
    bare = spec.main_stage if spec.main_stage in having else next(iter(having))
    for part in text.split(","):
        name, eq, value = part.strip().partition("=")
        stage, raw = (name, value) if eq else (bare, name)
        if stage not in having:
            raise ConfigError(
                f"{spec.name} has no {setting} for stage {stage!r}; stages with {setting}: "
                f"{', '.join(having)}."
            )
        _refuse_second(stage, seen, f"--{setting} {text}", "stage")
        changed[stage] = _with(spec.name, changed[stage], having[stage], setting, raw)
    return changed


def _refuse_second(name: str, seen: set[str], typed: str, what: str) -> None:
    """Refuse a second value for the same stage or option.

    Raises:
        ConfigError: There is one; which of the two counts would be a guess.
    """
    if name in seen:
        raise ConfigError(f"{typed} sets {what} {name} twice. Give one value.")
    seen.add(name)


def _with(
    name: str, chosen: StageSettings, stage: StageSpec, setting: Setting, raw: str
) -> StageSettings:
    """Return the settings of one stage with one of them replaced by what was typed."""
    if setting == "sampler":
        return replace(chosen, sampler=_sampler(name, stage, raw))
    if setting == "steps":
        return replace(chosen, steps=_steps(stage, raw))
    return replace(chosen, guidance=_guidance(stage, raw))


def _sampler(name: str, stage: StageSpec, raw: str) -> str:
    if raw not in stage.samplers:
        known = ", ".join(stage.samplers)
        raise ConfigError(f"{name} has no sampler {raw!r} for stage {stage.name}; it has: {known}.")
    return raw


def _steps(stage: StageSpec, raw: str) -> int:
    where, most = f"--steps for {stage.name}", stage.max_steps
    number = int(_read(where, int, raw))
    if number < 1 or (most is not None and number > most):
        allowed = "at least 1" if most is None else f"1 to {most}"
        raise ConfigError(f"{where} must be {allowed}, got {number}.")
    return number


def _guidance(stage: StageSpec, raw: str) -> float:
    span = stage.ranges.get("guidance", GUIDANCE_RANGE)
    return _number(f"--guidance for {stage.name}", float, raw, span)


def _not_had(spec: Staged, setting: Setting) -> str:
    why = " (it is unconditional)" if spec.conditioning == "none" and setting == "guidance" else ""
    has: list[str] = sorted(
        name for name in SETTINGS if any(getattr(s.defaults, name) is not None for s in spec.stages)
    )
    has += [f"--set {option}" for option in _listed_options(spec)]
    return f"{spec.name} has no {setting}{why}; it has: {', '.join(has) or 'no settings'}."


def _apply_options(
    spec: Staged, settings: Mapping[str, StageSettings], text: str, seen: set[str]
) -> dict[str, StageSettings]:
    """Apply comma-separated options, each `NAME=VALUE` or `STAGE.NAME=VALUE`, not `seen` before."""
    changed = dict(settings)
    parts = text.split(",")
    while parts:
        part = parts.pop(0)
        key, eq, raw = part.strip().partition("=")
        if not eq:
            raise ConfigError(f"--set takes NAME=VALUE or STAGE.NAME=VALUE, got {part.strip()!r}.")
        stage = _stage_with(spec, key)
        name = key.rpartition(".")[2]
        _refuse_second(f"{stage.name}.{name}", seen, f"--set {text}", "option")
        while parts and _is_free_text(stage, name) and not _begins_option(spec, parts[0]):
            raw += "," + parts.pop(0)
        options = {**changed[stage.name].options, name: _option(stage, name, raw.strip())}
        changed[stage.name] = replace(changed[stage.name], options=options)
    return changed


def _begins_option(spec: Staged, part: str) -> bool:
    """Return whether a part begins with the name of an option, so that a text before it ends."""
    key, eq, _ = part.strip().partition("=")
    name = key.rpartition(".")[2]
    return bool(eq) and any(name in _types(stage) for stage in spec.stages)


def _listed_options(spec: Staged) -> list[str]:
    """Return all options of a generator as `STAGE.NAME`."""
    return [f"{stage.name}.{name}" for stage in spec.stages for name in _types(stage)]


def _types(stage: StageSpec) -> dict[str, type[OptionValue]]:
    """Return the type of each option of a stage."""
    return {**{name: type(v) for name, v in stage.defaults.options.items()}, **stage.undecided}


def _is_free_text(stage: StageSpec, name: str) -> bool:
    return _types(stage)[name] is str and name not in stage.choices


def _stage_with(spec: Staged, key: str) -> StageSpec:
    """Return the stage that a key names, or the first one with a bare option."""
    wanted, dot, name = key.rpartition(".")
    for stage in spec.stages:
        if name in _types(stage) and (not dot or stage.name == wanted):
            return stage
    known = ", ".join(_listed_options(spec)) or "none"
    raise ConfigError(f"{spec.name} has no option {key!r}; it has: {known}.")


def _option(stage: StageSpec, name: str, raw: str) -> OptionValue:
    kind = _types(stage)[name]
    where = f"--set {stage.name}.{name}"
    if kind is bool:
        if raw.lower() not in TRUTH:
            raise ConfigError(f"{where} must be {_listed(TRUTH)}, got {raw!r}.")
        return TRUTH[raw.lower()]
    if kind is str:
        if name in stage.choices and raw not in stage.choices[name]:
            raise ConfigError(f"{where} must be {_listed(stage.choices[name])}, got {raw!r}.")
        return raw
    return _number(where, int if kind is int else float, raw, stage.ranges.get(name))


def _number(
    where: str, kind: type[int] | type[float], raw: str, span: tuple[float, float] | None
) -> int | float:
    value = _read(where, kind, raw)
    low, high = span or (float("-inf"), float("inf"))
    if not low <= value <= high:
        raise ConfigError(f"{where} must be {low:g} to {high:g}, got {raw}.")
    return value


def _read(where: str, kind: type[int] | type[float], raw: str) -> int | float:
    try:
        return kind(raw)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{where} must be {what}, got {raw!r}.") from None


def _listed(words: Iterable[str]) -> str:
    """Join words as in `a, b or c`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
