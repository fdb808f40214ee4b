"""Configurations from flat settings, as JSON and TOML have them; unknown names are errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from generators.errors import ArchitectureError

ConfigT = TypeVar("ConfigT")


def config_from_flat(cls: type[ConfigT], settings: Mapping[str, Any], what: str) -> ConfigT:
    """Build a configuration dataclass; lists become tuples.

    Args:
        cls: The dataclass.
        settings: Its fields by name.
        what: Named in the error, such as "a U-Net".

    Raises:
        ArchitectureError: A setting is unknown or missing.
    """
    known = fields(cls)  # type: ignore[arg-type]
    if unknown := sorted(set(settings) - {field.name for field in known}):
        raise ArchitectureError(f"Unknown settings of {what}: {', '.join(unknown)}.")
    needed = {field.name for field in known if field.default is MISSING}
    if missing := sorted(needed - set(settings)):
        raise ArchitectureError(f"Missing settings of {what}: {', '.join(missing)}.")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()})
