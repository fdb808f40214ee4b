"""Imagen end to end with random weights: settings of each stage, and weights of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.commands.train import shapes_training_set
from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.errors import UnsupportedRequestError
from generators.imagen.generator import NETWORK_PARTS, ImagenGenerator
from generators.recipes.recipe import Recipe, load_recipe
from generators.training.loop import train

QUICK = "base=2,sr1=1,sr2=1"
ASKED = [Request(prompt="a red circle", seed=5), Request(prompt="a blue square", seed=6)]


@pytest.fixture(scope="module")
def imagen() -> ImagenGenerator:
    """Random weights, none of them zero, so that every condition shows."""
    generator = load_generator("imagen:tiny-untrained")
    assert isinstance(generator, ImagenGenerator)
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for stage in [generator.base, *generator.upsamplers.values()]:
            for parameter in stage.network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    return generator


def images(generator: ImagenGenerator, **typed: str) -> list[np.ndarray]:
    settings = resolve_settings(generator.spec, **{"steps": QUICK, **typed})
    made = [sample.image for sample in generator.generate(ASKED, settings)]
    assert all(image is not None for image in made)
    return made  # type: ignore[return-value]


@pytest.fixture(scope="module")
def usual(imagen: ImagenGenerator) -> list[np.ndarray]:
    return images(imagen)


def test_an_image_depends_on_its_seed_and_prompt_alone(
    imagen: ImagenGenerator, usual: list[np.ndarray]
) -> None:
    settings = resolve_settings(imagen.spec, steps=QUICK)
    alone = imagen.generate(ASKED[1:], settings)[0].image
    assert alone is not None
    assert alone.shape == (64, 64, 3)
    assert alone.dtype == np.uint8
    assert np.abs(alone.astype(int) - usual[1]).max() <= 1
    other = imagen.generate([Request(prompt="a blue square", seed=7)], settings)[0].image
    assert not np.array_equal(alone, other)


@pytest.mark.parametrize(
    "typed",
    [
        {"guidance": "base=1"},
        {"guidance": "sr1=8"},
        {"guidance": "sr2=8"},
        {"steps": "base=2,sr1=2,sr2=1"},
        {"steps": "base=2,sr1=1,sr2=2"},
        {"options": "base.threshold=dynamic"},
        {"options": "sr1.aug_level=0.8"},
        {"options": "sr2.aug_level=0.8"},
    ],
)
def test_every_setting_matters(
    imagen: ImagenGenerator, usual: list[np.ndarray], typed: dict[str, str]
) -> None:
    assert not np.array_equal(usual, images(imagen, **typed))


def test_the_percentile_matters_to_a_dynamic_threshold(imagen: ImagenGenerator) -> None:
    dynamic = images(imagen, options="base.threshold=dynamic")
    half = images(imagen, options="base.threshold=dynamic,base.percentile=0.5")
    assert not np.array_equal(dynamic, half)


def test_the_last_threshold_matters_where_values_leave_the_range(imagen: ImagenGenerator) -> None:
    noisy = "sr2.aug_level=1"
    static = images(imagen, options=f"{noisy},sr2.threshold=static")
    assert not np.array_equal(images(imagen, options=noisy), static)


def test_a_setting_that_it_does_not_have_is_answered_with_those_it_has() -> None:
    spec = load_generator("imagen:tiny-untrained").spec
    with pytest.raises(ConfigError, match="'prior'; stages with steps: base, sr1, sr2"):
        resolve_settings(spec, steps="prior=25,base=50")
    with pytest.raises(ConfigError, match=r"it has: base\.threshold, base\.percentile, sr1\."):
        resolve_settings(spec, options="base.aug_level=0.1")


def test_a_request_without_a_prompt_is_refused(imagen: ImagenGenerator) -> None:
    with pytest.raises(UnsupportedRequestError, match="prompt"):
        imagen.generate([Request(seed=1)], imagen.spec.default_settings())


def test_the_published_size_is_an_architecture_only() -> None:
    with pytest.raises(MissingWeightsError, match=r"never released.*imagen:tiny"):
        load_generator("imagen:paper")


def quick(name: str, text_encoder: Path | None = None) -> Recipe:
    """A shipped recipe, one step of two images, from random weights."""
    recipe = load_recipe(name, steps=1)
    optimizer = recipe.optimizer.model_copy(update={"batch_size": 2, "precision": "no"})
    beside = {} if text_encoder is None else {"text_encoder": str(text_encoder)}
    objective = {**recipe.objective, **beside}
    changed = {"optimizer": optimizer, "objective": objective}
    return recipe.model_copy(update={**changed, "start_from": None, "start_partly": False})


def test_trained_files_make_the_model_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    data = shapes_training_set(seed=0, num_images=8)
    text = train(quick("imagen-tiny-t5"), data, tmp_path / "t5", cpu=True)
    weights = {"imagen-tiny-t5": text}
    for name in NETWORK_PARTS.values():
        weights[name] = train(quick(name, text), data, tmp_path / name, cpu=True)
    generator = load_generator("imagen:tiny", weights=weights)
    assert generator.spec.training_data == ("shapes",)
    assert isinstance(generator, ImagenGenerator)
    scales = {name: stage.residual_scale for name, stage in generator.upsamplers.items()}
    assert (generator.base.residual_scale, scales) == (None, {"sr1": 8.0, "sr2": 8.0})
    settings = resolve_settings(generator.spec, steps="base=1,sr1=1,sr2=1")
    image = generator.generate(ASKED[:1], settings)[0].image
    assert image is not None
    assert image.shape == (64, 64, 3)

    other = quick("imagen-tiny-t5").model_copy(update={"seed": 99})
    foreign = train(other, data, tmp_path / "foreign", cpu=True)
    with pytest.raises(WeightsError, match="imagen-tiny-base was trained with imagen-tiny-t5"):
        load_generator("imagen:tiny", weights={**weights, "imagen-tiny-t5": foreign})


def test_what_is_not_shipped_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generators.weights.parts.ZOO", tmp_path)
    with pytest.raises(MissingWeightsError, match=r"evalkit train imagen-tiny-t5.*untrained"):
        load_generator("imagen:tiny")
    with pytest.raises(ConfigError, match="no weights 'base'; it has: imagen-tiny-t5, imagen-"):
        load_generator("imagen:tiny", weights={"base": tmp_path})
