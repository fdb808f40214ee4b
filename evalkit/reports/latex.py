r"""Results as LaTeX: tables for `booktabs`, the methods paragraph with its citations, the BibTeX.

The file is to be included by `\input`; the BibTeX is in comments at its end, and `--export x.bib`
writes it as a file.
"""

from __future__ import annotations

import re
from pathlib import Path

from evalkit.core.results import write_atomically
from evalkit.reports.exporting import Page
from evalkit.reports.methods import Citation, methods
from evalkit.reports.plain_tables import PlainTable, plain_tables

_ESCAPES = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
    "−": "$-$", "∞": r"$\infty$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "·": r"$\cdot$",
    "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "×": r"$\times$", "…": r"\ldots{}",
    "\u00a0": "~",
}  # fmt: skip
_SPECIAL = re.compile("|".join(map(re.escape, _ESCAPES)))
_SPACES = re.compile(r"[\x00-\x20\x7f]+")
"""Spaces and control characters; a no-break space is kept."""
_NEEDS = r"""% \usepackage[T1]{fontenc}
% \usepackage{booktabs}
"""


def write_latex(path: Path, page: Page) -> None:
    """Write the tables and the methods of a page."""
    write_atomically(path, latex(page).encode("utf-8", "replace"))


def latex(page: Page) -> str:
    """Return the tables and the methods of a page as LaTeX without a preamble."""
    said = methods(page.records)
    parts = [f"% {_comment(page.title)}\n{_NEEDS.rstrip()}"]
    parts += [latex_table(table) for table in plain_tables(page)]
    if said.parts:
        parts.append(rf"\paragraph{{Methods.}} {said.render(cite=_cite, text=escaped)}")
    parts += [escaped(text) for text in page.warnings]
    if said.keys:
        entries = "\n".join(f"% {line}".rstrip() for line in said.bibtex.splitlines())
        parts.append(f"% BibTeX of the citations above:\n{entries}")
    return "\n\n".join(parts) + "\n"


def latex_table(table: PlainTable) -> str:
    """Return a table environment with its title as the caption and its notes below."""
    left = {table.header[0], *table.texts}
    alignment = "".join("l" if heading in left else "r" for heading in table.header)
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\footnotesize",
        rf"\caption{{{escaped(table.title)}}}",
    ]
    lines += [rf"\begin{{tabular}}{{{alignment}}}", r"\toprule"]
    lines += [_line(table.header), r"\midrule", *map(_line, table.rows), r"\bottomrule"]
    lines.append(r"\end{tabular}")
    if table.notes:
        lines.append(rf"\par\smallskip {' '.join(map(escaped, table.notes))}")
    return "\n".join([*lines, r"\end{table}"])


def _line(cells: tuple[str, ...]) -> str:
    # Braces keep a cell that begins with a bracket from being read as an argument of the row's end.
    return (
        " & ".join(f"{{}}{text}" if text.startswith("[") else text for text in map(escaped, cells))
        + r" \\"
    )


def escaped(text: str) -> str:
    r"""Return a text that LaTeX prints as it is, on one line.

    >>> escaped("50 % of a_b & c{d}"), escaped("−1.2 [−1.9, −0.5]"), escaped("FD∞ ↓")
    ('50 \\% of a\\_b \\& c\\{d\\}', '$-$1.2 [$-$1.9, $-$0.5]', 'FD$\\infty$ $\\downarrow$')
    """
    return _SPECIAL.sub(lambda found: _ESCAPES[found.group()], _SPACES.sub(" ", text))


def _cite(citation: Citation) -> str:
    return rf"~\cite{{{','.join(citation.keys)}}}"


def _comment(text: str) -> str:
    return " ".join(text.split())
