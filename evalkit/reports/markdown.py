"""Results as Markdown: tables, the methods paragraph, and its BibTeX."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from evalkit.core.results import write_atomically
from evalkit.reports.exporting import Page
from evalkit.reports.methods import methods
from evalkit.reports.plain_tables import PlainTable, plain_tables

_SPACES = re.compile(r"\s+")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~])")


def write_markdown(path: Path, page: Page) -> None:
    """Write the tables and the methods of a page."""
    write_atomically(path, markdown(page).encode("utf-8", "replace"))


def markdown(page: Page) -> str:
    """Return the tables and the methods of a page as Markdown, headings from the second level."""
    said = methods(page.records)
    parts = [f"## {escaped(page.title)}"]
    parts += [markdown_table(table) for table in plain_tables(page)]
    parts += [f"**Note.** {escaped(text)}" for text in page.warnings]
    parts.append(f"**Methods.** {said.render(text=escaped)}" if said.parts else "No records.")
    if said.keys:
        parts.append(f"```bibtex\n{said.bibtex}\n```")
    return "\n\n".join(parts) + "\n"


def markdown_table(table: PlainTable) -> str:
    """Return a table with its title above and its notes below."""
    left = {table.header[0], *table.texts}
    rule = [":--" if heading in left else "--:" for heading in table.header]
    lines = [_line(map(escaped, table.header)), _line(rule)]
    lines += [_line(map(escaped, row)) for row in table.rows]
    notes = "".join(f"\n\n{escaped(note)}" for note in table.notes)
    return f"### {escaped(table.title)}\n\n" + "\n".join(lines) + notes


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escaped(text: str) -> str:
    r"""Return a text that Markdown shows as it is, on one line.

    >>> escaped("a|b*c*"), escaped("[0.1, 0.2]")
    ('a\\|b\\*c\\*', '\\[0.1, 0.2\\]')
    """
    return _SPECIAL.sub(r"\\\1", _SPACES.sub(" ", text))
