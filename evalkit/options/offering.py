"""Fields of a record that are also options of a command.

Each field has its flag and its help, so that every command has the same options in the same words:
an `Offer` is a decorator that turns one parameter of a command into the record's options.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar, get_type_hints

import typer

Value = TypeVar("Value")
Record = TypeVar("Record")
Command = Callable[..., None]


def option(
    default: Value,
    flag: str,
    text: str,
    *,
    typed: Any = None,
    parse: Callable[[Any], Any] | None = None,
    minimum: float | None = None,
    shown: Any = None,
    optional: bool = False,
) -> Value:
    """Declare a field that is also an option.

    Args:
        default: The field's default.
        flag: Its flag on the command line.
        text: Its help, one line.
        typed: Type on the command line, if it isn't the field's own.
        parse: Converts the command line's value to the field's.
        minimum: Smallest allowed number.
        shown: Default on the command line, if it isn't the field's own.
        optional: Whether the command line has no default, because something else, such as a
            protocol, decides if nothing is typed.
    """
    more: Any = {} if minimum is None else {"min": minimum}
    metadata = {
        "option": typer.Option(flag, help=text, **more),
        "typed": typed,
        "parse": parse,
        "shown": shown,
        "optional": optional,
    }
    if isinstance(default, Mapping):
        copy: Value = dataclasses.field(default_factory=lambda: default, metadata=metadata)
        return copy
    field: Value = dataclasses.field(default=default, metadata=metadata)
    return field


@dataclass(frozen=True, kw_only=True)
class Offer(Generic[Record]):
    """The options of one record, for any number of commands."""

    record: type[Record]
    parameter: str
    """The command's parameter that receives the record; its name also prefixes the record's
    options, so that they don't clash with a command's own."""
    build: Callable[[dict[str, Any], frozenset[str]], Record]
    """Makes the record of its fields and the names of the optional ones that were typed."""

    def __call__(
        self, *, flags: Mapping[str, str] | None = None, without: tuple[str, ...] = ()
    ) -> Callable[[Command], Command]:
        """Replace the command's parameter by all options of the record.

        Args:
            flags: Flags that replace the fields' own, by field.
            without: Fields that the command sets itself.
        """
        chosen = {
            field.name: field
            for field in dataclasses.fields(self.record)  # type: ignore[arg-type]
            if field.metadata and field.name not in without
        }
        parameters = [self._parameter(f, (flags or {}).get(name)) for name, f in chosen.items()]

        def decorate(command: Command) -> Command:
            signature = inspect.signature(command, eval_str=True)
            own = [
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
                for name, parameter in signature.parameters.items()
                if name != self.parameter
            ]

            @functools.wraps(command)
            def wrapped(**given: Any) -> None:
                read = {name: given.pop(self._prefixed(name)) for name in chosen}
                typed = frozenset(
                    name
                    for name, value in read.items()
                    if value is not None and _may_be_left_open(chosen[name])
                )
                fields = {
                    name: _value(chosen[name], value)
                    for name, value in read.items()
                    if value is not None
                }
                command(**{self.parameter: self.build(fields, typed)}, **given)

            merged = [*own, *parameters]
            wrapped.__signature__ = inspect.Signature(merged)  # type: ignore[attr-defined]
            wrapped.__annotations__ = {p.name: p.annotation for p in merged}
            return wrapped

        return decorate

    def _prefixed(self, name: str) -> str:
        return f"{self.parameter}_{name}"

    def _parameter(self, field: dataclasses.Field[Any], flag: str | None) -> inspect.Parameter:
        """Build the field's parameter for Typer."""
        own = get_type_hints(self.record)[field.name]
        read = field.metadata["typed"] or own
        option_info = field.metadata["option"]
        if flag is not None:
            option_info = typer.Option(flag, help=option_info.help, min=option_info.min)
        default = None if field.metadata["optional"] else _shown_default(field)
        return inspect.Parameter(
            self._prefixed(field.name),
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[read | None if default is None else read, option_info],
        )


def _may_be_left_open(field: dataclasses.Field[Any]) -> bool:
    """Whether the command line has no default of its own for a field."""
    return bool(field.metadata["optional"]) or field.default is None


def _shown_default(field: dataclasses.Field[Any]) -> Any:
    if field.metadata["shown"] is not None:
        return field.metadata["shown"]
    if field.default is dataclasses.MISSING:
        return None
    if isinstance(field.default, tuple):
        return ",".join(map(str, field.default)) or None
    return field.default


def _value(field: dataclasses.Field[Any], given: Any) -> Any:
    parse = field.metadata["parse"]
    return parse(given) if parse else given
