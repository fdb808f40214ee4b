"""unCLIP end to end with random weights: settings, variations, and weights of one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.commands.train import shapes_training_set
from evalkit.core.errors import ConfigError, DataError, MissingWeightsError, WeightsError
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.errors import UnsupportedRequestError
from generators.recipes.recipe import Recipe, load_recipe
from generators.training.loop import train
from generators.unclip.generator import UnclipGenerator
from generators.unclip.variations import decode_images, encode_images, interpolate, slerp

QUICK = "prior=3,base=2,sr1=1,sr2=1"
ASKED = [Request(prompt="a red circle", seed=5), Request(prompt="a blue square", seed=6)]


@pytest.fixture(scope="module")
def unclip() -> UnclipGenerator:
    """Random weights, none of them zero, so that every condition shows."""
    generator = load_generator("unclip:tiny-untrained")
    assert isinstance(generator, UnclipGenerator)
    noise = torch.Generator().manual_seed(0)
    stages = [generator.prior, generator.decoder, *generator.upsamplers.values()]
    with torch.no_grad():
        for stage in stages:
            for parameter in stage.network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
    return generator


@pytest.fixture(scope="module")
def usual(unclip: UnclipGenerator) -> list[np.ndarray]:
    return images(unclip)


def images(generator: UnclipGenerator, **typed: str) -> list[np.ndarray]:
    settings = resolve_settings(generator.spec, **{"steps": QUICK, **typed})
    made = [sample.image for sample in generator.generate(ASKED, settings)]
    assert all(image is not None for image in made)
    return made  # type: ignore[return-value]


def test_an_image_depends_on_its_seed_and_prompt_alone(unclip: UnclipGenerator) -> None:
    settings = resolve_settings(unclip.spec, steps=QUICK)
    alone = unclip.generate(ASKED[1:], settings)[0].image
    among = images(unclip)[1]
    assert alone is not None
    assert alone.shape == (64, 64, 3)
    assert alone.dtype == np.uint8
    assert np.abs(alone.astype(int) - among).max() <= 1
    other = unclip.generate([dataclasses.replace(ASKED[1], seed=7)], settings)[0].image
    assert not np.array_equal(alone, other)


@pytest.mark.parametrize(
    "typed",
    [
        {"guidance": "5"},
        {"guidance": "prior=5"},
        {"steps": "prior=4,base=2,sr1=1,sr2=1"},
        {"steps": "prior=3,base=2,sr1=2,sr2=1"},
        {"steps": "prior=3,base=2,sr1=1,sr2=2"},
        {"sampler": "prior=ddim"},
        {"options": "embedding=text"},
        {"options": "embedding=none"},
        {"options": "candidates=5"},
        {"options": "sr1.temperature=0.5"},
        {"options": "sr2.temperature=0.5"},
    ],
)
def test_every_setting_matters(
    unclip: UnclipGenerator, usual: list[np.ndarray], typed: dict[str, str]
) -> None:
    assert not np.array_equal(usual, images(unclip, **typed))


def test_a_bare_guidance_goes_to_the_decoder(unclip: UnclipGenerator) -> None:
    """The paper guides the decoder alone."""
    settings = resolve_settings(unclip.spec, guidance="5", steps="7")
    assert (settings["base"].guidance, settings["base"].steps) == (5.0, 7)
    assert settings["prior"] == unclip.spec.default_settings()["prior"]


def test_a_setting_that_it_does_not_have_is_answered_with_those_it_has() -> None:
    spec = load_generator("unclip:tiny-untrained").spec
    with pytest.raises(
        ConfigError, match="guidance for stage 'sr1'; stages with guidance: prior, base"
    ):
        resolve_settings(spec, guidance="base=1.35,sr1=8")
    with pytest.raises(ConfigError, match=r"no option 'aug_level'; it has: prior\.candidates"):
        resolve_settings(spec, options="aug_level=0.1")


def test_a_request_without_a_prompt_is_refused(unclip: UnclipGenerator) -> None:
    with pytest.raises(UnsupportedRequestError, match="prompt"):
        unclip.generate([Request(seed=1)], unclip.spec.default_settings())


def test_the_published_size_is_an_architecture_only() -> None:
    with pytest.raises(MissingWeightsError, match=r"never released.*unclip:tiny"):
        load_generator("unclip:paper")


def test_variations_share_what_the_image_says_and_not_the_noise(unclip: UnclipGenerator) -> None:
    pixels = shapes_training_set(seed=0, num_images=2).images
    encoded = encode_images(unclip, pixels, steps=4)
    settings = resolve_settings(unclip.spec, steps="base=4,sr1=1,sr2=1", guidance="1")
    plain = decode_images(unclip, encoded, [1, 2], settings)
    again = decode_images(unclip, encoded, [3, 4], settings, eta=0.0)
    varied = decode_images(unclip, encoded, [3, 4], settings, eta=1.0)
    assert plain.shape == (2, 64, 64, 3)
    assert not np.array_equal(varied, again)
    halfway = interpolate(encoded, dataclasses.replace(encoded, noise=encoded.noise.flip(0)), 0.5)
    assert torch.allclose(halfway.embedding, encoded.embedding, atol=1e-5)
    assert not torch.allclose(halfway.noise, encoded.noise)
    with pytest.raises(DataError, match="64 x 64 x 3, got 32 x 32 x 3"):
        encode_images(unclip, np.zeros((1, 32, 32, 3), np.uint8))


def test_slerp_meets_its_ends_and_keeps_equal_lengths() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 2, 4, generator=generator) for _ in range(2))
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, a, 0.3), a)
    middle = slerp(a / a.flatten(1).norm(dim=1)[:, None, None], b, 0.5).flatten(1).norm(dim=1)
    torch.testing.assert_close(middle, (1 + b.flatten(1).norm(dim=1)) / 2)


def quick(name: str) -> Recipe:
    """A shipped recipe, one step of two images."""
    recipe = load_recipe(name, steps=1)
    smaller = {"batch_size": 2, "precision": "no"}
    return recipe.model_copy(update={"optimizer": recipe.optimizer.model_copy(update=smaller)})


def test_trained_files_make_the_model_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    data = shapes_training_set(seed=0, num_images=40)
    parts = ("prior-ar", "decoder", "sr1", "sr2")
    weights = {}
    for name in (f"unclip-tiny-{part}" for part in parts):
        weights[name] = train(quick(name), data, tmp_path / name, cpu=True)
    generator = load_generator("unclip:tiny-ar", weights=weights)
    assert generator.spec.training_data == ("shapes",)
    settings = resolve_settings(generator.spec, steps="base=1,sr1=1,sr2=1")
    image = generator.generate(ASKED[:1], settings)[0].image
    assert image is not None
    assert image.shape == (64, 64, 3)

    clip = train(quick("clip-tiny-first"), data, tmp_path / "clip", cpu=True)
    with pytest.raises(
        WeightsError, match=r"was trained with clip-tiny .* Train unclip-tiny-prior"
    ):
        load_generator("unclip:tiny-ar", weights={**weights, "clip-tiny": clip})


def test_what_is_not_shipped_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generators.weights.parts.ZOO", tmp_path)
    with pytest.raises(MissingWeightsError, match=r"evalkit train unclip-tiny-prior.*untrained"):
        load_generator("unclip:tiny")
    with pytest.raises(ConfigError, match="no weights 'prior'; it has: clip-tiny, unclip-tiny-"):
        load_generator("unclip:tiny", weights={"prior": tmp_path})
