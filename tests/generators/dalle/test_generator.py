"""dalle:tiny from its parts to pixels, and what is said where there is nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evalkit.commands.train import shapes_training_set
from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from evalkit.core.registry import load
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.dalle.dvae import DVAE
from generators.dalle.model import DalleTransformer
from generators.dalle.presets import PAPER_DVAE, PAPER_TRANSFORMER
from generators.errors import UnsupportedRequestError
from generators.recipes.recipe import load_recipe
from generators.training.checkpoint import export_weights
from generators.training.data import draw_batch
from generators.training.loop import train
from generators.training.networks import NETWORKS

PROMPTS = ("a red circle", "two small blue squares above a green ring")
ROUNDED = 0.005  # the share by which a derivation may miss


@pytest.fixture(scope="module")
def data():
    return shapes_training_set(seed=0, num_images=8)


@pytest.fixture(scope="module")
def parts(data, tmp_path_factory):
    """Both networks after two steps each, the second on the codes of the first."""
    folder = tmp_path_factory.mktemp("dalle")

    def trained(name, **objective):
        recipe = load_recipe(name, steps=2)
        optimizer = recipe.optimizer.model_copy(update={"batch_size": 2, "precision": "no"})
        changed = {
            "start_from": None,
            "optimizer": optimizer,
            "objective": {**recipe.objective, **objective},
        }
        return train(recipe.model_copy(update=changed), data, folder / name, cpu=True)

    dvae = trained("dalle-tiny-dvae")
    transformer = trained("dalle-tiny-transformer", dvae=str(dvae))
    return {"dalle-tiny-dvae": dvae, "dalle-tiny-transformer": transformer}


def images(generator, prompts=PROMPTS, options=None, seeds=(1, 2)):
    settings = resolve_settings(generator.spec, options=options)
    requests = [Request(prompt=p, seed=s) for p, s in zip(prompts, seeds, strict=True)]
    return np.stack([sample.image for sample in generator.generate(requests, settings)])


def test_trained_files_make_images_that_seed_and_caption_decide(parts):
    generator = load_generator("dalle:tiny", weights=parts)
    assert generator.spec.training_data == ("shapes",)
    assert generator.spec.weights.startswith("given: ")
    made = images(generator)
    assert made.shape == (2, 64, 64, 3)
    assert made.dtype == np.uint8
    assert (made == images(load_generator("dalle:tiny", weights=parts))).all()
    for other in (
        images(generator, seeds=(3, 4)),
        images(generator, options="temperature=0"),
        images(generator, options="top_k=3"),
        images(generator, options="transformer.temperature=0.5"),
    ):
        assert not (made == other).all()
    alone = images(generator, PROMPTS[:1], seeds=(1,))[0]
    assert np.abs(alone.astype(int) - made[0]).max() <= 1


def test_random_weights_work_without_any_file():
    generator = load_generator("dalle:tiny-untrained")
    assert generator.spec.weights_sha256 == "random"
    assert images(generator).shape == (2, 64, 64, 3)


def test_a_transformer_of_other_codes_is_refused(parts, tmp_path):
    """Codes mean something only to the discrete VAE that the transformer learned them from."""
    recipe = load_recipe("dalle-tiny-dvae")
    network = _trainee("dalle-dvae", recipe.model, recipe.objective).network
    other = tmp_path / "dalle-tiny-dvae.safetensors"
    export_weights(other, network, {"recipe": recipe.model_dump_json()})
    with pytest.raises(WeightsError, match="dalle-tiny-transformer was trained with"):
        load_generator("dalle:tiny", weights={**parts, "dalle-tiny-dvae": other})


def test_training_reads_the_clock_and_the_codes(data, parts):
    """Temperature and KL weight follow the step; the transformer sees the frozen VAE's codes."""
    recipe = load_recipe("dalle-tiny-dvae")
    trainee = _trainee("dalle-dvae", recipe.model, recipe.objective)

    def loss(step):
        batch = draw_batch(data, seed=0, step=0, batch_size=2)
        with torch.no_grad():
            return trainee(replace(batch, step=step)).item()

    assert loss(0) == loss(0) != loss(10_000)
    recipe = load_recipe("dalle-tiny-transformer")
    with pytest.raises(ConfigError, match="image_vocab is 100, but there are 512 tokens"):
        _trainee(
            "dalle-transformer",
            {**recipe.model, "image_vocab": 100},
            {**recipe.objective, "dvae": str(parts["dalle-tiny-dvae"])},
        )


def test_there_is_no_public_dalle():
    with pytest.raises(
        MissingWeightsError, match="weights of DALL-E's transformer were never released"
    ):
        load_generator("dalle")
    with pytest.raises(MissingWeightsError, match=r"dalle:paper is the published architecture"):
        load_generator("dalle:paper")
    with pytest.raises(ConfigError, match="has no weights 'dvae'; it has: dalle-tiny-dvae"):
        load_generator("dalle:tiny", weights={"dvae": Path("x")})


def test_what_it_has_not_is_said():
    generator = load_generator("dalle:tiny-untrained")
    with pytest.raises(ConfigError, match=r"no steps; it has: .*transformer\.temperature"):
        resolve_settings(generator.spec, steps="10")
    with pytest.raises(ConfigError, match=r"no guidance; it has: .*transformer\.top_k"):
        resolve_settings(generator.spec, guidance="3")
    with pytest.raises(ConfigError, match="must be 0 to 512, got 513"):
        resolve_settings(generator.spec, options="top_k=513")
    with pytest.raises(UnsupportedRequestError, match="needs a prompt"):
        generator.generate([Request(seed=1)], generator.spec.default_settings())


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_published_transformer_has_the_published_size():
    """docs/models/dalle.md: 64 blocks of 12 d^2 + 13 d, d = 3968: 12.09 B of the paper's "12 B"."""
    with torch.device("meta"):
        network = DalleTransformer(PAPER_TRANSFORMER)
    d, text, image = 3968, 16_384 + 256, 8192
    blocks = 64 * (12 * d**2 + 13 * d)
    assert count(network.blocks) == pytest.approx(blocks, rel=ROUNDED)
    assert count(network.blocks) == pytest.approx(12.09e9, rel=ROUNDED)
    embeddings = (text + 256 + image + 32 + 32 + 1) * d
    heads = (d + 1) * (text + image)
    assert count(network) == blocks + embeddings + 2 * d + heads == 12_293_853_056
    assert len(network.patterns) == 64
    assert network.masks.shape == (3, 1280, 1280)


def test_the_published_dvae_has_the_published_size():
    """Blocks of n_in to n_out through h = n_out / 4, kernels 3 3 3 1 or 1 3 3 3 (dalle.md)."""
    with torch.device("meta"):
        network = DVAE(PAPER_DVAE)
    widths = (256, 512, 1024, 2048)

    def block(n_in, n_out, first, last):
        h = n_out // 4
        path = (first * n_in * h + h) + 2 * (9 * h * h + h) + (last * h * n_out + n_out)
        return path + (n_in * n_out + n_out if n_in != n_out else 0)

    encoder = 49 * 3 * 256 + 256 + (2048 + 1) * 8192
    for n_in, n_out in zip((256, *widths), widths, strict=False):
        encoder += block(n_in, n_out, 9, 1) + block(n_out, n_out, 9, 1)
    decoder = (8192 + 1) * 128 + (256 + 1) * 6
    for n_in, n_out in zip((128, *widths[::-1]), widths[::-1], strict=False):
        decoder += block(n_in, n_out, 1, 9) + block(n_out, n_out, 1, 9)
    assert count(network.encoder) == encoder
    assert count(network.decoder) == decoder


def _trainee(name, model, objective):
    return load(NETWORKS[name])(model, objective)
