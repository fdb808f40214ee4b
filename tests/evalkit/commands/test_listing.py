"""`evalkit list` shows what other packages bring, and says what is broken without dying of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from packages import install_package

from evalkit.commands.listing import show
from evalkit.core.progress import console

ROWS = """
from generators.catalog import ModelRow
from generators.recipes.catalog import RecipeRow

MODEL = ModelRow(
    target="x:y", summary="grey [images]", conditioning="class", size_px=8, weights="embedded"
)
RECIPE = RecipeRow(summary="grey network", network="ddpm", file="grey.toml", package="x")


def load(name, device, weights):
    return None
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_width", 250)
    install_package(
        tmp_path,
        monkeypatch,
        modules={"their_rows": ROWS, "their_fault": "raise RuntimeError('no [gpu]\\nhere')"},
        entry_points={
            "evalkit.generators": {
                "their/row": "their_rows:MODEL",
                "their/bare": "their_rows:load",
                "their/fault": "their_fault:load",
                "their/gone": "no_such_module:load",
            },
            "evalkit.recipes": {"their/recipe": "their_rows:RECIPE", "their/gone": "nowhere:ROW"},
        },
    )


def line(text: str, name: str) -> list[str]:
    """The words of the line that begins with a name."""
    (found,) = [words for words in map(str.split, text.splitlines()) if words[:1] == [name]]
    return found


@pytest.mark.usefixtures("theirs")
def test_models_of_other_packages_have_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    show("models")
    shown = capsys.readouterr().out
    assert line(shown, "their/row")[1:] == ["class", "8", "px", "embedded", "grey", "[images]"]
    assert line(shown, "their/bare")[1:] == ["unknown"] * 3 + ["their_rows:load"]
    assert line(shown, "glide:tiny")[1:4] == ["text", "64", "px"]


@pytest.mark.usefixtures("theirs")
def test_a_broken_package_is_a_line_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    show("models")
    shown = capsys.readouterr().out
    assert "no [gpu] here" in " ".join(line(shown, "their/fault")[1:])
    assert line(shown, "their/gone")[1] == "broken:"
    show("recipes")
    shown = capsys.readouterr().out
    assert line(shown, "their/gone")[1] == "broken:"
    assert line(shown, "their/recipe")[1:] == ["ddpm", "grey", "network", "grey.toml"]
