"""`folder:PATH` as a generator, and `evalkit runs import`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from drawbench.study.sources import open_source
from drawbench.suites import make_suite
from evalkit.cli import app
from evalkit.core.errors import ConfigError, DataError, MissingDataError
from evalkit.core.pixels import encode_png, read_rgb
from evalkit.core.run import RunFolder
from evalkit.generation import kept_categories
from generators.base import Request
from generators.catalog import load_generator

PROMPTS = {"a red circle": "colours", "two squares": "counts"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images for each of two prompts, with categories in a table."""
    rows = []
    place = tmp_path / "mine"
    place.mkdir()
    for number, (prompt, category) in enumerate(PROMPTS.items()):
        for sample in range(2):
            name = f"{number}-{sample}.png"
            pixels = np.full((4, 4, 3), 10 * number + sample, np.uint8)
            (place / name).write_bytes(encode_png(pixels))
            rows.append({"file_name": name, "prompt": prompt, "category": category})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (place / "captions.jsonl").write_text(text)
    return place


def evalkit(*arguments: str) -> None:
    app([str(word) for word in arguments], standalone_mode=False)


def test_a_request_gets_the_image_of_its_prompt_and_number(folder: Path) -> None:
    generator = load_generator(f"folder:{folder}")
    asked = [
        Request(prompt="two  squares", sample_index=1),
        Request(prompt="a red circle"),
        Request(prompt="a red circle", sample_index=2),
        Request(prompt="a dog"),
    ]
    made = generator.generate(asked, {})
    assert [s.image[0, 0, 0] for s in made[:2]] == [11, 0]
    assert [(s.image, s.status, s.reason) for s in made[2:]] == [
        (None, "failed", "the images end at 2 for this prompt"),
        (None, "failed", "there is no image for this prompt"),
    ]
    assert (generator.spec.display_name, generator.spec.size_px) == ("mine", 4)


def test_the_fingerprint_is_of_images_and_captions(folder: Path, tmp_path: Path) -> None:
    before = load_generator(f"folder:{folder}").spec.weights_sha256
    (folder / "0-0.png").write_bytes(encode_png(np.full((4, 4, 3), 77, np.uint8)))
    assert load_generator(f"folder:{folder}?name=again").spec.weights_sha256 != before


def test_generate_takes_a_folder_for_given_prompts(folder: Path, tmp_path: Path) -> None:
    evalkit(
        "generate", "--model", f"folder:{folder}", "--prompt", "two squares", "--prompt", "a dog",
        "--n", "3", "--device", "cpu", "--out", str(tmp_path / "run"),
    )  # fmt: skip
    run = RunFolder.read(tmp_path / "run")
    rows = run.rows()
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert [int(read_rgb(run.image_path(r))[0, 0, 0]) for r in (rows[0], rows[2])] == [10, 11]


def test_an_imported_run_has_images_captions_and_categories(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evalkit("runs", "import", str(folder), "--layout", "table", "--name", "Mine", "--out", str(out))
    run = RunFolder.read(out)
    rows = run.rows()
    assert [(row.prompt, row.sample_index) for row in rows] == [
        ("a red circle", 0), ("a red circle", 1), ("two squares", 0), ("two squares", 1),
    ]  # fmt: skip
    assert [int(read_rgb(run.image_path(row))[0, 0, 0]) for row in rows] == [0, 1, 10, 11]
    assert run.config["display_name"] == "Mine"
    assert sorted(kept_categories(run).values()) == ["colours", "counts"]
    content = {path: path.read_bytes() for path in sorted(out.rglob("*.*"))}
    evalkit("runs", "import", str(folder), "--layout", "table", "--name", "Mine", "--out", str(out))
    assert {path: path.read_bytes() for path in sorted(out.rglob("*.*"))} == content


def test_a_study_takes_an_imported_run(folder: Path, tmp_path: Path) -> None:
    evalkit("runs", "import", str(folder), "--out", str(tmp_path / "run"))
    suite = make_suite("mine", list(PROMPTS.items()), source="the test")
    source = open_source("Mine", tmp_path / "run", suite.prompts, per_prompt=2)
    assert [len(source.files[prompt.id]) for prompt in suite.prompts] == [2, 2]


def test_images_without_captions_are_imported_in_order(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    evalkit("runs", "import", str(folder), "--layout", "plain", "--out", str(out))
    run = RunFolder.read(out)
    assert run.config["conditioning"] == "none"
    shown = [int(read_rgb(run.image_path(row))[0, 0, 0]) for row in run.rows()]
    assert shown == [0, 1, 10, 11]


def test_an_unreadable_image_is_a_failure_with_its_reason(folder: Path, tmp_path: Path) -> None:
    (folder / "1-0.png").write_bytes(b"nothing")
    evalkit("runs", "import", str(folder), "--out", str(tmp_path / "run"))
    rows = RunFolder.read(tmp_path / "run").rows()
    assert [row.status for row in rows] == ["ok", "ok", "failed", "ok"]
    assert "can't be decoded" in rows[2].reason


def test_bad_places_are_refused_before_a_run_is_begun(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    lines = (folder / "captions.jsonl").read_text().splitlines(keepends=True)
    (folder / "captions.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(DataError, match="2 of 4 images have no caption"):
        evalkit("runs", "import", str(folder), "--out", str(out))
    with pytest.raises(MissingDataError, match="no such file or folder"):
        load_generator(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(ConfigError, match="takes no --weights"):
        load_generator(f"folder:{folder}", weights={"w": folder})
    assert not out.exists()
