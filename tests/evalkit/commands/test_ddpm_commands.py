"""DDPMs from the command line: measured with the reference's classes, bits per dimension."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from evalkit.cli import app
from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.core.results import read_records
from evalkit.core.run import RunFolder
from evalkit.datasets.shapes.dataset import load_shapes
from generators.ddpm.tiny import build_classifier, build_network
from generators.recipes.recipe import load_recipe
from generators.training.checkpoint import export_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Untrained networks of the recipes' sizes, as `--weights` takes them."""
    folder = tmp_path_factory.mktemp("weights")
    options = []
    for name in ("ddpm-tiny", "ddpm-tiny-class", "ddpm-tiny-classifier"):
        recipe = load_recipe(name)
        build = build_classifier if name.endswith("classifier") else build_network
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build(recipe.model)
        path = folder / f"{name}.safetensors"
        export_weights(path, network, {"recipe": json.dumps(recipe.model_dump())})
        options.append(f"{name}={path}")
    return options


@pytest.fixture(scope="module")
def small_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    load_shapes(folder, num_images=60)
    return folder


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_classes_are_measured_with_the_references_frequencies(
    weights: list[str], small_shapes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(
        "fid", "--model", "ddpm:tiny-class", "--data", str(small_shapes), "--n", "14",
        "--steps", "2", "--features", "shapes-clip", "--out", str(out), "--device", "cpu",
        *[part for option in weights[1:] for part in ("--weights", option)],
    )  # fmt: skip
    labels = [
        c.label
        for c in load_shapes(small_shapes, num_images=60).captions[::5]
        if c.label is not None
    ]
    asked = Counter(row.label for row in RunFolder.read(out).rows())
    for label, count in Counter(labels).items():
        assert abs(asked[label] - 14 * count / len(labels)) < 1
    records = read_records(out / "results.json")
    score = next(record for record in records if record.metric == "clip-score")
    assert (score.state, score.value) == ("not_applicable", None)
    assert score.reason == "not applicable: unconditional on text (the model takes classes)"
    distance = next(record for record in records if record.metric == "fd")
    assert distance.n == 14
    # weights of the test, not those of the label
    assert distance.fingerprint["training_relation"] == "unknown"
    assert distance.fingerprint["reference"].startswith(f"the {len(labels)} images of")
    assert (distance.fingerprint["crop"], distance.fingerprint["size_px"]) == ("center", 16)
    assert "for the classes of" in (out / "report.html").read_text("utf-8")


def test_an_unconditional_model_needs_no_captions(
    weights: list[str], small_shapes: Path, tmp_path: Path
) -> None:
    out, folder = tmp_path / "run", small_shapes / "images"
    run(
        "fid", "--model", "ddpm:tiny", "--data", str(folder), "--n", "3", "--steps", "2",
        "--out", str(out), "--device", "cpu", "--weights", weights[0], "--features", "shapes-clip",
    )  # fmt: skip
    score = next(r for r in read_records(out / "results.json") if r.metric == "clip-score")
    assert (score.state, score.reason) == ("not_applicable", "not applicable: unconditional")
    rows = RunFolder.read(out).rows()
    assert [(row.caption_id, row.prompt, row.label) for row in rows] == [
        (f"sample-{k}", None, None) for k in range(3)
    ]
    assert len({row.seed for row in rows}) == 3


def test_bits_per_dimension(weights: list[str], small_shapes: Path, tmp_path: Path) -> None:
    """The process with a network that says 0 needs about as much as the noise it has to make."""
    options = ("--model", "ddpm:tiny", "--data", str(small_shapes), "--weights", weights[0],
               "--device", "cpu")  # fmt: skip
    output = run("nll", *options, "--n", "3", "--steps", "5", "--json", str(tmp_path / "nll.json"))
    (record,) = read_records(tmp_path / "nll.json")
    assert (record.metric, record.unit, record.direction, record.n) == (
        "nll",
        "bits/dim",
        "lower",
        3,
    )
    assert record.interval is not None
    assert record.value is not None
    assert record.interval.low < record.value < record.interval.high
    assert record.fingerprint["steps"] == 5
    assert "DDPM (tiny)" in output
    with pytest.raises(ConfigError, match="--steps must be from 1 to 1000, got 2000"):
        run("nll", *options, "--steps", "2000")
    with pytest.raises(EvalkitError, match="has 60 images"):
        run("nll", *options, "--n", "61")
    with pytest.raises(ConfigError, match="has no likelihood"):
        run("nll", "--model", "glide:tiny", "--data", str(small_shapes))
