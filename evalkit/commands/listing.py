"""`evalkit list`: the catalogs, without heavy imports."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from rich import box
from rich.markup import escape
from rich.table import Table

from evalkit.catalog import DATASETS, METRICS, DatasetRow
from evalkit.core.errors import EvalkitError
from evalkit.core.progress import print_list
from evalkit.core.registry import Catalog
from evalkit.protocols.catalog import PROTOCOLS, open_protocol, protocol_for

Row = TypeVar("Row")
UNKNOWN = "unknown"
"""Shown where another package's row has no value."""


def show(kind: str, *, as_json: bool = False) -> None:
    """Print one table, or its rows as JSON: a list of objects with the columns as keys."""
    title, header, rows = _TABLES[kind]()
    if as_json:
        listed = [dict(zip(header, row, strict=True)) for row in rows]
        sys.stdout.write(json.dumps(listed, indent=2, ensure_ascii=False) + "\n")
        return
    table = Table(*header, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    print_list(table)


def _models() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    from generators.catalog import ALIASES, CATALOG, SCHEMES, ModelRow

    bare: dict[str, list[str]] = {}
    for name, full in ALIASES.items():
        bare.setdefault(full, []).append(name)

    def cells(name: str, row: ModelRow) -> tuple[str, ...]:
        size = UNKNOWN if row.size_px is None else f"{row.size_px} px"
        return (
            name,
            row.conditioning or UNKNOWN,
            size,
            row.weights or UNKNOWN,
            _also(bare.get(name, []), row.summary),
        )

    rows = _cells(CATALOG, cells, num_columns=5)
    rows += [
        (f"{scheme}:...", "its own", "its own", "yours", f"{row.summary}; ... is {row.form}")
        for scheme, row in SCHEMES.items()
    ]
    return "Models", ("name", "conditioning", "size", "weights", "description"), rows


def _datasets() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    def cells(name: str, row: DatasetRow) -> tuple[str, ...]:
        count = f"{protocol_for(name).captions.count:,}"
        size = f"{row.size_px} px" if row.size_px else UNKNOWN
        return name, row.protocol, count, size, row.summary, row.source

    header = ("name", "protocol", "default n", "size", "description", "source")
    return "Data sets", header, _cells(DATASETS, cells, num_columns=6)


def _protocols() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    opened = [open_protocol(name) for name in PROTOCOLS]
    rows = [
        (p.name, p.dataset, f"{p.captions.count:,}", str(len(p.our_choices)), p.summary)
        for p in opened
    ]
    return (
        "Protocols",
        ("name", "data set", "captions", "values of our choice", "description"),
        rows,
    )


def _metrics() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    header = ("name", "direction", "minimum n", "description", "reference")
    return "Metrics", header, (_metric(name) for name in METRICS)


def _metric(name: str) -> tuple[str, ...]:
    """Format a row of the table; for a broken package, say what is wrong with it."""
    try:
        row = METRICS[name]
    except EvalkitError as error:
        return name, "", "", str(error), ""
    better = "" if row.direction == "none" else f"{row.direction} is better"
    return name, better, str(row.min_n), row.summary, row.paper


def metrics_markdown() -> str:
    """Format our metrics as the table of the README.

    Records that need more images than their metric get lines of their own; similar ones share one.
    So do metrics of two runs.
    """
    lines: list[tuple[str, ...]] = []
    apart: dict[tuple[str, str, str], list[str]] = {}
    for name, row in METRICS.own.items():
        if row.full_reference:
            continue
        lines.append((f"`{name}`", row.direction, str(row.min_n), row.summary, row.paper))
        for line in row.records:
            if line.min_n:
                summary = line.summary.format(metric="the same")
                apart.setdefault((line.direction, line.min_n, summary), []).append(line.name)
    for (direction, min_n, summary), names in apart.items():
        named = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
        lines.append((named, direction, min_n, summary, "as for their metrics"))
    for direction in ("higher", "lower"):
        pairs = [
            (name, row)
            for name, row in METRICS.own.items()
            if row.full_reference and row.direction == direction
        ]
        summary = f"of two runs of the same noise: {', '.join(row.summary for _, row in pairs)}"
        papers = ", ".join(dict.fromkeys(row.paper for _, row in pairs))
        named = ", ".join(f"`{name}`" for name, _ in pairs)
        lines.append((named, direction, "1", summary, papers))
    head = "| name | better | minimum n | description | reference |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _recipes() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    from generators.recipes.catalog import CATALOG, RecipeRow

    def cells(name: str, row: RecipeRow) -> tuple[str, ...]:
        return name, row.network, row.summary, PurePosixPath(row.file).name

    rows = sorted(_cells(CATALOG, cells, num_columns=4))
    return "Recipes for `evalkit train`", ("name", "network", "trains", "file"), rows


def _cells(
    catalog: Catalog[Row], cells: Callable[[str, Row], tuple[str, ...]], *, num_columns: int
) -> list[tuple[str, ...]]:
    """Format the rows of a catalog; a broken row of another package says so in its own line."""
    rows = []
    for name in catalog:
        try:
            rows.append(cells(name, catalog[name]))
        except EvalkitError as error:
            rows.append((name, *[""] * (num_columns - 2), f"broken: {error}"))
    return rows


def _also(bare: Sequence[str], summary: str) -> str:
    named = " or ".join(f"`{name}`" for name in bare)
    return f"{summary}; a bare {named} means this" if bare else summary


_TABLES = {
    "models": _models,
    "datasets": _datasets,
    "protocols": _protocols,
    "metrics": _metrics,
    "recipes": _recipes,
}
