"""From a suite to run folders to a study, with a model that paints plain colours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from fake_generators import plain_spec
from typer.main import get_command

from drawbench.study.sources import open_source
from drawbench.suites import load_suite
from evalkit import generation
from evalkit.commands.suite import SuiteOptions, generate_suite, register
from evalkit.core.errors import ConfigError, RunFolderError
from evalkit.core.run import RunFolder
from evalkit.core.seeding import image_seed
from evalkit.options import SamplingOptions
from generators.base import Conditioning, Request, Sample, Settings

HASH_OF_BEFORE = "3695d3386fe99dea80e1f66b982bc1381bd97d7fc1d9e4fb8a8904f50a9fc044"
"""Of the run in `test_the_hash_of_a_run_is_what_it_was`, made before there was --bf16."""


class Painter:
    """Paints the seed's last byte."""

    def __init__(self, name: str, conditioning: Conditioning = "text") -> None:
        self.spec = plain_spec(name, conditioning)

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        return [Sample(np.full((4, 4, 3), request.seed % 256, np.uint8)) for request in requests]


@contextlib.contextmanager
def _silent(description: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@pytest.fixture
def painters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        generation,
        "load_generator",
        lambda name, **_: Painter(name, "class" if name == "labels" else "text"),
    )


@pytest.mark.usefixtures("painters")
def test_each_model_gets_a_run_that_a_study_can_use(tmp_path: Path) -> None:
    options = SuiteOptions(
        suite="shapes-bench",
        models=("one:tiny", "two:tiny"),
        per_prompt=3,
        out=tmp_path,
        sampling=SamplingOptions(seed=5),
    )
    folders = generate_suite(options, _silent)
    assert list(folders) == ["one:tiny", "two:tiny"]
    suite = load_suite("shapes-bench")
    rows = [RunFolder.read(folder).rows() for folder in folders.values()]
    assert [len(found) for found in rows] == [180, 180]
    assert rows[0][4].seed == rows[1][4].seed == image_seed(5, suite.prompts[1].id, 1)
    source = open_source("one", folders["one:tiny"], suite.prompts, per_prompt=3)
    assert source.selection == "first by sample index"
    before = (folders["one:tiny"] / "manifest.jsonl").read_bytes()
    assert generate_suite(options, _silent) == folders
    assert (folders["one:tiny"] / "manifest.jsonl").read_bytes() == before


@pytest.mark.usefixtures("painters")
def test_other_options_do_not_mix_into_a_run(tmp_path: Path) -> None:
    generate_suite(
        SuiteOptions(suite="shapes-bench", models=("one",), per_prompt=1, out=tmp_path), _silent
    )
    with pytest.raises(RunFolderError, match="holds another run"):
        generate_suite(
            SuiteOptions(suite="shapes-bench", models=("one",), per_prompt=2, out=tmp_path), _silent
        )


@pytest.mark.usefixtures("painters")
@pytest.mark.parametrize(
    ("models", "message"),
    [
        ((), "must name different models, got ''"),
        (("a", "a"), "must name different models, got 'a, a'"),
        (("labels",), "takes no prompts"),
    ],
)
def test_models_that_do_not_fit_are_refused(
    tmp_path: Path, models: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_suite(SuiteOptions(suite="shapes-bench", models=models, out=tmp_path), _silent)


@pytest.mark.usefixtures("painters")
def test_the_hash_of_a_run_is_what_it_was(tmp_path: Path) -> None:
    """Runs of before there was --bf16 go on; one in reduced precision is another run."""
    common: dict[str, Any] = {"suite": "shapes-bench", "models": ("one",), "per_prompt": 1}
    plain = generate_suite(SuiteOptions(**common, out=tmp_path / "a"), _silent)["one"]
    assert RunFolder.read(plain).fingerprint == HASH_OF_BEFORE
    bf16 = SamplingOptions(bf16=True)
    reduced = generate_suite(SuiteOptions(**common, out=tmp_path / "b", sampling=bf16), _silent)
    assert RunFolder.read(reduced["one"]).config["precision"] == "bf16"


def test_the_command_offers_what_every_command_that_samples_offers() -> None:
    flags = {flag for p in get_command(drawbench()).params for flag in p.opts}
    assert {"--bf16", "--compile-model", "--guidance", "--rerank", "--batch-size"} <= flags


def drawbench() -> typer.Typer:
    app = typer.Typer()
    register(app)
    return app
