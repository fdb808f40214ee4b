"""`evalkit cache`: the stored features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from evalkit.core.progress import console
from evalkit.features.store import FeatureStore

_MIB = 1024**2


def cache(root: Path | None, *, clear: bool) -> None:
    """Show what is stored, or delete it all."""
    store = FeatureStore(root)
    if clear:
        console.print(f"{store.clear() / _MIB:,.1f} MiB freed in {store.root}", soft_wrap=True)
        return
    contents = store.contents()
    if not contents:
        console.print(f"No stored features in {store.root}", soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("features", "layer", "images resized and prepared", "precision"):
        table.add_column(heading, overflow="fold")
    for heading in ("rows", "MiB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for stored in contents:
        identity = stored.identity
        table.add_row(
            str(identity.get("extractor", "?")),
            str(identity.get("layer", "")),
            _prepared(identity),
            str(identity.get("precision", "")),
            f"{stored.num_rows:,}",
            f"{stored.size_bytes / _MIB:,.1f}",
        )
    console.print(table)
    total = sum(stored.size_bytes for stored in contents)
    console.print(f"{total / _MIB:,.1f} MiB in {store.root}", soft_wrap=True)
    console.print("Delete them all with: evalkit cache --clear")


def _prepared(identity: Mapping[str, Any]) -> str:
    preparation = identity.get("preparation")
    if not isinstance(preparation, Mapping):
        return "captions"
    parts = [str(identity.get("resize", ""))]
    if preparation.get("crop") not in (None, "none"):
        parts.append(f"crop {preparation['crop']}")
    if preparation.get("size_px"):
        parts.append(f"{preparation['size_px']} px {preparation.get('filter', '')}".strip())
    return ", ".join(filter(None, parts))
