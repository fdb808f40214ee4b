"""Results as files, by suffix: `--export FILE` of every command that has results.

One page's content (`evalkit.reports.html`) goes to every format, so all of them hold the same
values: the JSON and the CSV with all digits, the others rounded to their uncertainty. The formats
are rows of `evalkit.catalog.EXPORTS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evalkit.catalog import EXPORTS
from evalkit.core.registry import load
from evalkit.core.results import write_atomically, write_records
from evalkit.reports.html import ComparisonReport, RunReport, write_comparison_html, write_html
from evalkit.reports.methods import methods
from evalkit.reports.tables import write_csv

Page = RunReport | ComparisonReport


def write_exports(files: Sequence[Path], page: Page) -> list[str]:
    """Write a page's content to files, each in the format of its suffix.

    Args:
        files: Checked by `evalkit.options.exporting.check_exports`.
        page: The content.

    Returns:
        One line for each file, to print.

    Raises:
        OutputError: A file can't be written.
    """
    lines = []
    for file in files:
        row = EXPORTS[file.suffix.lower()]
        write: Callable[[Path, Page], None] = load(row.target)
        write(file, page)
        lines.append(f"Exported: {file} ({row.summary})")
    return lines


def write_json(path: Path, page: Page) -> None:
    """Write the records as `evalkit.core.results.results_schema` describes."""
    write_records(path, page.records)


def write_table(path: Path, page: Page) -> None:
    """Write the records as CSV."""
    write_csv(path, page.records)


def write_page(path: Path, page: Page) -> None:
    """Write the HTML page."""
    if isinstance(page, ComparisonReport):
        write_comparison_html(path, page)
    else:
        write_html(path, page)


def write_bibliography(path: Path, page: Page) -> None:
    """Write the BibTeX entries of what was run."""
    write_atomically(path, f"{methods(page.records).bibtex}\n".encode("ascii"))
