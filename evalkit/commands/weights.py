"""`evalkit weights`: published weights, downloaded once and verified by their hash."""

from __future__ import annotations

from rich import box
from rich.table import Table

from evalkit.core.errors import MissingWeightsError
from evalkit.core.progress import console, print_list, progress_bar
from generators.weights import published as weights
from generators.weights.published import PUBLISHED, CachedFile


def show() -> None:
    """Print the table of weights, with addresses and cached files."""
    table = Table("name", "content", "cached", "sha256", "address", box=box.SIMPLE_HEAD)
    for name, row in PUBLISHED.items():
        cached = weights.cached_file(name)
        known = f"{cached.expected[:12]} ({cached.origin})" if cached.expected else cached.origin
        table.add_row(name, row.what, _size(cached), known, row.url or "never released")
    print_list(table)
    console.print(f"Cache: {weights.weights_folder()}", soft_wrap=True)


def fetch(names: list[str]) -> None:
    """Download what is not cached yet, resuming partial downloads."""
    for name in names:
        with progress_bar(f"Downloading {name}") as report:
            path = weights.locate(name, report=report)
        _tell(name, weights.cached_file(name))
        console.print(f"  {path}", soft_wrap=True)


def verify(names: list[str]) -> None:
    """Compare cached files with their hashes; without names, all cached files."""
    chosen = names or [name for name in PUBLISHED if weights.cached_file(name).is_there]
    if not chosen:
        raise MissingWeightsError(
            "No weights are cached. Download some with `evalkit weights fetch NAME`."
        )
    for name in chosen:
        weights.verify(name)
        _tell(name, weights.cached_file(name))


def _tell(name: str, cached: CachedFile) -> None:
    console.print(f"{name}: sha256 {cached.recorded} ({cached.origin})", soft_wrap=True)


def _size(cached: CachedFile) -> str:
    return f"{cached.path.stat().st_size / 1e6:,.1f} MB" if cached.is_there else "no"
