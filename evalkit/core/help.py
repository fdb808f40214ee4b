"""`--help` under headings, as plain text: Typer's panels without the cost of rich markup.

A command or an option names its heading by `rich_help_panel`, as in any Typer program.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer.core import TyperCommand, TyperGroup

OPTIONS, COMMANDS = "Options", "Commands"
Entry = tuple[str, str]


class HeadedCommand(TyperCommand):
    """A command whose options are listed under headings."""

    def heading(self, param: Any) -> str:
        """Return the heading of an option; subclasses may decide by its name."""
        return getattr(param, "rich_help_panel", None) or OPTIONS

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each heading."""
        found: list[tuple[str, Entry]] = []
        for param in self.get_params(ctx):
            entry = param.get_help_record(ctx)
            is_argument = param.param_type_name == "argument"
            if entry is not None:
                found.append(("Arguments" if is_argument else self.heading(param), entry))
        _write(formatter, found)


class HeadedGroup(TyperGroup):
    """A group whose commands are listed under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each heading."""
        shown = {
            name: command
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        }
        limit = formatter.width - 6 - max(map(len, shown), default=0)
        _write(
            formatter,
            [
                (
                    getattr(command, "rich_help_panel", None) or COMMANDS,
                    (name, command.get_short_help_str(limit)),
                )
                for name, command in shown.items()
            ],
        )


def _write(formatter: Any, entries: Iterable[tuple[str, Entry]]) -> None:
    sections: dict[str, list[Entry]] = {}
    for heading, entry in entries:
        sections.setdefault(heading, []).append(entry)
    for heading, listed in sections.items():
        with formatter.section(heading):
            formatter.write_dl(listed)
