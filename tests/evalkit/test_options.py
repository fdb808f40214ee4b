"""Every option of a measurement reaches the metrics, from every command that measures."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from click.testing import CliRunner
from typer.main import get_command

from evalkit import cli
from evalkit.measurement import score_options
from evalkit.metrics.score import ScoreOptions
from evalkit.options import MeasureOptions

CHANGED: dict[str, Any] = {
    "inception_layer": "64", "resize": "clean", "clip_model": "ViT-B/16", "clip_variant": "raw",
    "clip_prefix": "a ", "kid_subsets": 3, "kid_subset_size": 7, "is_splits": 2,
    "neighbours": (4,), "distractors": 9, "halvings": 2, "level": 0.9, "crop": "squash",
    "size_px": 32, "filter": "lanczos", "sample_crop": "center", "sample_size_px": 16,
    "batch_size": 5, "workers": 3, "precision": "bf16", "compile": True, "seed": 4,
    "skip_bad": True, "num_influential": 1, "features": "dinov2", "device": "cuda",
}  # fmt: skip
FLAGS = [
    field.metadata["option"].default
    for field in dataclasses.fields(MeasureOptions)
    if field.metadata
]


@pytest.mark.parametrize("name", sorted(CHANGED))
def test_every_field_changes_what_the_metrics_are_told(name: str) -> None:
    before = MeasureOptions()
    after = dataclasses.replace(before, **{name: CHANGED[name]})
    assert score_options(before, "coco") != score_options(after, "coco")


def test_nothing_that_the_metrics_can_be_told_is_out_of_reach() -> None:
    renamed = {"splits", "sample_preparation", "reference_preparation"}
    reachable = {field.name for field in dataclasses.fields(MeasureOptions)}
    assert {field.name for field in dataclasses.fields(ScoreOptions)} - renamed <= reachable


@pytest.mark.parametrize("command", ["fid", "score", "compare"])
def test_commands_offer_them_all(command: str) -> None:
    offered = {
        flag
        for parameter in get_command(cli.app).commands[command].params  # type: ignore[attr-defined]
        for flag in parameter.opts
    }
    missing = set(FLAGS) - offered
    # These have a name of their own where a command samples images with options of those names.
    assert missing <= {"--feature-batch-size", "--metric-seed"}
    assert {"--batch-size", "--seed"} <= offered


def test_what_is_typed_arrives() -> None:
    import typer

    from evalkit.options import measuring

    found: list[MeasureOptions] = []
    app = typer.Typer()

    @app.command()
    @measuring()
    def command(measure: MeasureOptions, name: str = "x") -> None:
        found.append(measure)

    typed = ["--metrics", "fid, kid", "--neighbours", "4,6", "--skip-bad", "--size", "64"]
    assert CliRunner().invoke(get_command(app), typed).exit_code == 0
    assert CliRunner().invoke(get_command(app), []).exit_code == 0
    assert found[0] == MeasureOptions(
        metrics=("fid", "kid"), neighbours=(4, 6), skip_bad=True, size_px=64
    )
    assert found[1] == MeasureOptions()
