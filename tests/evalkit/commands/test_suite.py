"""From a suite to run folders to a study, with a model that paints plain colours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from drawbench.sources import open_source
from drawbench.suites import load_suite
from evalkit.commands import suite as command
from evalkit.commands.suite import SuiteOptions, generate_suite
from evalkit.core.errors import ConfigError, RunFolderError
from evalkit.core.run import RunFolder
from evalkit.core.seeding import image_seed


class Painter:
    """Paints the seed's last byte."""

    def __init__(self, name: str, conditioning: str = "text") -> None:
        self.spec = SimpleNamespace(
            name=name,
            display_name=name,
            conditioning=conditioning,
            size_px=4,
            training_data=(),
            weights="none",
            weights_sha256="0" * 64,
        )

    def generate(self, requests: Sequence[Any], settings: object) -> list[Any]:
        return [
            SimpleNamespace(
                image=np.full((4, 4, 3), request.seed % 256, np.uint8),
                status="ok",
                reason="",
                notes=(),
            )
            for request in requests
        ]


@contextlib.contextmanager
def _silent(description: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, total: None


@pytest.fixture
def painters(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {
        "generators.catalog:load_generator": lambda name, **_: Painter(
            name, "class" if name == "labels" else "text"
        ),
        "generators.base:resolve_settings": lambda spec, **_: {},
    }
    monkeypatch.setattr(command, "load", parts.__getitem__)


@pytest.mark.usefixtures("painters")
def test_each_model_gets_a_run_that_a_study_can_use(tmp_path: Path) -> None:
    options = SuiteOptions(
        suite="shapes-bench", models=("one:tiny", "two:tiny"), per_prompt=3, out=tmp_path, seed=5
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
        ((), "wants different models"),
        (("a", "a"), "wants different"),
        (("labels",), "takes no text"),
    ],
)
def test_models_that_do_not_fit_are_refused(
    tmp_path: Path, models: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_suite(SuiteOptions(suite="shapes-bench", models=models, out=tmp_path), _silent)
