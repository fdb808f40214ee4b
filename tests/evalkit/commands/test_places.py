"""Models and images that are named by their place, in the commands that take them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from evalkit.commands.asking import with_cap
from evalkit.commands.compare import named_sets
from evalkit.commands.listing import show
from evalkit.commands.sets import open_against, open_samples
from evalkit.commands.suite import SuiteOptions, generate_suite
from evalkit.core.errors import ConfigError
from evalkit.core.pixels import encode_png
from evalkit.core.progress import console, silent
from evalkit.core.run import RunFolder
from evalkit.generation import default_folder, kept_categories
from evalkit.options import SamplingOptions, ServerOptions
from generators.adapters.access import Access


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "mine"
    place.mkdir()
    for name, value in (("a", 1), ("b", 2)):
        (place / f"{name}.png").write_bytes(encode_png(np.full((4, 4, 3), value, np.uint8)))
        (place / f"{name}.txt").write_text(f"a picture of {name}")
    return place


def test_the_list_has_every_scheme(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 300)
    show("models")
    shown = capsys.readouterr().out
    for name in ("diffusers:...", "openai:...", "python:...", "folder:...", "diffusers:sd15"):
        assert name in shown
    assert "a bare `imagen` or `if-xl` means this" in shown


def test_samples_and_references_are_named_by_place(folder: Path) -> None:
    found = open_samples(f"folder:{folder}?name=Mine")
    assert (found.subject, found.conditioning) == ("Mine", "text")
    assert [item.caption for item in found.items] == ["a picture of a", "a picture of b"]
    assert len(open_against(f"folder:{folder}", None, silent).reference or ()) == 2
    sets = named_sets([f"X=folder:{folder}?layout=beside", f"folder:{folder}?layout=plain&name=Y"])
    assert list(sets) == ["X", "Y"]


def test_a_suite_takes_a_folder_and_keeps_its_categories(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("prompt,category\na picture of a,one\na picture of b,two\n")
    options = SuiteOptions(
        suite=f"letters={tmp_path / 's.csv'}", models=(f"folder:{folder}",), per_prompt=1,
        out=tmp_path / "runs",
    )  # fmt: skip
    (path,) = generate_suite(options, silent).values()
    run = RunFolder.read(path)
    assert [row.status for row in run.rows()] == ["ok", "ok"]
    assert kept_categories(run) == {"letters-000": "one", "letters-001": "two"}
    served = SamplingOptions(access=Access(base_url="http://localhost/v1"))
    with pytest.raises(ConfigError, match="is not behind a server"):
        generate_suite(
            SuiteOptions(suite=options.suite, models=options.models, sampling=served), silent
        )


def test_a_folder_is_named_after_any_place() -> None:
    name = default_folder("diffusers:/a/" + "b" * 300, "prompts", {}).name
    assert len(name) < 120
    assert default_folder("folder:x?layout=geneval&name=A B", "p", {}).name.startswith("folder-x-")


def test_a_cap_is_asked_for_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def prompt(text: str, **options: object) -> int:
        asked.append(text)
        return 250

    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    far = ServerOptions(base_url="https://images.example.org/v1")
    assert with_cap("openai:m", far).max_requests == 250
    assert with_cap("openai:m", ServerOptions(max_requests=9)).max_requests == 9
    near = ServerOptions(base_url="http://localhost:8000/v1")
    assert with_cap("openai:m", near).max_requests is None
    assert with_cap("glide:tiny", ServerOptions()).max_requests is None
    assert asked == ["Most requests to openai:m, retries included"]
