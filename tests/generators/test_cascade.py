"""What the systems share: prompts of a batch, samples of captions, a stage of a recipe."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from generators.base import GeneratorSpec, Request
from generators.cascade import Stage, captioned_samples, prompts_of
from generators.diffusion.process import DiffusionProcess
from generators.errors import UnsupportedRequestError

SPEC = GeneratorSpec(
    name="x:y", display_name="X", conditioning="text", stages=(), size_px=1, training_data=(),
    weights="none", weights_sha256="none",
)  # fmt: skip


def test_every_request_needs_a_prompt_and_an_empty_one_is_one() -> None:
    assert prompts_of(SPEC, [Request(prompt="a"), Request(prompt="")]) == ["a", ""]
    with pytest.raises(UnsupportedRequestError, match="x:y needs a prompt in every request"):
        prompts_of(SPEC, [Request(prompt="a"), Request(label=1)])


def test_samples_are_uint8_and_cut_captions_are_noted() -> None:
    images = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 3, 1, 1)
    whole, cut = captioned_samples(images, (False, True))
    assert whole.image is not None
    assert cut.image is not None
    assert (whole.image.max(), cut.image.min()) == (0, 255)
    assert (whole.notes, cut.notes) == ((), ("caption truncated",))


def test_a_stage_is_what_its_recipes_objective_says() -> None:
    network = nn.Linear(1, 1)
    objective = {"schedule": "cosine", "prediction": "v", "residual_scale": 3.0, "other": 1}
    stage = Stage.from_objective(network, objective, variance="fixed_small")
    assert stage.residual_scale == 3.0
    assert (stage.process.prediction, stage.process.variance) == ("v", "fixed_small")
    assert not stage.network.training
    assert stage.on("cpu").process is stage.process


def test_the_process_of_an_objective() -> None:
    plain = DiffusionProcess.from_objective({"schedule": "linear"})
    assert (plain.prediction, plain.variance, plain.num_steps) == ("eps", "learned_range", 1000)
    assert (plain.betas == DiffusionProcess.from_schedule("linear").betas).all()
    fixed = DiffusionProcess.from_objective(
        {"schedule": "cosine", "prediction": "v"}, prediction="x_0"
    )
    assert fixed.prediction == "x_0"
    assert (fixed.betas != plain.betas).any()
