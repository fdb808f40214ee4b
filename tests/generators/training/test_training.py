"""Training: a killed run goes on as if nothing had happened, and every setting matters."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from evalkit.commands.train import _wanted, shapes_training_set
from evalkit.core.errors import ConfigError, MissingWeightsError, UnknownNameError, WeightsError
from evalkit.core.registry import load
from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.scene import KIND_WEIGHTS, sample_scene
from generators.dalle.training import DVAETraining
from generators.imagen.training import ImagenBaseTraining, ImagenUpsamplerTraining
from generators.pixels import shrink
from generators.recipes import recipe as recipe_module
from generators.recipes.catalog import RECIPES
from generators.recipes.needs import needs_of
from generators.recipes.recipe import Recipe, list_recipes, load_recipe
from generators.training import loop
from generators.training.checkpoint import export_weights
from generators.training.data import Batch, TrainingSet, draw_batch
from generators.training.draws import Draws
from generators.training.looks import Looks
from generators.training.loop import Progress, begin_with, learning_rate, train
from generators.training.networks import NETWORKS
from generators.training.steps import Timesteps, random_crops
from generators.weights.quantised import quantise
from generators.weights.zoo import trained_state, zoo_weights

STEPS = 6


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return shapes_training_set(seed=0, num_images=24)


@pytest.fixture(scope="module")
def singles() -> TrainingSet:
    return shapes_training_set(seed=0, num_images=24, kinds={"single": 1.0})


def tiny(name: str, **changes: object) -> Recipe:
    """A shipped recipe with a batch that a test can afford."""
    recipe = load_recipe(name, steps=STEPS)
    smaller = {"batch_size": 4, "warmup_steps": 1, "precision": "no", **changes}
    optimizer = recipe.optimizer.model_copy(update=smaller)
    model = dict(recipe.model)
    if "num_components" in model:
        model["num_components"] = 16  # 24 images have no more principal components than 23
    return recipe.model_copy(update={"optimizer": optimizer, "model": model})


def untrained_dvae(folder: Path) -> Path:
    """A file as `evalkit train dalle-tiny-dvae` would leave it after no step at all."""
    recipe = load_recipe("dalle-tiny-dvae")
    network = load(NETWORKS[recipe.network])(recipe.model, recipe.objective).network
    path = folder / "dvae.safetensors"
    export_weights(path, network, {"recipe": recipe.model_dump_json()})
    return path


def test_every_shipped_recipe_reads_and_names_a_network() -> None:
    recipes = [load_recipe(name) for name in list_recipes()]
    assert {"glide-tiny-base", "glide-tiny-upsampler", "clip-tiny", "clip-tiny-judge"} <= {
        recipe.name for recipe in recipes
    }
    assert all(recipe.network in NETWORKS for recipe in recipes)
    assert all(recipe.data.split == "train" for recipe in recipes)


@pytest.mark.parametrize(
    "name",
    [
        "glide-tiny-base-first",
        "glide-tiny-upsampler-first",
        "clip-tiny-first",
        "unclip-tiny-prior-ar",
        "imagen-tiny-t5-first",
        "ddpm-tiny-class",
        "dalle-tiny-dvae-first",
    ],
)
def test_an_interrupted_run_ends_with_the_same_weights(
    name: str, singles: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    recipe, data = tiny(name), singles
    whole = load_file(train(recipe, data, tmp_path / "whole", cpu=True))

    class Killed(Exception):
        pass

    def die(progress: Progress) -> None:
        if progress.step == 4:
            raise Killed

    with pytest.raises(Killed):
        train(recipe, data, tmp_path / "cut", cpu=True, report=die)
    path = train(recipe, data, tmp_path / "cut", cpu=True)
    resumed = load_file(path)
    with safe_open(path, framework="pt") as handle:
        assert ("began_with" in handle.metadata()) == (recipe.start_from is not None)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_training_lowers_the_loss(data: TrainingSet, tmp_path: Path) -> None:
    recipe = tiny("clip-tiny-first", learning_rate=3e-3, batch_size=12)
    longer = recipe.optimizer.model_copy(update={"steps": 40})
    losses: list[float] = []
    train(
        recipe.model_copy(update={"optimizer": longer}),
        data,
        tmp_path,
        cpu=True,
        report=lambda p: losses.append(p.loss),
    )
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


@pytest.fixture(scope="module")
def text_encoder(data: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text encoder that Imagen's networks can be trained beside."""
    recipe = tiny("imagen-tiny-t5-first", steps=1)
    return train(recipe, data, tmp_path_factory.mktemp("t5"), cpu=True)


@pytest.mark.parametrize("name", [*NETWORKS, "ddpm-tiny-class"])
def test_gradients_reach_every_parameter(
    name: str, singles: TrainingSet, text_encoder: Path, tmp_path: Path
) -> None:
    recipes = [r for r in map(load_recipe, list_recipes()) if r.data.is_shapes]
    recipe = next(r for r in recipes if name in (r.network, r.name))
    beside: dict[str, object] = {}
    if "text_dropout" in recipe.objective:
        beside = {"text_encoder": str(text_encoder)}
    if "embedding_dropout" in recipe.objective:  # of four images one has to be left out
        beside = {"embedding_dropout": 0.5}
    if "dvae" in recipe.objective:
        beside = {"dvae": str(untrained_dvae(tmp_path))}
    trainee = load(NETWORKS[recipe.network])(recipe.model, {**recipe.objective, **beside})
    rng = torch.Generator().manual_seed(0)
    for parameter in trainee.parameters():
        torch.nn.init.normal_(parameter, std=0.05, generator=rng)
    trainee(draw_batch(singles, seed=0, step=0, batch_size=8)).backward()
    learning = {key: p.grad for key, p in trainee.named_parameters() if p.requires_grad}
    frozen = ("encoder.",) if name == "dalle-dvae-decoding" else ()
    named = [key for key, _ in trainee.network.named_parameters() if not key.startswith(frozen)]
    assert {f"network.{key}" for key in named} == set(learning)
    without = [key for key, grad in learning.items() if grad is None or not grad.any()]
    # a shift of all keys alike cancels in the softmax
    assert [key for key in without if "qkv_proj.bias" not in key] == []


@pytest.mark.parametrize("name", ["ddpm-tiny-class", "ddpm-tiny-classifier"])
def test_classes_are_learned_from_images_that_have_one(
    name: str, data: TrainingSet, singles: TrainingSet
) -> None:
    assert set(singles.labels) <= set(range(7))
    assert (data.labels == -1).any()
    recipe = load_recipe(name)
    trainee = load(NETWORKS[recipe.network])(recipe.model, recipe.objective)
    with pytest.raises(ConfigError, match=r"Set data\.kinds to \{single = 1\.0\}"):
        trainee.prepare(data)
    assert recipe.data.kinds == {"single": 1.0}


def test_kinds_of_scenes_come_in_the_shares_asked_for() -> None:
    shares = {"relation": 0.5, "several": 0.2, "count": 0.3, "single": 0.0}
    data = shapes_training_set(seed=0, num_images=10, kinds=shares)
    places = list(_wanted(0, 10, shares))
    scenes = [sample_scene(0, "train", index) for index in places]
    assert Counter(scene.kind for scene in scenes) == {"relation": 5, "several": 2, "count": 3}
    assert places == sorted(places)
    assert data.images[-1].tobytes() == render(0, "train", places[-1])[0].tobytes()
    assert list(_wanted(0, 3, {})) == [0, 1, 2]


def test_recipes_know_the_kinds_that_there_are() -> None:
    assert set(get_args(recipe_module.SceneKind)) == set(KIND_WEIGHTS)


@pytest.mark.parametrize("kinds", ["{single = 0.5}", "{single = 1.5, count = -0.5}", "{one = 1}"])
def test_shares_that_make_no_whole_are_refused(tmp_path: Path, kinds: str) -> None:
    text = RECIPES["ddpm-tiny-class"].path().read_text()
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace("{single = 1.0}", kinds))
    with pytest.raises(ConfigError, match=r"data\.kinds"):
        load_recipe(str(path))


def test_a_step_sees_the_same_whatever_came_before(data: TrainingSet) -> None:
    one, again = (draw_batch(data, seed=3, step=7, batch_size=8) for _ in range(2))
    other = draw_batch(data, seed=3, step=8, batch_size=8)
    assert torch.equal(one.images, again.images)
    assert one.captions == again.captions
    assert torch.equal(one.draws.randn(4), again.draws.randn(4))
    assert not torch.equal(one.images, other.images)


def test_processes_share_one_batch(data: TrainingSet) -> None:
    whole = draw_batch(data, seed=0, step=0, batch_size=8)
    parts = [draw_batch(data, seed=0, step=0, batch_size=8, part=p, num_parts=4) for p in range(4)]
    assert torch.equal(whole.images, torch.cat([part.images for part in parts]))
    noise = whole.draws.randn(4)
    assert torch.equal(noise, torch.cat([part.draws.randn(4) for part in parts]))
    assert len({row.numpy().tobytes() for row in noise}) == 8


def test_nothing_of_the_validation_split_is_trained_on() -> None:
    trained = {image.tobytes() for image in shapes_training_set(seed=0, num_images=200).images}
    assert not any(render(0, "val", index)[0].tobytes() in trained for index in range(200))


def test_a_recipe_begins_with_another_ones_weights(data: TrainingSet, tmp_path: Path) -> None:
    """With a learning rate of nothing, what comes out is what went in."""
    first = tiny("glide-tiny-base-first").model_copy(update={"name": "mine", "stored_as": "fp16"})
    second = tiny("glide-tiny-base-first", learning_rate=1e-12).model_copy(
        update={"start_from": first.name, "stored_as": "fp16"}
    )
    with pytest.raises(MissingWeightsError, match=f"evalkit train {second.start_from}"):
        train(second, data, tmp_path / second.name, cpu=True)
    start = train(first, data, tmp_path / str(second.start_from), cpu=True)
    found = train(second, data, tmp_path / second.name, cpu=True)
    given = train(second, data, tmp_path / "a" / "b", cpu=True, start=start)
    small = tmp_path / "small.safetensors"
    save_file(quantise(load_file(start)), small)
    from_small = train(second, data, tmp_path / "c" / "d", cpu=True, start=small)
    for before, after in ((start, found), (start, given), (small, from_small)):
        known, made = trained_state(before), load_file(after)
        assert all(torch.allclose(known[k].half(), made[k], atol=1e-6) for k in known)


def test_weights_to_begin_with_must_be_wanted_and_fit(data: TrainingSet, tmp_path: Path) -> None:
    weights = train(tiny("clip-tiny-first"), data, tmp_path / "clip", cpu=True)
    with pytest.raises(ConfigError, match="starts from random weights"):
        train(tiny("clip-tiny-first"), data, tmp_path / "other", cpu=True, start=weights)
    other = tiny("glide-tiny-base-first").model_copy(update={"start_from": "clip-tiny"})
    with pytest.raises(WeightsError, match="holds a network of the kind clip"):
        train(other, data, tmp_path / "up", cpu=True, start=weights)
    with pytest.raises(WeightsError, match="shares no weights"):
        train(tiny("ddpm-tiny"), data, tmp_path / "ddpm", cpu=True, start=weights)


def test_a_network_begins_with_what_it_shares_with_another(tmp_path: Path) -> None:
    recipe = load_recipe("ddpm-tiny-class")
    network = load(NETWORKS[recipe.network])(recipe.model, recipe.objective).network
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    began = begin_with(network, recipe, None, tmp_path)
    glide = zoo_weights("glide-tiny-base").state_dict
    own = {name for name in before if name not in glide}
    assert own == {"label_emb.weight"}
    assert began is not None
    assert (began["file"], began["random"]) == ("glide-tiny-base.safetensors", sorted(own))
    assert began["sha256"] == zoo_weights("glide-tiny-base").sha256
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name in own else glide[name])


def test_timesteps_with_a_focus() -> None:
    """Four of five near the focus, the fifth anywhere; without a focus all are drawn evenly."""
    dice = Draws.seeded(range(20_000))
    even = Timesteps().draw(1000, dice)
    focused = Timesteps([0.0, 0.2]).draw(1000, dice)
    assert even.float().mean() == pytest.approx(499.5, abs=10)
    near = ((focused - 500).abs() < 150).float().mean()  # three deviations: 0.2 / 4 of the way
    assert near == pytest.approx(0.8 + 0.2 * 0.3, abs=0.01)
    assert (focused < 50).any()
    assert (focused >= 950).any()
    late = Timesteps([1.0, 0.2]).draw(1000, dice)
    assert late.float().median() > 650


def test_the_learning_rate_warms_up_and_decays() -> None:
    recipe = load_recipe("glide-tiny-base")
    peak = recipe.optimizer.learning_rate
    rates = [learning_rate(recipe, step) for step in range(recipe.optimizer.steps)]
    assert max(rates) == pytest.approx(peak)
    assert rates[0] < 0.02 * peak
    assert rates[-1] < 1e-4 * peak


def test_the_residual_of_an_upsampler_is_learned_from_what_it_sees(text_encoder: Path) -> None:
    """A flat image lacks nothing at any scale, unless noise is to be removed; another one does."""
    recipe = load_recipe("imagen-tiny-sr1")

    def loss(
        images: torch.Tensor, scale: float | None, most_noise: float = 1e-9, power: float = 1.0
    ) -> float:
        beside = {"residual_scale": scale, "text_encoder": str(text_encoder)}
        levels = {"most_noise": most_noise, "level_power": power}
        objective = {**recipe.objective, **beside, **levels}
        torch.manual_seed(0)
        trainee = ImagenUpsamplerTraining(recipe.model, objective)
        batch = Batch(images, ["a red circle"] * 2, torch.full((2,), -1), 0, Draws.seeded([1, 2]))
        with torch.no_grad():
            return float(trainee(batch))

    flat = torch.ones(2, 3, 64, 64)  # one of the 256 levels
    drawn = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert loss(flat, 3.0) == pytest.approx(loss(flat, 300.0), rel=1e-4)
    assert loss(flat, 3.0, 0.5) != pytest.approx(loss(flat, 3.0), rel=1e-2)
    assert loss(flat, 3.0, 0.5, 1e3) == pytest.approx(loss(flat, 3.0), rel=1e-4)
    assert loss(drawn, 300.0) > 10 * loss(drawn, 3.0)
    assert loss(drawn, None) != pytest.approx(loss(drawn, 3.0), rel=1e-3)


def test_the_pull_of_imagens_teacher_falls_to_nothing(text_encoder: Path) -> None:
    recipe = load_recipe("imagen-tiny-base-first")

    def loss(step: int, **changes: object) -> float:
        objective = {**recipe.objective, "text_encoder": str(text_encoder), **changes}
        torch.manual_seed(0)
        trainee = ImagenBaseTraining(recipe.model, objective)
        images = torch.zeros(2, 3, 64, 64)
        batch = Batch(images, ["a red ring"] * 2, torch.zeros(2), step, Draws.seeded([1, 2]))
        with torch.no_grad():
            return float(trainee(batch))

    steps = int(recipe.objective["teacher_steps"])
    start, half, end = (loss(step) for step in (0, steps // 2, steps))
    assert start - end == pytest.approx(2 * (half - end), rel=1e-3)
    assert start > end + 0.5
    assert end == pytest.approx(loss(0, teacher=None))


@pytest.mark.parametrize(
    "name",
    [
        "glide-tiny-base", "glide-tiny-upsampler", "ddpm-tiny", "unclip-tiny-decoder",
        "unclip-tiny-sr1", "imagen-tiny-base", "imagen-tiny-sr2", "dalle-tiny-dvae",
        "dalle-tiny-dvae-second", "dalle-tiny-transformer",
    ],
)  # fmt: skip
def test_whatever_makes_images_is_looked_at(name: str, data: TrainingSet, tmp_path: Path) -> None:
    recipe = tiny(name)
    start = untrained_dvae(tmp_path) if needs_of(recipe.network).start else None
    if start is None:
        recipe = recipe.model_copy(update={"start_from": None, "start_partly": False})
    if name == "dalle-tiny-transformer":
        objective = {**recipe.objective, "dvae": str(untrained_dvae(tmp_path))}
        recipe = recipe.model_copy(update={"objective": objective})
    optimizer = recipe.optimizer.model_copy(update={"steps": 1})
    recipe = recipe.model_copy(update={"optimizer": optimizer})
    train(recipe, data, tmp_path / "run", cpu=True, looks=Looks(every=1), start=start)
    with Image.open(tmp_path / "run" / "samples" / "0000001.png") as grid:
        pixels = np.asarray(grid)
    made = pixels[len(pixels) // 2 :]
    assert pixels.shape == (2 * (64 + 2), 8 * (64 + 2), 3)
    assert made[4:-4, 4:60].std() > 1


def test_the_recipe_of_the_discrete_vae_spreads_its_codes(data: TrainingSet) -> None:
    recipe = load_recipe("dalle-tiny-dvae-first")

    def begun(**changes: float) -> tuple[int, float]:
        torch.manual_seed(0)
        trainee = DVAETraining(recipe.model, {**recipe.objective, **changes})
        trainee.prepare(data)
        batch = draw_batch(data, seed=0, step=0, batch_size=4)
        with torch.no_grad():
            used = trainee.network.encoder.codes((batch.images + 1) / 2).unique().numel()
            return used, float(trainee(batch))

    used, loss = begun()
    assert used > 5 * begun(logit_deviation=0.0)[0]
    assert loss > begun(usage_weight=0.0)[1] + 0.01


def test_crops_keep_low_resolution_pixels_whole() -> None:
    images = torch.arange(64.0).expand(1, 3, 64, 64).contiguous()
    crops = random_crops(images, 32, 4, Draws.seeded([0]))
    assert crops.shape == (1, 3, 32, 32)
    assert crops[0, 0, 0, 0] % 4 == 0
    assert torch.equal(shrink(crops, 8)[0, 0, 0], crops[0, 0, 0].view(8, 4).mean(1))


def test_a_checkpoint_of_another_recipe_is_refused(data: TrainingSet, tmp_path: Path) -> None:
    train(tiny("clip-tiny-first"), data, tmp_path, cpu=True)
    with pytest.raises(WeightsError, match="another recipe"):
        train(tiny("clip-tiny-first", learning_rate=1e-5), data, tmp_path, cpu=True)


def test_a_damaged_checkpoint_is_refused(data: TrainingSet, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"half")
    with pytest.raises(WeightsError, match="not a training checkpoint"):
        train(tiny("clip-tiny-first"), data, tmp_path, cpu=True)


def test_the_weights_say_how_they_were_made(data: TrainingSet, tmp_path: Path) -> None:
    recipe = tiny("clip-tiny-first")
    with safe_open(train(recipe, data, tmp_path, cpu=True), framework="pt") as handle:
        assert Recipe(**json.loads(handle.metadata()["recipe"])) == recipe
        assert all(handle.get_tensor(k).dtype == torch.float16 for k in handle.keys())  # noqa: SIM118


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name = ", "not TOML"),
        ('name = "x"', "network"),
        ('name = "x"\nsurprise = 1', "surprise"),
        ('[data]\nsplit = "val"', "split"),
    ],
)
def test_a_broken_recipe_names_the_key(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load_recipe(str(path))


def test_an_unknown_recipe_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'clip-tiny'"):
        load_recipe("clip-tinny")
