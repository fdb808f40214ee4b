"""The documentation: links lead somewhere, commands exist, reported words are defined."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
OTHERS = ("README.md", "CONTRIBUTING.md", "generators/zoo/README.md")
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in OTHERS)])
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
TRANSLATED = (
    "asked with", "asked for", "to be had", "of runs", "mission", "main job", "told", "wants",
    "stands", "goes on", "the checker",
)  # fmt: skip
"""Words that a native engineer stops at."""
GENERATED = re.compile(r"^## Metrics\n\n(\|.*\n)+", flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading.

    >>> anchor("GLIDE: `tiny` and more"), anchor("unclip:tiny and imagen:tiny")
    ('glide-tiny-and-more', 'uncliptiny-and-imagentiny')
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    outside_code = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return {anchor(h) for h in re.findall(r"^#+ (.*)$", outside_code, flags=re.MULTILINE)}


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_pages_and_headings(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if heading:
            assert heading in anchors(linked), target


def test_the_index_has_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    models = (ROOT / "docs" / "models" / "README.md").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page
    for page in (ROOT / "docs" / "models").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in models, page


@pytest.mark.parametrize("name", NAMES)
def test_paths_of_code_exist(name: str) -> None:
    """Files and folders of the packages that a page names in backticks."""
    named = re.findall(
        r"`((?:evalkit|generators|drawbench|app|benchmarks|tests|docs)/[\w./-]*)`",
        (ROOT / name).read_text("utf-8"),
    )
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("name", NAMES)
def test_modules_of_benchmarks_exist(name: str) -> None:
    for module in re.findall(r"python -m\s+(benchmarks[\w.]+)", (ROOT / name).read_text("utf-8")):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module


@pytest.mark.parametrize("name", NAMES)
def test_commands_have_those_options(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.main import get_command

    from evalkit import cli

    monkeypatch.setattr(sys, "argv", ["evalkit", "--help"])
    with pytest.raises(SystemExit):
        cli.main()  # adds `evalkit drawbench`
    top = get_command(cli.app)
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ {4,}evalkit (.*)$", text, flags=re.MULTILINE)
    for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL):
        lines += re.findall(r"^evalkit (.*)$", block, flags=re.MULTILINE)
    lines += re.findall(r"`evalkit ([^`]*)`", text)
    if "texts" not in top.commands["drawbench"].commands:  # type: ignore[attr-defined]
        lines = [line for line in lines if "texts" not in line]
    for line in lines:
        words = line.split("#")[0].replace("\n", " ").split()
        here: Any = top
        while getattr(here, "commands", None) and words and words[0] in here.commands:
            here = here.commands[words.pop(0)]
        known = {option for parameter in here.params for option in parameter.opts} | {"--help"}
        used = {word.strip("[],.") for word in words if word.strip("[").startswith("--")}
        assert here is not top or words in ([], ["--help"]), line
        assert used <= known, line


@pytest.mark.parametrize("name", NAMES)
def test_the_words_are_an_engineers(name: str) -> None:
    """Outside of code, and of the metrics' table, whose words are the catalog's."""
    text = GENERATED.sub("", (ROOT / name).read_text("utf-8"))
    prose = " ".join(re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL).split())
    found = [word for word in TRANSLATED if re.search(rf"\b{word}\b", prose, flags=re.IGNORECASE)]
    assert not found


def test_the_glossary_has_every_record() -> None:
    """Names with a parameter, such as `recall-k{k}`, by what is before it or by their label."""
    from evalkit.catalog import METRICS

    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    for name, row in METRICS.own.items():
        for line in row.records:
            label = line.label.partition("{")[0].partition(" (")[0].strip().split(" k")[0]
            assert f"`{line.name}`" in glossary or label in glossary, (name, line.name)


@pytest.mark.parametrize(
    "word",
    ["Prompts found", "Scenes right", "FD∞", "zero-shot", "re-ranked", "trained on this data set"],
)
def test_the_glossary_defines_what_reports_say(word: str) -> None:
    cells = [line.split("|")[1] for line in _rows(ROOT / "docs" / "glossary.md")]
    assert any(word in cell for cell in cells)


def _rows(page: Path) -> list[str]:
    return [line for line in page.read_text("utf-8").splitlines() if line.startswith("| ")]
