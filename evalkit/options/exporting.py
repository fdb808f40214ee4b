"""The option of writing results to files, for every command that has results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.catalog import EXPORTS
from evalkit.core.errors import ConfigError
from evalkit.core.files import check_output
from evalkit.options.offering import Offer, option

_FLAG = "--export"


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Files that a command writes its results to, beside those that it always writes."""

    files: tuple[Path, ...] = option(
        (),
        _FLAG,
        f"Also write the results to this file; repeatable. The suffix decides: "
        f"{', '.join(EXPORTS)}.",
        typed=list[Path],
        parse=tuple,
    )


def check_exports(files: tuple[Path, ...]) -> None:
    """Check that all files can be written, before the work whose results they take.

    Raises:
        ConfigError: A suffix that no format has, or one file twice.
        OutputError: A folder, or a place that can't be written.
    """
    for place, file in enumerate(files):
        if file.suffix.lower() not in EXPORTS:
            raise ConfigError(
                f"{_FLAG} {file}: no format has the suffix {file.suffix!r}. Use "
                f"{', '.join(EXPORTS)}."
            )
        if file in files[:place]:
            raise ConfigError(f"{_FLAG} names {file} twice. Give each file once.")
        check_output(file, _FLAG)


def _build(fields: dict[str, Any], typed: frozenset[str]) -> ExportOptions:
    del typed
    options = ExportOptions(**fields)
    check_exports(options.files)
    return options


exporting = Offer(record=ExportOptions, parameter="exports", build=_build)
"""Replace a command's parameter `exports` by the option `--export`, checked before the command."""
