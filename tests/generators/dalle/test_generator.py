"""dalle:tiny from its parts to pixels, and what is said where there is nothing."""

import json
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
from generators.dalle.dvae import DVAE, logit_laplace_nll
from generators.dalle.generator import STAGE
from generators.dalle.model import DalleTransformer
from generators.dalle.presets import PAPER_DVAE, PAPER_TRANSFORMER
from generators.errors import UnsupportedRequestError
from generators.recipes.recipe import load_recipe
from generators.training.checkpoint import export_weights
from generators.training.data import draw_batch
from generators.training.loop import train
from generators.training.networks import NETWORKS
from generators.training.starts import model_file
from generators.weights.zoo import trained_state

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

    dvae = trained("dalle-tiny-dvae-second")
    transformer = trained("dalle-tiny-transformer", dvae=str(dvae))
    return {"dalle-tiny-dvae": dvae, "dalle-tiny-transformer": transformer}


def images(generator, prompts=PROMPTS, seeds=(1, 2), **settings):
    settings = resolve_settings(generator.spec, **settings)
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
        images(generator, guidance="1"),
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
    network = _trainee(recipe.network, recipe.model, recipe.objective).network
    other = tmp_path / "dalle-tiny-dvae.safetensors"
    export_weights(other, network, {"recipe": recipe.model_dump_json()})
    with pytest.raises(WeightsError, match="dalle-tiny-transformer was trained with"):
        load_generator("dalle:tiny", weights={**parts, "dalle-tiny-dvae": other})


def test_training_reads_the_clock_and_the_codes(data, parts):
    """Temperature and KL weight follow the step; the transformer sees the frozen VAE's codes."""
    recipe = load_recipe("dalle-tiny-dvae-second")
    trainee = _trainee(recipe.network, recipe.model, recipe.objective)

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


def test_the_decoder_learns_alone_and_its_codes_stay(data, tmp_path):
    """Training on likeliest codes moves every weight of the decoder and none of the encoder."""
    start = load_recipe("dalle-tiny-dvae-second")
    before = _trainee(start.network, start.model, start.objective).network.state_dict()
    saved = tmp_path / "start.safetensors"
    network = DVAE.from_flat(start.model)
    network.load_state_dict(before)
    export_weights(saved, network, {"recipe": start.model_dump_json()})
    recipe = load_recipe("dalle-tiny-dvae", steps=2)
    smaller = recipe.optimizer.model_copy(update={"batch_size": 2, "precision": "no"})
    recipe = recipe.model_copy(update={"optimizer": smaller})
    trained = train(recipe, data, tmp_path / "run", cpu=True, start=saved)
    begun, after = trained_state(saved), trained_state(trained)
    moved = {name.split(".")[0] for name in after if not torch.equal(begun[name], after[name])}
    kept = {name for name in after if torch.equal(begun[name], after[name])}
    assert moved == {"decoder"}
    assert {name.split(".")[0] for name in kept} == {"encoder"}
    trainee = _trainee(recipe.network, recipe.model, recipe.objective)
    trainee.network.load_state_dict(after)
    batch = draw_batch(data, seed=0, step=0, batch_size=2)
    x = (batch.images + 1) / 2
    chosen = []
    trainee.network.decoder.register_forward_pre_hook(lambda _, codes: chosen.append(codes[0]))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        trainee(batch)
    assert torch.equal(chosen[0], trainee.network.encoder.codes(x))  # not those of bfloat16
    with torch.no_grad():
        statistics = trainee.network.decoder(trainee.network.encoder(x).argmax(dim=1))
        expected = logit_laplace_nll(statistics, x).mean()
        torch.testing.assert_close(trainee(batch), expected)


def test_what_leaves_a_part_alone_starts_from_trained_weights(data, tmp_path):
    recipe = load_recipe("dalle-tiny-dvae", steps=1)
    exact = recipe.optimizer.model_copy(update={"precision": "no"})
    recipe = recipe.model_copy(update={"optimizer": exact})
    with pytest.raises(ConfigError, match=r"can't start from random weights\. Set start_from"):
        train(recipe.model_copy(update={"start_from": None}), data, tmp_path / "a", cpu=True)
    start = load_recipe("dalle-tiny-dvae-second")
    network = _trainee(start.network, start.model, start.objective).network
    saved = tmp_path / "start.safetensors"
    export_weights(saved, network, {"recipe": start.model_dump_json()})
    frozen = recipe.model_copy(update={"freeze": ["decoder"]})
    with pytest.raises(ConfigError, match="All of dalle-tiny-dvae is frozen"):
        train(frozen, data, tmp_path / "b", cpu=True, start=saved)


@pytest.mark.parametrize("name", ["dalle-tiny-dvae-first", "dalle-tiny-dvae-second"])
def test_every_training_of_the_discrete_vae_can_start_from_the_shipped_one(name):
    assert model_file("dalle:tiny", load_recipe(name)).name == "dalle-tiny-dvae.safetensors"


def test_only_a_transformer_that_learned_without_captions_is_guided_by_default(parts, tmp_path):
    def default(name, weights=None):
        return load_generator(name, weights=weights).spec.default_settings()[STAGE].guidance

    assert default("dalle:tiny-untrained") == default("dalle:tiny", parts) == 1.5
    recipe = load_recipe("dalle-tiny-transformer-second")
    beside = {"dvae": str(parts["dalle-tiny-dvae"])}
    trainee = _trainee(recipe.network, recipe.model, {**recipe.objective, **beside})
    older = tmp_path / "older.safetensors"
    stated = {"recipe": recipe.model_dump_json(), "trained_with": json.dumps(trainee.trained_with)}
    export_weights(older, trainee.network, stated)
    assert default("dalle:tiny", {**parts, "dalle-tiny-transformer": older}) == 1


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
    with pytest.raises(ConfigError, match=r"no sampler; it has: .*transformer\.top_k"):
        resolve_settings(generator.spec, sampler="ddim")
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
