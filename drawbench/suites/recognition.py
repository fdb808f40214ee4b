"""Recognise DrawBench in files that differ from its sheet: order, categories, altered copies.

One public copy of DrawBench has two prompts altered; it is recognised and gets its own name, since
results on it are not results on DrawBench. The official prompts are known here by fingerprints,
not by text.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from drawbench.errors import SuiteError
from drawbench.suites.files import Row, clean_text
from evalkit.core.tables import split_lines

ALTERED_NAME = "drawbench-altered-openai-dalle3"
ALTERED_NOTE = (
    "this is the altered copy of DrawBench that openai/dalle3-eval-samples publishes: prompts 154 "
    "and 168 are not those of the official sheet, so results on it are not results on DrawBench"
)
# Row (from 0) and fingerprint of the two prompts that the copy changed.
ALTERED_ROWS = {153: "009ff6cd75b17108", 167: "d4d2be8f94167bc2"}
# A file with at least this many matching rows is treated as DrawBench and must be complete.
LOOKS_LIKE_DRAWBENCH = 150


@dataclass(frozen=True, kw_only=True)
class Recognised:
    """The suite that a list of rows was recognised as."""

    rows: list[Row]
    """(prompt, category) in the suite's own order."""
    altered_name: str = ""
    """Name of an altered copy; empty for the suite itself."""
    notes: tuple[str, ...] = ()
    """Notes that a report prints about an altered copy."""


def recognise_drawbench(rows: Sequence[Row], *, source: str, advice: str) -> Recognised | None:
    """Recognise DrawBench or its altered copy; return None for anything else.

    Args:
        rows: (prompt, category) in any order; categories may be missing.
        source: Name of the file in errors.
        advice: What errors advise the user to do.

    Raises:
        SuiteError: The rows are most of DrawBench but not all of it, or have other categories.
    """
    known = drawbench_rows()
    order = {fingerprint: index for index, (fingerprint, _) in enumerate(known)}
    prints = [fingerprint_of(text) for text, _ in rows]
    matching = sum(value in order for value in prints)
    if matching < LOOKS_LIKE_DRAWBENCH:
        return None
    altered = {value: row for row, value in ALTERED_ROWS.items()}
    places = [order.get(value, altered.get(value)) for value in prints]
    if None in places or sorted(p for p in places if p is not None) != list(range(len(known))):
        raise SuiteError(f"{_fault(places, source)} {advice}")
    ordered = sorted(
        zip((p for p in places if p is not None), rows, strict=True), key=lambda it: it[0]
    )
    full = [(text, category or known[place][1]) for place, (text, category) in ordered]
    _refuse_other_categories(full, source, advice)
    if matching == len(known):
        return Recognised(rows=full)
    return Recognised(rows=full, altered_name=ALTERED_NAME, notes=(ALTERED_NOTE,))


def fingerprint_of(text: str) -> str:
    """Return the first 16 hexadecimal digits of a prompt's SHA-256."""
    return hashlib.sha256(clean_text(text).encode()).hexdigest()[:16]


@cache
def drawbench_rows() -> tuple[Row, ...]:
    """Return (fingerprint, category) of the 200 official prompts, in order."""
    text = (files("drawbench.suites") / "prompts" / "drawbench_rows.tsv").read_text("utf-8")
    return tuple((line.split("\t")[0], line.split("\t")[1]) for line in split_lines(text))


def drawbench_category(text: str) -> str | None:
    """Return the category of an official prompt of DrawBench; None for any other text."""
    return _categories().get(fingerprint_of(text))


@cache
def _categories() -> dict[str, str]:
    return dict(drawbench_rows())


def _fault(places: Sequence[int | None], source: str) -> str:
    total = len(drawbench_rows())
    strange = [number for number, place in enumerate(places, start=1) if place is None]
    there = Counter(place for place in places if place is not None)
    missing = [str(place + 1) for place in range(total) if place not in there]
    doubled = [str(place + 1) for place, count in sorted(there.items()) if count > 1]
    parts = [f"{len(places)} prompts, expected {total}"]
    if missing:
        parts.append(f"official prompt {_some(missing)} missing")
    if doubled:
        parts.append(f"official prompt {_some(doubled)} duplicated")
    if strange:
        parts.append(f"row {_some([str(n) for n in strange])} not in DrawBench")
    return f"{source} resembles DrawBench but differs from it ({'; '.join(parts)})."


def _refuse_other_categories(rows: Sequence[Row], source: str, advice: str) -> None:
    pairs = zip(rows, drawbench_rows(), strict=True)
    for number, ((_, found), (_, official)) in enumerate(pairs, start=1):
        if clean_text(found) != official:
            raise SuiteError(
                f"{source}: official prompt {number} is in category {found!r}, expected "
                f"{official!r}. {advice}"
            )


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
