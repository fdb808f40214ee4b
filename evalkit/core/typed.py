"""Values read from files, checked against the annotations of the dataclass that takes them.

A dataclass takes anything. What another program or a damaged file wrote is checked here, before a
wrong value is met far from where it was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Check = Callable[[Any], bool]


def check_types(cls: type, values: Any) -> None:
    """Check values that are about to become a dataclass's fields.

    Unknown and missing names are left to the dataclass itself.

    Raises:
        TypeError: A value has another type than its field, or these are no mapping; the message is
            one line.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     x: float
    ...     name: str | None = None
    >>> check_types(Point, {"x": 1, "name": None})
    >>> check_types(Point, {"x": "1"})
    Traceback (most recent call last):
    TypeError: x is '1', expected float.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"expected the fields of {cls.__name__} by name.")
    for name, (fits, expected) in _checks(cls).items():
        if name in values and not fits(values[name]):
            found = repr(values[name])
            shown = found if len(found) <= 60 else f"{found[:57]}..."
            raise TypeError(f"{name} is {shown}, expected {expected}.")


@lru_cache
def _checks(cls: type) -> dict[str, tuple[Check, str]]:
    return {name: (_check(hint), _named(hint)) for name, hint in get_type_hints(cls).items()}


def _check(hint: Any) -> Check:
    """Return what tells whether a value fits; hints that are not known here fit everything."""
    origin = get_origin(hint)
    if hint is Any:
        return _anything
    if origin in (Union, UnionType):
        parts = [_check(part) for part in get_args(hint)]
        return lambda value: any(fits(value) for fits in parts)
    if origin is Literal:
        chosen = get_args(hint)
        return lambda value: isinstance(value, str | int) and value in chosen
    kind = origin or hint
    if kind is float:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    if kind is tuple or kind is Sequence:
        inner = _check(get_args(hint)[0]) if get_args(hint) else _anything
        return lambda value: isinstance(value, list | tuple) and all(map(inner, value))
    if kind in (Mapping, dict) and get_args(hint):
        of_value = _check(get_args(hint)[1])
        return lambda value: isinstance(value, kind) and all(map(of_value, value.values()))
    if isinstance(kind, type):
        return lambda value: isinstance(value, kind)
    return _anything


def _anything(value: Any) -> bool:
    del value
    return True


def _named(hint: Any) -> str:
    if hint is type(None):
        return "nothing"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_named, get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, get_args(hint)))
    return getattr(hint, "__name__", str(hint))
