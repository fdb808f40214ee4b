"""CLIP scores of a study's images, held against votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from drawbench.stats.agreement import read_scores
from drawbench.store import open_store
from drawbench.study import Study
from drawbench.study.design import load_preset, make_config
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.suites import make_suite
from evalkit.commands.study_scores import register, score_study
from evalkit.core.progress import silent
from evalkit.features.base import PreparedExtractor

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
PAINTED = {"right": lambda colour: COLOURS[colour], "wrong": lambda colour: (255, 255, 0)}


class ColourClip(PreparedExtractor):
    """Embeds an image as its mean colour and a caption as the colour it names."""

    name = "colours"
    layers = {"embedding": 3}  # noqa: RUF012
    identity = {"extractor": "colours"}  # noqa: RUF012

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(image, np.float32).mean(axis=(0, 1))

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return {"embedding": np.asarray(prepared, np.float32)}

    def encode_text(self, captions: Sequence[str]) -> np.ndarray:
        return np.array([COLOURS[text.split()[1]] for text in captions], np.float32)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    suite = make_suite("hues", [(f"a {name} car", "Colors") for name in COLOURS], source="test")
    sources = []
    for model, paint in PAINTED.items():
        folder = tmp_path / model
        folder.mkdir()
        for prompt in suite.prompts:
            for sample in range(2):
                picture = Image.new("RGB", (4, 4), paint(prompt.text.split()[1]))
                picture.save(folder / f"{prompt.id}_{sample}.png")
        sources.append(open_source(model, folder, suite.prompts, per_prompt=2))
    preset = load_preset("imagen-drawbench")
    config = make_config({**preset, "models": list(PAINTED), "images_per_side": 2})
    return make_study(tmp_path / "study", config, suite, sources)


def test_each_prompt_and_model_has_the_mean_cosine_of_its_images(study: Study) -> None:
    """Red and green: cosine 1 with their own colour; yellow (1, 1, 0) with red is 1 / sqrt 2."""
    table = score_study(study, ColourClip(), batch_size=4, progress=silent)
    found = table.set_index(["prompt_id", "model"])["score"].to_dict()
    assert found["hues-000", "right"] == pytest.approx(100)
    assert found["hues-000", "wrong"] == pytest.approx(100 / np.sqrt(2))
    assert found["hues-002", "wrong"] == pytest.approx(0)
    assert len(table) == 6, "practice images have no score"
    assert set(table["metric"]) == {"CLIP score (colours)"}


def test_the_command_writes_what_results_reads(study: Study, tmp_path: Path) -> None:
    open_store(study, create=True).database.close()
    target = tmp_path / "scores.csv"
    app = typer.Typer()
    register(app)
    arguments = [str(study.path), "--clip-model", "shapes-clip", "--out", str(target)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    scores = read_scores(target)["CLIP score (shapes-clip)"]
    assert len(scores) == 6
    assert scores["score"].between(-100, 100).all()
