"""Configurations from flat settings, as JSON and TOML have them; unknown names are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from generators.errors import ArchitectureError

ConfigT = TypeVar("ConfigT")


def config_from_flat(cls: type[ConfigT], settings: Mapping[str, Any], what: str) -> ConfigT:
    """Build a configuration dataclass; lists become tuples.

    Args:
        cls: The dataclass.
        settings: Its fields by name.
        what: Named in the error, such as "a U-Net".

    Raises:
        ArchitectureError: A setting is unknown or missing, or has another type; a size is not
            positive.
    """
    known = fields(cls)  # type: ignore[arg-type]
    if unknown := sorted(set(settings) - {field.name for field in known}):
        raise ArchitectureError(f"Unknown settings of {what}: {', '.join(unknown)}.")
    needed = {field.name for field in known if field.default is MISSING}
    if missing := sorted(needed - set(settings)):
        raise ArchitectureError(f"Missing settings of {what}: {', '.join(missing)}.")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
    hints = get_type_hints(cls)
    for field in known:
        if field.name in values:
            _check_value(field.name, values[field.name], hints[field.name], field.default)
    return cls(**values)


def _check_value(name: str, value: object, hint: Any, default: object) -> None:
    """Check the type of a setting, and that its numbers are positive where the default is."""
    try:
        TypeAdapter(hint, config=ConfigDict(strict=True, allow_inf_nan=False)).validate_python(
            value
        )
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ArchitectureError(f"{name}: {reason}, got {value!r}.") from error
    if isinstance(default, int | float) and default <= 0:
        return
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int | float) and not isinstance(number, bool) and number <= 0:
            raise ArchitectureError(f"{name} must be positive, got {value!r}.")
