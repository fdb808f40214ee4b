"""The one registry: names to `"module:attribute"` targets, loaded when they are used.

A catalog is a literal table. Third parties add rows by entry points (`evalkit.generators`,
`evalkit.metrics`, `evalkit.datasets`, `evalkit.suites`), whose names read `package/name`.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from evalkit.core.errors import MissingExtraError, UnknownNameError


def load(target: str) -> Any:
    """Import `"module:attribute"` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def third_party(kind: str) -> dict[str, str]:
    """The rows that other packages add to the catalog of this kind."""
    return {point.name: point.value for point in entry_points(group=f"evalkit.{kind}")}


def resolve(name: str, table: Mapping[str, str], *, kind: str) -> Any:
    """The object behind a name.

    Raises:
        UnknownNameError: Neither the table nor an entry point has the name.
    """
    target = table.get(name) or third_party(kind).get(name)
    if target is None:
        raise unknown(name, [*table, *third_party(kind)], kind=kind)
    return load(target)


def unknown(name: str, known: Iterable[str], *, kind: str) -> UnknownNameError:
    """An error that names the nearest match and lists what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return UnknownNameError(f"no {kind.rstrip('s')} {name!r}{guess} Known: {', '.join(names)}")


def require(module: str, *, extra: str, what: str) -> Any:
    """Import an optional dependency, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra) from error
