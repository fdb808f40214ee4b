"""DDPMs behind the Generator interface: recipes' weights, released formats, what can't be asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.ddpm import generator as module
from generators.ddpm.generator import DDPMGenerator
from generators.ddpm.presets import CIFAR10, PRESETS
from generators.ddpm.tiny import build_classifier, build_network
from generators.errors import UnsafeWeightsError, UnsupportedRequestError
from generators.recipes.recipe import load_recipe
from generators.training.checkpoint import export_weights

SMALL = {"image_size": 16, "channel_mult": [1, 2]}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, randomised: Any) -> dict[str, Path]:
    """Weights as `evalkit train` writes them, of networks that a test can afford."""
    folder = tmp_path_factory.mktemp("ddpm")
    made = {}
    for seed, name in enumerate(("ddpm-tiny", "ddpm-tiny-class", "ddpm-tiny-classifier")):
        recipe = load_recipe(name)
        recipe = recipe.model_copy(update={"model": {**recipe.model, **SMALL}})
        build = build_classifier if name.endswith("classifier") else build_network
        made[name] = folder / f"{name}.safetensors"
        network = randomised(build(recipe.model), seed)
        export_weights(made[name], network, {"recipe": json.dumps(recipe.model_dump())})
    return made


@pytest.fixture(scope="module")
def plain(files: dict[str, Path]) -> DDPMGenerator:
    loaded = load_generator("ddpm:tiny", weights={"ddpm-tiny": files["ddpm-tiny"]})
    assert isinstance(loaded, DDPMGenerator)
    return loaded


@pytest.fixture(scope="module")
def classes(files: dict[str, Path]) -> DDPMGenerator:
    weights = {k: v for k, v in files.items() if k != "ddpm-tiny"}
    loaded = load_generator("ddpm:tiny-class", weights=weights)
    assert isinstance(loaded, DDPMGenerator)
    return loaded


def images(generator: DDPMGenerator, *requests: Request, **chosen: str) -> list[np.ndarray]:
    settings = resolve_settings(generator.spec, **{"steps": "3", **chosen})
    made = [sample.image for sample in generator.generate(requests, settings)]
    assert all(image is not None for image in made)
    return made  # type: ignore[return-value]


def test_an_unconditional_model(plain: DDPMGenerator) -> None:
    first, second = images(plain, Request(seed=1), Request(seed=2))
    assert first.shape == (16, 16, 3)
    assert first.dtype == np.uint8
    alone = images(plain, Request(seed=2))[0]
    assert np.abs(alone.astype(int) - second).max() <= 1
    assert not np.array_equal(first, second)
    assert plain.spec.conditioning == "none"
    with pytest.raises(ConfigError, match=r"no guidance \(it is unconditional\)"):
        resolve_settings(plain.spec, guidance="2")


def test_classes_guidance_and_samplers_matter(classes: DDPMGenerator) -> None:
    asked = Request(label=3, seed=1)
    variants = [
        images(classes, asked, guidance="0")[0],
        images(classes, asked, guidance="20")[0],
        images(classes, dataclasses.replace(asked, label=4), guidance="0")[0],
        images(classes, asked, guidance="0", sampler="dpm++2m")[0],
        images(classes, asked, guidance="0", steps="5")[0],
        images(classes, asked, guidance="0", options="threshold=dynamic")[0],
        images(classes, asked, guidance="0", sampler="ddim", options="eta=1")[0],
    ]
    for index, one in enumerate(variants):
        for other in variants[:index]:
            assert not np.array_equal(one, other)
    assert classes.spec.num_classes == 7


def test_what_can_not_be_asked(plain: DDPMGenerator, classes: DDPMGenerator) -> None:
    with pytest.raises(UnsupportedRequestError, match="takes no prompts; conditioning: class"):
        images(classes, Request(prompt="a circle"))
    with pytest.raises(UnsupportedRequestError, match="label from 0 to 6, got 7"):
        images(classes, Request(label=7))
    with pytest.raises(UnsupportedRequestError, match="label from 0 to 6, got None"):
        images(classes, Request())
    with pytest.raises(UnsupportedRequestError, match="is unconditional and takes no labels"):
        images(plain, Request(label=0))
    with pytest.raises(UnsupportedRequestError, match="class-conditional"):
        classes.bits_per_dim(np.zeros((1, 16, 16, 3), np.uint8), [0])
    with pytest.raises(ConfigError, match="no weights 'x'; it has: ddpm-tiny"):
        load_generator("ddpm:tiny", weights={"x": Path("y")})


def test_bits_per_dim_depend_on_image_seed_and_steps_alone(plain: DDPMGenerator) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    bits = plain.bits_per_dim(pixels, [1, 2, 3], steps=4)
    assert bits.shape == (3,)
    assert (bits > 0).all()
    alone = plain.bits_per_dim(pixels[1:2], [2], steps=4)
    torch.testing.assert_close(alone[0], bits[1], rtol=1e-4, atol=1e-4)
    assert not torch.equal(plain.bits_per_dim(pixels, [4, 5, 6], steps=4), bits)
    assert not torch.equal(plain.bits_per_dim(pixels, [1, 2, 3], steps=5), bits)


def test_bfloat16_is_close_and_not_the_same(files: dict[str, Path], plain: DDPMGenerator) -> None:
    exact = images(plain, Request(seed=1))[0].astype(int)
    quick = load_generator("ddpm:tiny", weights={"ddpm-tiny": files["ddpm-tiny"]}, bf16=True)
    rounded = images(quick, Request(seed=1))[0]  # type: ignore[arg-type]
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).mean() < 8


def test_a_generator_that_knows_no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generators.catalog.load", lambda target: lambda *args: object())
    with pytest.raises(ConfigError, match="takes none of --bf16"):
        load_generator("glide:tiny", bf16=True)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, randomised: Any) -> dict[str, Path]:
    """A DDPM under diffusers' old names, and an ADM with its classifier, both tiny."""
    ddpm = dataclasses.replace(
        CIFAR10,
        network=dataclasses.replace(
            CIFAR10.network, image_size=8, model_channels=32, channel_mult=(1, 2)
        ),
    )
    small = {"image_size": 8, "model_channels": 32, "num_res_blocks": 1, "channel_mult": (1, 2),
             "attention_downsamples": (2,), "num_head_channels": 32}  # fmt: skip
    adm = PRESETS["adm64"]
    assert adm.classifier is not None
    adm = dataclasses.replace(
        adm,
        network=dataclasses.replace(adm.network, **small),  # type: ignore[arg-type]
        classifier=dataclasses.replace(adm.classifier, **small),  # type: ignore[arg-type]
    )
    monkeypatch.setattr(module, "PRESETS", {"cifar10": ddpm, "adm64": adm})
    old = {
        name.replace(".to_q.", ".query.").replace(".to_k.", ".key.").replace(".to_v.", ".value.")
        .replace(".to_out.0.", ".proj_attn."): tensor
        for name, tensor in randomised(ddpm.build()).state_dict().items()
    }  # fmt: skip
    assert any(".query." in name for name in old)
    states = {
        "ddpm-cifar10": old,
        "ddpm-adm64": randomised(adm.build()).state_dict(),
        "ddpm-adm64-classifier": randomised(adm.build_classifier()).state_dict(),
    }
    for name, state in states.items():
        torch.save(state, tmp_path / name)
    return {name: tmp_path / name for name in states}


def test_googles_weights_in_diffusers_layout(published: dict[str, Path]) -> None:
    ours = load_generator("ddpm", weights={"ddpm-cifar10": published["ddpm-cifar10"]})
    assert ours.spec.name == "ddpm:cifar10"
    assert ours.spec.training_data == ("cifar10",)
    assert ours.spec.default_settings()["base"].steps == 1000
    assert images(ours, Request(seed=0))[0].shape == (8, 8, 3)  # type: ignore[arg-type]


def test_openais_weights_with_their_classifier(published: dict[str, Path]) -> None:
    weights = {name: path for name, path in published.items() if "adm" in name}
    ours = load_generator("ddpm:adm64", weights=weights)
    assert ours.spec.num_classes == 1000
    assert ours.spec.default_settings()["base"].guidance == 1.0
    guided, free = (
        images(ours, Request(label=999, seed=0), guidance=scale)[0]  # type: ignore[arg-type]
        for scale in ("50", "0")
    )
    assert not np.array_equal(guided, free)


def test_released_files_that_are_not_there_damaged_or_unsafe(
    published: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(MissingWeightsError, match="is not a file"):
        load_generator("ddpm", weights={"ddpm-cifar10": tmp_path / "nowhere"})
    with pytest.raises(WeightsError, match=r"missing: .*extra: "):
        load_generator("ddpm", weights={"ddpm-cifar10": published["ddpm-adm64"]})
    torch.save({"code": print}, tmp_path / "code")
    with pytest.raises(UnsafeWeightsError, match="refused"):
        load_generator("ddpm", weights={"ddpm-cifar10": tmp_path / "code"})
