"""`--export` on every command that has results, refused before the work if it can't be written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from evalkit.catalog import EXPORTS
from evalkit.core.results import results_schema
from tests.evalkit.commands.test_commands import run

COMMANDS = {
    "fid": ["--model", "glide:tiny", "--data", "shapes", "--out", "run"],
    "score": ["images", "--against", "images"],
    "compare": ["images", "images", "--against", "images"],
    "matrix": ["images", "--against", "images"],
    "sweep": ["--model", "glide:tiny", "--data", "shapes", "--guidance", "1,2", "--out", "run"],
}


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for place in range(12):
        pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{place}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (
            "results.txt",
            "no format has the suffix '.txt'. Use .json, .csv, .html, .md, .tex, .bib.",
        ),
        ("folder.csv", "is a folder"),
        ("file/results.csv", "can't be written"),
    ],
)
def test_what_can_t_be_written_is_refused_before_the_work(
    command: str, file: str, complaint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The images don't even exist, and nothing is generated."""
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("")
    assert run(command, *COMMANDS[command], "--export", "good.json", "--export", file) == 2
    error = capfd.readouterr().err.strip()
    assert complaint in error
    assert error.count("\n") == 0
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "good.json").exists()


def test_every_suffix_is_written_and_said(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [f"results{suffix}" for suffix in EXPORTS]
    more = [part for file in files for part in ("--export", file)]
    assert run("score", images, "--against", images, "--features", "shapes-clip",
               "--metrics", "kid", *more) == 0  # fmt: skip
    said = capsys.readouterr().out
    for file in files:
        assert f"Exported: {file}" in said
    document = json.loads((tmp_path / "results.json").read_text("utf-8"))
    jsonschema.validate(document, results_schema())
    with (tmp_path / "results.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["value"] for row in rows] == [repr(r["value"]) for r in document["records"]]
    assert {row["n_reference"] for row in rows} == {"12"}
    assert "@inproceedings{binkowski2018demystifying," in (tmp_path / "results.bib").read_text()
    assert "images against" in (tmp_path / "results.html").read_text("utf-8")


def test_a_list_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "metrics", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "direction", "minimum n", "description", "reference"} == set(rows[0])
    assert "fid" in [row["name"] for row in rows]


@pytest.mark.parametrize("arguments", [["list", "models"], ["protocols", "list"]])
def test_a_piped_list_has_a_line_a_row(arguments: list[str], root: Path) -> None:
    # Given as a mapping, since readline sets COLUMNS behind Python's back.
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    done = subprocess.run(
        [sys.executable, "-m", "evalkit.cli", *arguments],
        capture_output=True, text=True, check=True, cwd=root, env=environment,
    )  # fmt: skip
    wanted = {
        "list": ("glide:released-inpaint", "GLIDE's networks for inpainting; without an image"),
        "protocols": ("imagen-30k", "zero-shot COCO: 30,000 captions of val2014 against all its"),
    }[arguments[0]]
    (line,) = [line for line in done.stdout.splitlines() if line.split()[:1] == [wanted[0]]]
    assert wanted[1] in line
    assert "…" not in done.stdout
