"""Further settings of a stage, as a user types them: `threshold=static,sr1.aug_level=0.2`.

What a stage has is what its defaults name; the type of a default is the type of the setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from evalkit.core.errors import ConfigError

if TYPE_CHECKING:
    from generators.base import GeneratorSpec, StageSettings, StageSpec

OptionValue = str | int | float | bool
TRUTH = {"true": True, "yes": True, "false": False, "no": False}


def apply_options(
    spec: GeneratorSpec, settings: Mapping[str, StageSettings], text: str
) -> dict[str, StageSettings]:
    """Settings with the options of a text, `NAME=VALUE` or `STAGE.NAME=VALUE`, comma-separated.

    A bare name goes to the first stage that has the option.

    Raises:
        ConfigError: The generator has no such option, or the value is not allowed.
    """
    changed = dict(settings)
    for part in text.split(","):
        key, eq, raw = part.strip().partition("=")
        if not eq:
            raise ConfigError(f"--set wants NAME=VALUE or STAGE.NAME=VALUE, got {part.strip()!r}")
        stage = _stage_with(spec, key)
        name = key.rpartition(".")[2]
        options = {**changed[stage.name].options, name: _value(spec, stage, name, raw)}
        changed[stage.name] = replace(changed[stage.name], options=options)
    return changed


def listed_options(spec: GeneratorSpec) -> list[str]:
    """All options of a generator as `STAGE.NAME`."""
    return [f"{stage.name}.{name}" for stage in spec.stages for name in stage.defaults.options]


def _stage_with(spec: GeneratorSpec, key: str) -> StageSpec:
    wanted, dot, name = key.rpartition(".")
    for stage in spec.stages:
        if name in stage.defaults.options and (not dot or stage.name == wanted):
            return stage
    known = ", ".join(listed_options(spec)) or "none"
    raise ConfigError(f"{spec.name} has no option {key!r}; it has: {known}")


def _value(spec: GeneratorSpec, stage: StageSpec, name: str, raw: str) -> OptionValue:
    default: Any = stage.defaults.options[name]
    where = f"--set {stage.name}.{name}"
    if isinstance(default, bool):
        if raw.lower() not in TRUTH:
            raise ConfigError(f"{where}: expected {' or '.join(TRUTH)}, got {raw!r}")
        return TRUTH[raw.lower()]
    if isinstance(default, str):
        allowed = stage.choices.get(name, ())
        if raw not in allowed:
            raise ConfigError(f"{where}: expected {' or '.join(allowed)}, got {raw!r}")
        return raw
    return _number(where, type(default), raw, stage.ranges.get(name))


def _number(
    where: str, kind: type[int] | type[float], raw: str, span: tuple[float, float] | None
) -> int | float:
    try:
        value = kind(raw)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{where}: expected {what}, got {raw!r}") from None
    low, high = span or (float("-inf"), float("inf"))
    if not low <= value <= high:
        raise ConfigError(f"{where}: expected {low:g} to {high:g}, got {raw}")
    return value
