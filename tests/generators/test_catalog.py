"""Models of other packages: with a row, with a bare loader, and broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from packages import install_package

from evalkit.core.errors import ConfigError, MissingWeightsError, UnknownNameError
from generators.base import Request
from generators.catalog import CATALOG, MODELS, full_name, load_generator, require_model
from generators.weights.published import MODEL_FILES, PUBLISHED

THEIRS = """
import numpy as np
from generators.base import GeneratorSpec, Sample
from generators.catalog import ModelRow


class Grey:
    def __init__(self, name):
        self.spec = GeneratorSpec(
            name=name, display_name="Grey", conditioning="none", stages=(), size_px=8,
            training_data=(), weights="none", weights_sha256="none",
        )

    def generate(self, requests, settings):
        return [Sample(image=np.full((8, 8, 3), 128, np.uint8)) for _ in requests]


class Fast(Grey):
    numerics = None

    def accelerate(self, numerics):
        self.numerics = numerics


def load(name, device, weights):
    return Grey(name)


def load_fast(name, device, weights):
    return Fast(name)


ROW = ModelRow(
    target="their_models:load_fast", summary="grey and fast", conditioning="none", size_px=8,
    weights="embedded",
)
FETCHED = ModelRow(
    target="their_models:load", summary="fetched", conditioning="none", size_px=8,
    weights="released", files=("ddpm-cifar10",),
)
NUMBER = 7
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_package(
        tmp_path,
        monkeypatch,
        modules={"their_models": THEIRS},
        entry_points={
            "evalkit.generators": {
                "their/bare": "their_models:load",
                "their/fast": "their_models:ROW",
                "their/fetched": "their_models:FETCHED",
                "their/number": "their_models:NUMBER",
                "their/gone": "no_such_module:load",
            }
        },
    )


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("name", ["their/bare", "their/fast"])
def test_a_model_of_another_package_samples(name: str) -> None:
    generator = load_generator(name)
    assert generator.spec.name == name
    (sample,) = generator.generate([Request()], generator.spec.default_settings())
    assert sample.image is not None
    assert sample.image.mean() == 128


@pytest.mark.usefixtures("theirs")
def test_a_bare_loader_becomes_a_row_that_says_what_it_does_not_know() -> None:
    row = CATALOG["their/bare"]
    assert row.target == row.summary == "their_models:load"
    assert (row.conditioning, row.size_px, row.weights, row.files) == (None, None, None, ())


@pytest.mark.usefixtures("theirs")
def test_only_a_generator_that_says_so_is_accelerated() -> None:
    fast = load_generator("their/fast", bf16=True)
    assert vars(fast)["numerics"].bf16
    with pytest.raises(ConfigError, match="their/bare takes none of --bf16"):
        load_generator("their/bare", bf16=True)


@pytest.mark.usefixtures("theirs")
def test_published_files_of_another_packages_row_are_fetched_too() -> None:
    with pytest.raises(MissingWeightsError, match="DDPM for CIFAR-10"):
        require_model("their/fetched", {})


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize(
    ("name", "complaint"),
    [("their/number", "is a int, expected a ModelRow"), ("their/gone", "can't be loaded")],
)
def test_a_broken_package_is_named_when_its_model_is_used(name: str, complaint: str) -> None:
    assert full_name(name) == name  # known by its entry point, without loading it
    with pytest.raises(ConfigError, match=complaint):
        load_generator(name)


@pytest.mark.usefixtures("theirs")
def test_unknown_models_are_answered_with_theirs_as_well() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'their/bare'"):
        full_name("their/bear")


def test_every_file_of_a_row_is_published() -> None:
    assert {file for row in MODELS.values() for file in row.files} <= set(PUBLISHED)
    assert {name: row.files for name, row in MODELS.items() if row.files} == MODEL_FILES
