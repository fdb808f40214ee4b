"""`evalkit list`: what there is; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from evalkit.catalog import DATASETS, METRICS
from evalkit.core.errors import EvalkitError
from evalkit.core.registry import load, third_party


def show(kind: str) -> None:
    """Print one table."""
    title, header, rows = _TABLES[kind]()
    table = Table(*header, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _models() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    models: Mapping[str, Any] = load("generators.catalog:MODELS")
    aliases: Mapping[str, str] = load("generators.catalog:ALIASES")
    bare = {full: name for name, full in aliases.items()}
    rows = [
        (
            name,
            row.conditioning,
            f"{row.size_px} px",
            row.weights,
            _also(bare.get(name), row.summary),
        )
        for name, row in models.items()
    ]
    rows += [(name, "", "", "", target) for name, target in third_party("generators").items()]
    return "Models", ("name", "asked with", "size", "weights", "what it is"), rows


def _datasets() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    rows = [
        (name, f"{row.default_n:,}", f"{row.size_px} px", row.summary, row.source)
        for name, row in DATASETS.items()
    ]
    return "Data sets", ("name", "default n", "size", "what it is", "where it comes from"), rows


def _metrics() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    header = ("name", "direction", "least n", "what it is", "reference")
    return "Metrics", header, (_metric(name) for name in METRICS)


def _metric(name: str) -> tuple[str, ...]:
    """A line of the table; of a package that is broken, what is wrong with it."""
    try:
        row = METRICS[name]
    except EvalkitError as error:
        return name, "", "", str(error), ""
    better = "" if row.direction == "none" else f"{row.direction} is better"
    return name, better, str(row.min_n), row.summary, row.paper


def metrics_markdown() -> str:
    """Our metrics as the table of the README.

    Records that take more images than their metric come in lines of their own, those that are
    alike in one.
    """
    lines: list[tuple[str, ...]] = []
    apart: dict[tuple[str, str, str], list[str]] = {}
    for name, row in METRICS.own.items():
        lines.append((f"`{name}`", row.direction, str(row.min_n), row.summary, row.paper))
        for line in row.records:
            if line.min_n:
                summary = line.summary.format(metric="the same")
                apart.setdefault((line.direction, line.min_n, summary), []).append(line.name)
    for (direction, min_n, summary), names in apart.items():
        named = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
        lines.append((named, direction, min_n, summary, "as their metrics"))
    head = "| name | better | least n | what it is | reference |\n|---|---|---|---|---|\n"
    return head + "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _recipes() -> tuple[str, tuple[str, ...], Iterable[tuple[str, ...]]]:
    import generators

    folder = Path(generators.__file__).parent / "training" / "recipes"
    rows = [(path.stem, str(path.name)) for path in sorted(folder.glob("*.toml"))]
    return "Recipes for `evalkit train`", ("name", "file"), rows


def _also(bare: str | None, summary: str) -> str:
    return f"{summary}; a bare `{bare}` means this" if bare else summary


_TABLES = {"models": _models, "datasets": _datasets, "metrics": _metrics, "recipes": _recipes}
