"""`evalkit list`: what there is; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evalkit.catalog import DATASETS, METRICS
from evalkit.core.registry import Catalog, load

UNKNOWN = "unknown"
"""What another package does not say of its model."""


def show(kind: str) -> None:
    """Print one table."""
    title, header, rows = _TABLES[kind]()
    table = Table(*header, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _models() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    models: Catalog[Any] = load("generators.catalog:CATALOG")
    aliases: Mapping[str, str] = load("generators.catalog:ALIASES")
    bare = {full: name for name, full in aliases.items()}

    def cells(name: str, row: Any) -> tuple[str, ...]:
        size = UNKNOWN if row.size_px is None else f"{row.size_px} px"
        return (
            name,
            row.conditioning or UNKNOWN,
            size,
            row.weights or UNKNOWN,
            _also(bare.get(name), row.summary),
        )

    rows = _cells(models, cells, num_columns=5)
    return "Models", ("name", "asked with", "size", "weights", "what it is"), rows


def _datasets() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    rows = [
        (name, f"{row.default_n:,}", f"{row.size_px} px", row.summary, row.source)
        for name, row in DATASETS.items()
    ]
    return "Data sets", ("name", "default n", "size", "what it is", "where it comes from"), rows


def _metrics() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    rows = [
        (name, f"{row.direction} is better", str(row.min_n), row.summary, row.reference)
        for name, row in METRICS.items()
    ]
    return "Metrics", ("name", "direction", "least n", "what it is", "reference"), rows


def _recipes() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    recipes: Catalog[Any] = load("generators.recipes.catalog:CATALOG")

    def cells(name: str, row: Any) -> tuple[str, ...]:
        return name, row.network, row.summary, PurePosixPath(row.file).name

    rows = sorted(_cells(recipes, cells, num_columns=4))
    return "Recipes for `evalkit train`", ("name", "network", "what it trains", "file"), rows


def _cells(
    catalog: Catalog[Any], cells: Callable[[str, Any], tuple[str, ...]], *, num_columns: int
) -> list[tuple[str, ...]]:
    """The rows of a catalog; a row of another package that is broken says so in its own line."""
    rows = []
    for name in catalog:
        try:
            rows.append(cells(name, catalog[name]))
        except Exception as error:  # another package may fail in any way, and the list goes on
            reason = " ".join(str(error).split()) or type(error).__name__
            rows.append((name, *[""] * (num_columns - 2), f"broken: {reason}"))
    return rows


def _also(bare: str | None, summary: str) -> str:
    return f"{summary}; a bare `{bare}` means this" if bare else summary


_TABLES = {"models": _models, "datasets": _datasets, "metrics": _metrics, "recipes": _recipes}
