"""The registry: names to rows of a catalog, and `"module:attribute"` targets loaded on use.

A catalog is a literal table of rows. Other packages add rows by entry points (`evalkit.generators`,
`evalkit.metrics`, `evalkit.datasets`, `evalkit.suites`, `evalkit.recipes`, `evalkit.samplers`),
whose names read `package/name`; an entry point names a row of the same class as ours, so it has all
that ours have.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, TypeVar

from evalkit.core.errors import ConfigError, EvalkitError, MissingExtraError, UnknownNameError

Row = TypeVar("Row")


class Catalog(Mapping[str, Row]):
    """The rows of one kind by name: our own first, then those of other packages.

    Names are known without loading anything; another package's row is imported on access.

    Args:
        kind: Plural of the kind, such as `metrics`; the entry points' group is `evalkit.KIND`.
        own: Our rows.
        row_type: Class of a row.
        adopt: Builds a row from (name, object) if an entry point names an object that is not a
            row, such as a loader; None: a row is required.
    """

    def __init__(
        self,
        kind: str,
        own: Mapping[str, Row],
        row_type: type[Row],
        *,
        adopt: Callable[[str, Any], Row] | None = None,
    ) -> None:
        self.kind = kind
        self.own = own
        self._row_type = row_type
        self._adopt = adopt

    def __getitem__(self, name: str) -> Row:
        """Return the row of a name.

        Raises:
            UnknownNameError: The name is unknown; the message has the nearest match and the list.
            ConfigError: Another package's row can't be loaded, or is not a row.
        """
        if name in self.own:
            return self.own[name]
        target = third_party(self.kind).get(name)
        if target is None:
            raise unknown(name, self, kind=self.kind)
        return self._foreign(name, target)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in third_party(self.kind)

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in third_party(self.kind) if name not in self.own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _foreign(self, name: str, target: str) -> Row:
        where = f"entry point {name!r} of evalkit.{self.kind} ({target})"
        try:
            found = load(target)
        except EvalkitError:
            raise
        except Exception as error:  # a foreign module may raise anything on import
            raise ConfigError(
                f"{where} can't be loaded ({_one_line(error)}). Repair or remove the package that "
                "registers it."
            ) from error
        if isinstance(found, self._row_type):
            return found
        if self._adopt is None or not callable(found):
            raise ConfigError(
                f"{where} is a {type(found).__name__}, expected a {self._row_type.__name__}. "
                "Repair or remove the package that registers it."
            )
        return self._adopt(name, found)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def load(target: str) -> Any:
    """Import `"module:attribute"` and return the attribute."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def third_party(kind: str) -> dict[str, str]:
    """Return the targets that other packages register for this kind, by name."""
    return {point.name: point.value for point in entry_points(group=f"evalkit.{kind}")}


def unknown(name: str, known: Iterable[str], *, kind: str) -> UnknownNameError:
    """Build the error for an unknown name: the nearest match and the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    guess = f"; did you mean {near[0]!r}?" if near else "."
    return UnknownNameError(
        f"Unknown {kind.rstrip('s')} {name!r}{guess} Known: {', '.join(names)}."
    )


def resolve(name: str, table: Mapping[str, str], *, kind: str) -> Any:
    """Load the object that a table of targets or an entry point names.

    Raises:
        UnknownNameError: Neither the table nor an entry point has this name.
    """
    target = table.get(name) or third_party(kind).get(name)
    if target is None:
        raise unknown(name, [*table, *third_party(kind)], kind=kind)
    return load(target)


def require(module: str, *, extra: str, what: str) -> Any:
    """Import an optional dependency, or raise an error that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra) from error
