"""CLIP guidance that a base learns to give without a CLIP."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evalkit.core.errors import ConfigError
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import SamplerOptions, sample_ddim
from generators.imagen.teachers import ClipTeacher
from generators.imagen.text import tiny_tokens
from generators.imagen.training import ImagenBaseTraining, TaughtT5Training
from generators.recipes.objectives import check_objective
from generators.recipes.recipe import load_recipe
from generators.tokenizer import tiny_tokenizer
from generators.training.data import Batch, TrainingSet
from generators.training.draws import Draws
from generators.training.loop import train
from generators.training.things import ThingsTold

CAPTIONS = ["a red ring left of a blue star", "A pink heart."]
TEACHER = ClipTeacher("clip-tiny-noised", "cosine")
RECIPE = load_recipe("imagen-tiny-base")


def seeded(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("t", [100, 700, 950])
def test_a_shifted_prediction_steps_where_guidance_steps(t: int):
    """A last step of DDIM from any t, with guidance or with what the network is to predict."""
    whole = DiffusionProcess.from_objective({"schedule": "cosine"}, variance="fixed_small")
    process = whole.respaced([0, t])
    x, noise = seeded(1, 2, 3, 16, 16), 0.9 * seeded(2, 2, 3, 16, 16)
    steps = torch.full((2,), t)
    shift = TEACHER.shift(CAPTIONS, x, steps, whole, 5.0)
    gradient = TEACHER.clip.gradient(CAPTIONS, 5.0, "cpu")

    def stepped(eps: torch.Tensor, **options: Any) -> torch.Tensor:
        seen: list[torch.Tensor] = []

        def network(x_t: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            seen.append(x_t)
            return eps

        sample_ddim(network, x, process, options=SamplerOptions(threshold=None, **options))
        return seen[1]

    guided = stepped(noise, gradient=gradient)
    torch.testing.assert_close(stepped(noise - shift), guided, rtol=1e-4, atol=1e-4)
    assert (stepped(noise) - guided).abs().max() > 1e-2


def loss(network: Any = None, seeds: tuple[int, int] = (1, 2), **changes: Any) -> float:
    objective = {**RECIPE.objective, "text_dropout": 0.0, **changes}
    torch.manual_seed(0)
    trainee = ImagenBaseTraining(RECIPE.model, objective)
    if network is not None:
        trainee.network.forward = network  # type: ignore[method-assign]
    images = torch.zeros(2, 3, 64, 64)
    with torch.no_grad():
        return float(trainee(Batch(images, CAPTIONS, torch.zeros(2), 0, Draws.seeded(seeds))))


def test_the_loss_is_nought_for_the_guided_noise():
    """Images are grey, so the noisy image is the noise but for its scale."""
    process = DiffusionProcess.from_objective(RECIPE.objective, variance="fixed_small")

    def guided(x_t: torch.Tensor, t: torch.Tensor, text: object) -> torch.Tensor:
        sigma = torch.from_numpy(1 - process.alpha_bar).sqrt().float()[t][:, None, None, None]
        return x_t / sigma - TEACHER.shift(CAPTIONS, x_t, t, process, 6.0)

    assert loss(guided, clip_guidance=6.0) < 1e-6
    assert loss(guided, clip_guidance=3.0) > 1e-3


def test_captions_that_are_left_out_are_not_guided():
    plain = {"clip": None, "clip_guidance": None}
    assert loss(text_dropout=1.0) == loss(text_dropout=1.0, **plain)
    assert loss() != pytest.approx(loss(**plain), rel=1e-3)


@pytest.mark.parametrize("which", [[True, False], [False, True]])
def test_each_caption_is_guided_for_itself(which: list[bool]):
    seed = next(
        seed
        for seed in range(100)
        if (Draws.seeded([seed, seed + 1]).rand() >= 0.5).tolist() == which
    )
    process = DiffusionProcess.from_objective(RECIPE.objective, variance="fixed_small")

    def guided(x_t: torch.Tensor, t: torch.Tensor, text: object) -> torch.Tensor:
        sigma = torch.from_numpy(1 - process.alpha_bar).sqrt().float()[t][:, None, None, None]
        shift = TEACHER.shift(CAPTIONS, x_t, t, process, 4.0)
        return x_t / sigma - shift * torch.tensor(which)[:, None, None, None]

    assert loss(guided, seeds=(seed, seed + 1), text_dropout=0.5, clip_guidance=4.0) < 1e-6


def test_a_clip_needs_a_scale_and_the_other_way_round():
    for name in ("clip", "clip_guidance"):
        objective = {k: v for k, v in RECIPE.objective.items() if k != name}
        with pytest.raises(ValueError, match="clip and clip_guidance belong together"):
            check_objective(RECIPE.network, objective)


def test_a_taught_text_encoder_is_told_the_things_as_well():
    recipe = load_recipe("imagen-tiny-t5")
    torch.manual_seed(0)
    trainee = TaughtT5Training(recipe.model, recipe.objective)
    batch = Batch(torch.zeros(2, 3, 64, 64), CAPTIONS, torch.zeros(2), 0, Draws.seeded([1, 2]))
    tokens = tiny_tokens(CAPTIONS)
    with torch.no_grad():
        read = trainee.network(input_ids=tokens.ids, attention_mask=tokens.mask.long())
        things = ThingsTold(*recipe.objective["bound"], 128, tiny_tokenizer())
        told = things(read.last_hidden_state.transpose(1, 2), CAPTIONS)
        whole = trainee(batch)
        trainee.things = None
        assert float(whole - trainee(batch)) == pytest.approx(0.3 * float(told), rel=1e-4)
    assert told > 1


def test_the_end_token_is_told_nothing():
    """A longer caption is cut, and the end token stands where its next word would."""
    recipe = load_recipe("imagen-tiny-t5")
    trainee = TaughtT5Training(recipe.model, recipe.objective)
    seen: list[torch.Size] = []
    assert trainee.things is not None
    trainee.things.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape))
    with torch.no_grad():
        trainee(Batch(torch.zeros(2, 3, 64, 64), CAPTIONS, torch.zeros(2), 0, Draws.seeded([1, 2])))
    assert seen == [torch.Size([2, 128, tiny_tokens(CAPTIONS).ids.shape[1] - 1])]


def test_two_heads_of_every_layer_begin_with_their_neighbours():
    recipe = load_recipe("imagen-tiny-t5")
    trainee = TaughtT5Training(recipe.model, {**recipe.objective, "neighbours": 200.0})
    ids = torch.randint(400, (2, 9), generator=torch.Generator().manual_seed(1))

    def looks() -> list[torch.Tensor]:
        with torch.no_grad():
            return list(trainee.network(input_ids=ids, output_attentions=True).attentions)

    before = looks()
    trainee.begin()
    middle = torch.arange(1, 8)
    for old, new in zip(before, looks(), strict=True):
        assert (new[:, 0, middle, middle - 1] > 0.99).all()
        assert (new[:, 1, middle, middle + 1] > 0.99).all()
        assert (old[:, :2].amax(dim=-1) < 0.9).all()


def test_a_training_begins_after_its_weights_were_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The weights that a training starts from would undo what was done before."""
    recipe = load_recipe("imagen-tiny-t5")
    optimizer = recipe.optimizer.model_copy(update={"steps": 1, "batch_size": 1})
    first = recipe.model_copy(update={"start_from": None, "optimizer": optimizer})
    data = TrainingSet(np.zeros((1, 64, 64, 3), np.uint8), [["a ring"]], np.zeros(1, np.int64))
    start = train(first, data, tmp_path / "first", cpu=True)
    seen: list[float] = []

    def begin(trainee: TaughtT5Training) -> None:
        bias = trainee.network.block[0].layer[0].SelfAttention.relative_attention_bias
        seen.append(float(bias.weight[1, 0].detach()))

    monkeypatch.setattr(TaughtT5Training, "begin", begin)
    second = recipe.model_copy(update={"optimizer": optimizer})
    train(second, data, tmp_path / "second", cpu=True, start=start)
    name = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert seen == [pytest.approx(float(load_file(start)[name][1, 0]), abs=1e-3)]
    assert seen[0] > 4  # the first training's neighbours


def test_a_clip_of_another_schedule_is_refused():
    with pytest.raises(ConfigError, match="knows the noise of schedule 'cosine'"):
        ClipTeacher("clip-tiny-noised", "linear")


def test_a_clip_changes_eps_alone():
    with pytest.raises(ValueError, match="set prediction to 'eps'"):
        check_objective(RECIPE.network, {**RECIPE.objective, "prediction": "v"})


def test_one_head_has_no_two_neighbours():
    recipe = load_recipe("imagen-tiny-t5")
    model = {**recipe.model, "num_heads": 1}
    with pytest.raises(ConfigError, match=r"model\.num_heads"):
        TaughtT5Training(model, recipe.objective)
    TaughtT5Training(model, {**recipe.objective, "neighbours": 0.0}).begin()
