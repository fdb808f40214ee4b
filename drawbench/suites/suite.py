"""Load prompt suites, and verify that each is the suite that its name says.

`drawbench` and `parti` are not part of this package. They are fetched from their public homes (or
given as a file) and must match a count, their categories and a hash before they get their name.
`shapes-bench` is our own and embedded. `drawbench.suites.catalog` has one row per suite;
`drawbench.suites.recognition` recognises reordered and altered copies of DrawBench.

Hashes cover prompts in Unicode NFC with runs of white space collapsed, so a copy that differs only
in white space counts as the same (the official sheet has a space after "Gary Marcus et al.").
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drawbench.errors import SuiteError
from drawbench.suites.catalog import CATALOG, SUITES, SuiteRow
from drawbench.suites.files import Row, clean_text, read_rows
from drawbench.suites.recognition import Recognised
from evalkit.core.downloads import cache_root
from evalkit.core.errors import EvalkitError, NetworkError
from evalkit.core.registry import load, unknown
from evalkit.core.results import write_atomically

MAX_PROMPT_CHARACTERS = 2000
NO_CATEGORY = "all"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
# Ids become folder names where images are looked for, so they must not contain a path.
_PROMPT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt of a suite."""

    id: str
    """Stable name of the prompt, such as `drawbench-007`."""
    text: str
    """The text that models generate from."""
    category: str
    """Its category; `all` in a suite without categories."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked list of prompts."""

    name: str
    """Its verified name; an altered copy does not get the original's name."""
    prompts: tuple[Prompt, ...]
    sha256: str
    """Hash of prompts and categories in order."""
    source: str
    """Where the prompts were read from."""
    notes: tuple[str, ...] = ()
    """Notes that a report prints about this copy."""

    @property
    def categories(self) -> dict[str, int]:
        """Number of prompts by category, in order of first appearance."""
        return dict(Counter(prompt.category for prompt in self.prompts))

    def rows(self) -> list[Row]:
        """(prompt, category), in order."""
        return [(prompt.text, prompt.category) for prompt in self.prompts]


def suite_names() -> list[str]:
    """Return the suites that have a name."""
    return sorted(CATALOG)


@dataclass(frozen=True, kw_only=True)
class ListedSuite:
    """A listed suite: its row, or the reason why another package's row can't be loaded."""

    name: str
    row: SuiteRow | None = None
    fault: str = ""


def listed_suites() -> list[ListedSuite]:
    """Yield every suite by name; a broken package affects only its own line."""
    return [_listed(name) for name in suite_names()]


def suite_row(name: str) -> SuiteRow | None:
    """Return the row of `NAME` or `NAME=FILE`, or None for a list of one's own."""
    own_name = name.partition("=")[0].strip()
    # Not `get`, which would hide a KeyError raised by another package's module.
    if own_name not in CATALOG:
        return None
    return CATALOG[own_name]


def load_suite(name: str) -> Suite:
    """Load a suite by name, from a file, or from a file under a name of its own.

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
    if name in CATALOG:
        row = CATALOG[name]
        return _fetch(name, row) if row.homes else _from_function(name, row)
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
        SuiteError: The name is not a plain word, there is no prompt, or a prompt or id is blank,
            too long or duplicated.
    """
    if not _NAME.fullmatch(name):
        raise SuiteError(
            f"{source}: suite name {name!r} is not valid. Use lower-case letters, digits, '.', "
            "'_' and '-'."
        )
    cleaned = [(clean_text(text), _category(category)) for text, category in rows]
    if not cleaned:
        raise SuiteError(
            f"{source} contains no prompts. Expected a column 'prompt' and at least one row."
        )
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
    """Hash prompts and categories in order; a blank category counts as "all"."""
    lines = [f"{clean_text(text)}\t{_category(category)}\n" for text, category in rows]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def recognise(
    rows: Sequence[Row], *, source: str, known: Mapping[str, SuiteRow] = SUITES
) -> Suite | None:
    """Return the known suite that these rows are, or None for one's own.

    Args:
        rows: (prompt, category) of a file or download.
        source: Where they were read from.
        known: The suites to compare with; those that a package returns itself are skipped.

    Raises:
        SuiteError: The rows are most of DrawBench, but not all of it.
    """
    public = {name: row for name, row in known.items() if row.homes}
    digest = rows_sha256(rows)
    for name, row in public.items():
        if digest == row.sha256:
            return _checked(make_suite(_short(name), rows, source=source), row)
    for name, row in public.items():
        if not row.recogniser:
            continue
        found: Recognised | None = load(row.recogniser)(rows, source=source, advice=row.advice)
        if found is not None:
            return _recognised(_short(name), row, found, source)
    return None


def write_suite(path: Path, suite: Suite) -> None:
    """Write a suite as the CSV that `load_suite` reads."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "prompt", "category"])
    writer.writerows([prompt.id, prompt.text, prompt.category] for prompt in suite.prompts)
    write_atomically(path, buffer.getvalue().encode())


def cache_folder() -> Path:
    """Return the folder in which fetched suites are cached."""
    return cache_root() / "suites"


def _listed(name: str) -> ListedSuite:
    try:
        return ListedSuite(name=name, row=CATALOG[name])
    except EvalkitError as error:
        return ListedSuite(name=name, fault=f"broken: {error}")


def _from_named_file(name: str, path: Path) -> Suite:
    rows, ids = read_rows(path)
    row = suite_row(name)
    if row is None or not row.homes:
        return make_suite(name, rows, source=str(path), ids=ids)
    suite = recognise(rows, source=str(path), known={**SUITES, name: row})
    if suite is None or suite.name != _short(name):
        got = f"{len(rows)} prompts that differ from its {row.num_prompts or 'own'}"
        if suite is not None:
            got = suite.notes[0] if suite.notes else f"the {suite.name} suite"
        raise SuiteError(f"{path} is not the {name} suite, but {got}. {row.advice}".rstrip())
    return suite


def _from_file(path: Path) -> Suite:
    rows, ids = read_rows(path)
    known = recognise(rows, source=str(path))
    if known is not None:
        return known
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._") or "suite"
    return make_suite(name, rows, source=str(path), ids=ids)


def _from_function(name: str, row: SuiteRow) -> Suite:
    found: Suite | Iterable[Row] = load(row.target)()
    suite = (
        found if isinstance(found, Suite) else make_suite(_short(name), found, source=row.source)
    )
    return _checked(suite, row)


def _fetch(name: str, row: SuiteRow) -> Suite:
    """Load the cached copy if it is intact, else fetch from the first home with the right suite."""
    kept = cache_folder() / f"{name.replace('/', '--')}.csv"
    known = {**SUITES, name: row}
    if kept.is_file():
        suite = recognise(read_rows(kept)[0], source=str(kept), known=known)
        if suite is not None and suite.name == _short(name):
            return suite
    faults = []
    for home in row.homes:
        try:
            rows: list[Row] = load(home.target)()
        except (OSError, ValueError, ImportError) as error:
            faults.append(f"{home.name}: {_first_line(error)}")
            continue
        suite = recognise(rows, source=home.name, known=known)
        if suite is None or suite.name != _short(name):
            raise SuiteError(f"{home.name} no longer has the {name} suite. {row.advice}")
        write_suite(kept, suite)
        return suite
    raise NetworkError(f"{name} can't be fetched ({'; '.join(faults)}). {row.advice}")


def _recognised(name: str, row: SuiteRow, found: Recognised, source: str) -> Suite:
    if not found.altered_name:
        return _checked(make_suite(name, found.rows, source=source), row)
    ids = _numbered(name, len(found.rows))
    return make_suite(found.altered_name, found.rows, source=source, ids=ids, notes=found.notes)


def _checked(suite: Suite, row: SuiteRow) -> Suite:
    """Return the suite if it is what its row says.

    Raises:
        SuiteError: Its count, its categories or its hash differ.
    """
    facts = {
        "prompts": (len(suite.prompts), row.num_prompts),
        "categories": (len(suite.categories), row.num_categories),
        "sha256": (suite.sha256, row.sha256),
    }
    for what, (found, promised) in facts.items():
        if promised is not None and found != promised:
            raise SuiteError(
                f"{suite.source} is not the {suite.name} suite ({what} {found}, expected "
                f"{promised}). {row.advice}".rstrip()
            )
    return suite


def _category(text: str) -> str:
    return clean_text(text) or NO_CATEGORY


def _short(name: str) -> str:
    """Return a suite's name in a study: without the package that provides it."""
    return name.rpartition("/")[2]


def _numbered(name: str, count: int) -> list[str]:
    width = max(3, len(str(count - 1)))
    return [f"{name}-{index:0{width}d}" for index in range(count)]


def _refuse_bad_rows(texts: Sequence[str], ids: Sequence[str], source: str) -> None:
    for column, values in (("prompt", texts), ("id", ids)):
        seen: dict[str, int] = {}
        for number, value in enumerate(values, start=1):
            if not value:
                raise SuiteError(
                    f"{source}: {column} of row {number} is blank. Fill it in or delete the row."
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
                f"{source}: id {prompt_id!r} of row {number} is not valid. Use at most 80 "
                "letters, digits, '.', '_' or '-', starting with a letter or digit."
            )
    for number, text in enumerate(texts, start=1):
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise SuiteError(
                f"{source}: the prompt of row {number} has {len(text)} characters, but at most "
                f"{MAX_PROMPT_CHARACTERS} are allowed. Shorten it."
            )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
