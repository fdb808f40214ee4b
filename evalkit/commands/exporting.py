"""Write a page's content to the files of `--export`, and say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.core.progress import console
from evalkit.reports.exporting import Page, write_exports


def print_exports(files: Sequence[Path], page: Page) -> None:
    """Write the files and print a line for each.

    Raises:
        OutputError: A file can't be written.
    """
    for line in write_exports(files, page):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
