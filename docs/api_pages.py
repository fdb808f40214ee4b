"""Build the API pages with pdoc: `make docs`, or `python -W error docs/api_pages.py [FOLDER]`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pdoc

MODULES = (
    "evalkit",
    "evalkit.catalog",
    "evalkit.core.errors",
    "evalkit.core.intervals",
    "evalkit.core.papers",
    "evalkit.core.results",
    "evalkit.metrics",
    "evalkit.metrics.task",
    "evalkit.metrics.torch_modules",
    "evalkit.options.measuring",
    "evalkit.options.sampling",
    "evalkit.protocols.model",
    "evalkit.reports.exporting",
    "generators.base",
    "generators.catalog",
    "generators.diffusion.samplers",
    "generators.settings",
)
"""What other programs use. A package's submodules are listed only if they are here."""
FOLDER = Path("build/docs")


def main(folder: Path = FOLDER) -> None:
    """Write the pages; any warning of pdoc is an error under `-W error`."""
    for name in MODULES:
        module = import_module(name)
        for member in getattr(module, "__all__", ()):  # loaded at first use, which pdoc isn't
            setattr(module, member, getattr(module, member))
    pdoc.render.configure(docformat="google", footer_text="evalkit", search=True)
    pdoc.pdoc(*MODULES, *(f"!{name}" for name in _left_out()), output_directory=folder)


def _left_out() -> list[str]:
    """Return patterns of the submodules that are not listed above."""
    listed = [name.replace(".", r"\.") for name in MODULES]
    return [rf"(?!(?:{'|'.join(listed)})$)(?:evalkit|generators)\..*"]


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
    sys.stdout.write(
        f"API pages: {(Path(sys.argv[1]) if sys.argv[1:] else FOLDER) / 'index.html'}\n"
    )
