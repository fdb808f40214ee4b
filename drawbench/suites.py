"""Prompt suites: where they come from, and the check that they are what they are called.

`drawbench` and `parti` are not part of this package. They are fetched from their public homes (or
given as a file) and must match a count, the category sizes and a hash before they may bear their
name. One public copy of DrawBench has two prompts altered; it is recognised and named, since
numbers on it are not numbers on DrawBench. `shapes-bench` is our own and embedded.

Hashes are taken over prompts in Unicode NFC with runs of white space as one blank, so that a copy
that differs in nothing but blanks (the official sheet writes "Gary Marcus et al. " with one at its
end) counts as the same.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from drawbench.errors import SuiteError
from drawbench.suite_files import Row, clean_text, parse_rows, read_rows
from drawbench.suite_homes import HOMES
from evalkit.core.downloads import cache_root
from evalkit.core.errors import NetworkError
from evalkit.core.registry import load, third_party, unknown
from evalkit.core.results import write_atomically

MAX_PROMPT_CHARACTERS = 2000
NO_CATEGORY = "all"

DRAWBENCH_SHA256 = "317b04c88e10320a88737b9268fcbb01d3b5ce8bd39c8de566167cf4dc9dc3b4"
PARTI_SHA256 = "45e2d22ef4d50628e712ee8a2c724e8b00d119a087314f6960ba3ec7d94bf987"
SUITE_SIZES: Mapping[str, int] = {"drawbench": 200, "parti": 1632}

ALTERED_NAME = "drawbench-altered-openai-dalle3"
ALTERED_NOTE = (
    "this is the altered copy of DrawBench that openai/dalle3-eval-samples publishes: prompts 154 "
    "and 168 are not those of the official sheet, so results on it are not results on DrawBench"
)
# Row (from 0) and fingerprint of the two prompts that the copy changed.
ALTERED_ROWS = {153: "009ff6cd75b17108", 167: "d4d2be8f94167bc2"}
# From this many matching rows on, a file is taken for an attempt at DrawBench and must be complete.
LOOKS_LIKE_DRAWBENCH = 150

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
# Ids become folder names where images are looked for, so they must not wander.
_PROMPT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of a suite."""

    id: str
    """Stable name of the prompt, such as `drawbench-007`."""
    text: str
    """What the model is asked for."""
    category: str
    """The suite's category; `all` where it has none."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked list of prompts."""

    name: str
    """What it may be called; an altered copy does not bear the original's name."""
    prompts: tuple[Prompt, ...]
    sha256: str
    """Hash of prompts and categories in order."""
    source: str
    """Where the prompts were read from."""
    notes: tuple[str, ...] = ()
    """What a report has to say about this copy."""

    @property
    def categories(self) -> dict[str, int]:
        """Number of prompts by category, in order of first appearance."""
        return dict(Counter(prompt.category for prompt in self.prompts))

    def rows(self) -> list[Row]:
        """(prompt, category), in order."""
        return [(prompt.text, prompt.category) for prompt in self.prompts]


def suite_names() -> list[str]:
    """The suites that can be asked for by name."""
    return sorted([*_FETCHERS, *third_party("suites")])


def load_suite(name: str) -> Suite:
    """A suite by name, from a file, or from a file under a name of its own.

    Args:
        name: `drawbench`, `parti`, `shapes-bench` or a third party's `package/name`; the path of a
            CSV, TSV or text file (recognised if it is a known suite); `drawbench=FILE` for a file
            that must be that suite; or `NAME=FILE` for one's own.

    Returns:
        The suite, checked.

    Raises:
        SuiteError: A file or download is incomplete, altered, or not a list of prompts.
        MissingDataError: The file does not exist.
        NetworkError: No public home could be reached.
        UnknownNameError: No suite has the name.
    """
    own_name, separator, path = name.partition("=")
    if separator:
        return _from_named_file(own_name.strip(), Path(path).expanduser())
    if name in _FETCHERS:
        return _FETCHERS[name]()
    if name in third_party("suites"):
        return _from_third_party(name)
    if Path(name).suffix or "/" in name:
        return _from_file(Path(name).expanduser())
    raise unknown(name, suite_names(), kind="suites")


def make_suite(
    name: str,
    rows: Iterable[Row],
    *,
    source: str,
    ids: Sequence[str] | None = None,
    notes: tuple[str, ...] = (),
) -> Suite:
    """Build a suite from (prompt, category) rows.

    Raises:
        SuiteError: The name is no plain word, there is no prompt, or a prompt or id is blank, too
            long, or there twice.
    """
    if not _NAME.fullmatch(name):
        raise SuiteError(
            f"{source}: suite name {name!r} can't be used. Take small letters, digits, '.', '_', "
            "'-'."
        )
    cleaned = [(clean_text(text), clean_text(category) or NO_CATEGORY) for text, category in rows]
    if not cleaned:
        raise SuiteError(f"{source}: no prompts in it. Expected a column 'prompt' and rows.")
    prompt_ids = list(ids) if ids is not None else _numbered(name, len(cleaned))
    _refuse_bad_rows([text for text, _ in cleaned], prompt_ids, source)
    prompts = tuple(
        Prompt(id=prompt_id, text=text, category=category)
        for prompt_id, (text, category) in zip(prompt_ids, cleaned, strict=True)
    )
    return Suite(
        name=name, prompts=prompts, sha256=rows_sha256(cleaned), source=source, notes=notes
    )


def rows_sha256(rows: Iterable[Row]) -> str:
    """Hash of prompts and categories in order."""
    lines = [f"{clean_text(text)}\t{clean_text(category)}\n" for text, category in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def recognise(rows: Sequence[Row], *, source: str) -> Suite | None:
    """The known suite that these rows are, or None for one's own.

    Raises:
        SuiteError: They are most of DrawBench, but not all of it.
    """
    if rows_sha256(rows) == PARTI_SHA256:
        return make_suite("parti", rows, source=source)
    known = drawbench_rows()
    order = {fingerprint: index for index, (fingerprint, _) in enumerate(known)}
    prints = [fingerprint_of(text) for text, _ in rows]
    matching = sum(value in order for value in prints)
    if matching < LOOKS_LIKE_DRAWBENCH:
        return None
    altered = {value: row for row, value in ALTERED_ROWS.items()}
    places = [order.get(value, altered.get(value)) for value in prints]
    if None in places or sorted(p for p in places if p is not None) != list(range(len(known))):
        raise SuiteError(_drawbench_fault(places, source))
    ordered = sorted(
        zip((p for p in places if p is not None), rows, strict=True), key=lambda it: it[0]
    )
    full = [(text, category or known[place][1]) for place, (text, category) in ordered]
    _refuse_other_categories(full, [category for _, category in known], source)
    if matching == len(known):
        suite = make_suite("drawbench", full, source=source)
        assert suite.sha256 == DRAWBENCH_SHA256
        return suite
    name_ids = _numbered("drawbench", len(full))
    return make_suite(ALTERED_NAME, full, source=source, ids=name_ids, notes=(ALTERED_NOTE,))


def fingerprint_of(text: str) -> str:
    """The first 16 hexadecimal digits of a prompt's SHA-256."""
    return hashlib.sha256(clean_text(text).encode()).hexdigest()[:16]


@cache
def drawbench_rows() -> tuple[Row, ...]:
    """(fingerprint, category) of the 200 official prompts, in order."""
    text = (files("drawbench") / "prompts" / "drawbench_rows.tsv").read_text("utf-8")
    return tuple((line.split("\t")[0], line.split("\t")[1]) for line in text.splitlines())


def write_suite(path: Path, suite: Suite) -> None:
    """Write a suite as the CSV that `load_suite` reads."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "prompt", "category"])
    writer.writerows([prompt.id, prompt.text, prompt.category] for prompt in suite.prompts)
    write_atomically(path, buffer.getvalue().encode())


def cache_folder() -> Path:
    """Where fetched suites are kept."""
    return cache_root() / "suites"


def _from_named_file(name: str, path: Path) -> Suite:
    rows, ids = read_rows(path)
    if name not in ("drawbench", "parti"):
        return make_suite(name, rows, source=str(path), ids=ids)
    suite = recognise(rows, source=str(path))
    if suite is None or suite.name != name:
        got = f"{len(rows)} prompts that differ from its {SUITE_SIZES[name]}"
        if suite is not None:
            got = suite.notes[0] if suite.notes else f"the {suite.name} suite"
        raise SuiteError(f"{path}: not the {name} suite, but {got}. {_ADVICE[name]}")
    return suite


def _from_file(path: Path) -> Suite:
    rows, ids = read_rows(path)
    known = recognise(rows, source=str(path))
    if known is not None:
        return known
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._") or "suite"
    return make_suite(name, rows, source=str(path), ids=ids)


def _from_third_party(name: str) -> Suite:
    rows = load(third_party("suites")[name])()
    if isinstance(rows, Suite):
        return rows
    return make_suite(name.rpartition("/")[2], rows, source=name)


def _fetch(name: str) -> Suite:
    """The kept copy if it is still whole, else the first home that answers with the true suite."""
    kept = cache_folder() / f"{name}.csv"
    if kept.is_file():
        suite = recognise(read_rows(kept)[0], source=str(kept))
        if suite is not None and suite.name == name:
            return suite
    faults = []
    for home, read in HOMES[name]:
        try:
            rows = read()
        except (OSError, ValueError, ImportError) as error:
            faults.append(f"{home}: {_first_line(error)}")
            continue
        suite = recognise(rows, source=home)
        if suite is None or suite.name != name:
            raise SuiteError(f"{home} does not hold the {name} suite any more. {_ADVICE[name]}")
        write_suite(kept, suite)
        return suite
    raise NetworkError(f"{name} can't be fetched ({'; '.join(faults)}). {_ADVICE[name]}")


_ADVICE = {
    "drawbench": (
        "Give the official sheet as a file: --suite drawbench=FILE.csv (columns prompt and "
        "category), or use your list under a name of its own: --suite NAME=FILE.csv."
    ),
    "parti": "Give PartiPrompts.tsv as a file: --suite parti=PartiPrompts.tsv.",
}


def _shapes_bench() -> Suite:
    text = (files("drawbench") / "prompts" / "shapes_bench.csv").read_text("utf-8")
    rows, _ = parse_rows(text, suffix=".csv", source="shapes-bench")
    return make_suite("shapes-bench", rows, source="embedded in evalkit")


_FETCHERS: Mapping[str, Callable[[], Suite]] = {
    "drawbench": lambda: _fetch("drawbench"),
    "parti": lambda: _fetch("parti"),
    "shapes-bench": _shapes_bench,
}


def _numbered(name: str, count: int) -> list[str]:
    width = max(3, len(str(count - 1)))
    return [f"{name}-{index:0{width}d}" for index in range(count)]


def _refuse_bad_rows(texts: Sequence[str], ids: Sequence[str], source: str) -> None:
    for column, values in (("prompt", texts), ("id", ids)):
        seen: dict[str, int] = {}
        for number, value in enumerate(values, start=1):
            if not value:
                raise SuiteError(
                    f"{source}: {column} of row {number} is blank. Fill it in or delete it."
                )
            if value in seen:
                raise SuiteError(
                    f"{source}: rows {seen[value]} and {number} have the same {column} {value!r}. "
                    "Keep one of them."
                )
            seen[value] = number
    for number, prompt_id in enumerate(ids, start=1):
        if not _PROMPT_ID.fullmatch(prompt_id):
            raise SuiteError(
                f"{source}: id {prompt_id!r} of row {number} can't be used. Take up to 80 letters, "
                "digits, '.', '_' or '-', the first a letter or digit."
            )
    for number, text in enumerate(texts, start=1):
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise SuiteError(
                f"{source}: prompt of row {number} has {len(text)} characters, at most "
                f"{MAX_PROMPT_CHARACTERS} are allowed. Shorten it."
            )


def _drawbench_fault(places: Sequence[int | None], source: str) -> str:
    total = len(drawbench_rows())
    strange = [number for number, place in enumerate(places, start=1) if place is None]
    there = Counter(place for place in places if place is not None)
    missing = [str(place + 1) for place in range(total) if place not in there]
    doubled = [str(place + 1) for place, count in sorted(there.items()) if count > 1]
    parts = [f"{len(places)} prompts, expected {total}"]
    if missing:
        parts.append(f"official prompt {_some(missing)} missing")
    if doubled:
        parts.append(f"official prompt {_some(doubled)} there twice")
    if strange:
        parts.append(f"row {_some([str(n) for n in strange])} not of DrawBench")
    return f"{source}: nearly DrawBench, but not it ({'; '.join(parts)}). {_ADVICE['drawbench']}"


def _refuse_other_categories(rows: Sequence[Row], categories: Sequence[str], source: str) -> None:
    for number, ((_, found), wanted) in enumerate(zip(rows, categories, strict=True), start=1):
        if clean_text(found) != wanted:
            raise SuiteError(
                f"{source}: official prompt {number} stands in category {found!r}, expected "
                f"{wanted!r}. {_ADVICE['drawbench']}"
            )


def _some(items: Sequence[str]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
