"""The table of prompt suites: one row each, ours and those of other packages.

Another package adds a suite with an entry point of the group `evalkit.suites`, named
`package/name`. The entry point names a `SuiteRow`, with the same features as our rows (listing,
homes, checks by count and hash), or a bare function that returns (prompt, category) rows or a
`Suite`.
"""

from __future__ import annotations

from dataclasses import dataclass

from evalkit.core.errors import ConfigError
from evalkit.core.registry import Catalog, third_party


@dataclass(frozen=True, kw_only=True)
class Home:
    """A public source from which a suite is fetched."""

    name: str
    """Name used in messages."""
    target: str
    """`module:attribute` of the function that fetches its (prompt, category) rows."""


@dataclass(frozen=True, kw_only=True)
class SuiteRow:
    """One suite, either fetched from its homes or returned by a function of a package.

    Raises:
        ConfigError: The row has both or neither, or has homes without a hash to check them.
    """

    summary: str
    """What it is and who made it, on one line."""
    source: str
    """Where its prompts come from."""
    licence: str
    """The licence of its prompts, as far as stated."""
    target: str = ""
    """`module:attribute` of a function that returns its rows; empty where it has homes."""
    homes: tuple[Home, ...] = ()
    """Tried in this order; the first one that answers must have the right suite."""
    num_prompts: int | None = None
    """Expected number of prompts; None skips the check."""
    num_categories: int | None = None
    """Expected number of categories; None skips the check."""
    sha256: str | None = None
    """Expected hash, as `evalkit drawbench suite` shows it; None skips the check."""
    recogniser: str = ""
    """`module:attribute` of a function that recognises it in rows of another order or in an
    altered copy; see `recognition.recognise_drawbench`. If empty, only rows with the same hash are
    accepted."""
    advice: str = ""
    """What to do when it can't be fetched or a file is not this suite."""

    def __post_init__(self) -> None:
        if bool(self.target) == bool(self.homes):
            got = "both" if self.target else "neither"
            raise ConfigError(
                f"Suite row {self.summary!r} has {got} of target and homes, expected exactly one. "
                "Give one of them."
            )
        if self.homes and self.sha256 is None:
            raise ConfigError(
                f"Suite row {self.summary!r} has homes but no sha256, so a download can't be "
                "checked. Give the hash that `evalkit drawbench suite NAME=FILE` shows."
            )

    @property
    def size(self) -> str:
        """Number of prompts and categories in words, as far as known before loading."""
        if self.num_prompts is None:
            return "prompts counted when loaded"
        prompts = f"{self.num_prompts:,} prompts"
        return prompts + (f" in {self.num_categories} categories" if self.num_categories else "")


SUITES: dict[str, SuiteRow] = {
    "drawbench": SuiteRow(
        summary="DrawBench, the prompts of the Imagen paper (Saharia et al. 2022)",
        source="the data set sayakpaul/drawbench, else the official sheet",
        licence="none stated",
        homes=(
            Home(
                name="data set sayakpaul/drawbench",
                target="drawbench.suites.homes:drawbench_from_hub",
            ),
            Home(
                name="the official sheet",
                target="drawbench.suites.homes:drawbench_from_sheet",
            ),
        ),
        num_prompts=200,
        num_categories=11,
        sha256="317b04c88e10320a88737b9268fcbb01d3b5ce8bd39c8de566167cf4dc9dc3b4",
        recogniser="drawbench.suites.recognition:recognise_drawbench",
        advice=(
            "Give the official sheet as a file: --suite drawbench=FILE.csv (columns prompt and "
            "category), or use your list under a name of its own: --suite NAME=FILE.csv."
        ),
    ),
    "parti": SuiteRow(
        summary="PartiPrompts, the prompts of the Parti paper (Yu et al. 2022)",
        source="google-research/parti",
        licence="Apache-2.0",
        homes=(
            Home(name="google-research/parti", target="drawbench.suites.homes:parti_from_github"),
        ),
        num_prompts=1632,
        num_categories=12,
        sha256="45e2d22ef4d50628e712ee8a2c724e8b00d119a087314f6960ba3ec7d94bf987",
        advice="Give PartiPrompts.tsv as a file: --suite parti=PartiPrompts.tsv.",
    ),
    "shapes-bench": SuiteRow(
        summary="coloured shapes that a program can draw and check",
        source="embedded in evalkit",
        licence="Apache-2.0",
        target="drawbench.suites.homes:shapes_bench",
        num_prompts=60,
        num_categories=6,
        sha256="b3b170267b9509385b2284b6ab49126a39a8b10847e73c959702835051889ba1",
        advice="Install evalkit again.",
    ),
}
"""Our suites; a row holds everything that is known before a suite is loaded."""


def _adopt(name: str, found: object) -> SuiteRow:
    """Make a row for a bare function of another package, with neither count nor hash."""
    return SuiteRow(
        summary="a suite of another package",
        source=name,
        licence="not stated",
        target=third_party("suites")[name],
    )


CATALOG = Catalog("suites", SUITES, SuiteRow, adopt=_adopt)
"""Our suites, followed by those of other packages."""
