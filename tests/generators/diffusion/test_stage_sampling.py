"""What a stage's settings say is what its sampling does."""

from __future__ import annotations

import pytest
import torch

from evalkit.core.errors import ConfigError
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.stage_sampling import StageSampling
from generators.diffusion.thresholding import static_threshold
from generators.settings import StageSettings

PROCESS = DiffusionProcess.from_schedule("cosine", variance="fixed_small")


def test_settings_become_a_sampling() -> None:
    options = {"eta": 0.5, "threshold": "dynamic", "percentile": 0.5}
    settings = StageSettings(steps=7, sampler="ddim", guidance=2.0, options=options)
    sampling = StageSampling.chosen(PROCESS, settings)
    assert (sampling.steps, sampling.sampler, sampling.guidance_scale) == (7, "ddim", 2.0)
    assert sampling.options.eta == 0.5
    assert sampling.options.threshold is not None
    x_0 = torch.tensor([[0.5, -2.0, 4.0]])
    assert sampling.options.threshold(x_0).tolist() == [[0.25, -1.0, 1.0]]


def test_a_stage_without_options_clips() -> None:
    sampling = StageSampling.chosen(PROCESS, StageSettings(steps=7, sampler="ddim"))
    assert sampling.options.threshold is static_threshold
    assert sampling.options.eta == 0


@pytest.mark.parametrize("settings", [StageSettings(steps=7), StageSettings(sampler="ddim")])
def test_a_stage_that_does_not_diffuse_is_refused(settings: StageSettings) -> None:
    with pytest.raises(ConfigError, match="needs a sampler and steps"):
        StageSampling.chosen(PROCESS, settings)


@pytest.mark.parametrize(
    ("scale", "is_guided", "expected"), [(None, False, 5.0), (1.0, False, 5.0), (3.0, True, 13.0)]
)
def test_guidance(scale: float | None, is_guided: bool, expected: float) -> None:
    """eps_c 5 and eps_u 1 at s = 3: 1 + 3 * 4 = 13; without guidance the model is left alone."""
    sampling = StageSampling(process=PROCESS, sampler="ddim", steps=2, guidance_scale=scale)
    assert sampling.is_guided == is_guided

    def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        half = torch.arange(len(x)) < 1
        return torch.where(half, 5.0, 1.0).reshape(-1, 1).expand(-1, 3)

    out = sampling.guided(network)(torch.zeros(1, 3), torch.zeros(1))
    assert out.tolist() == [[expected] * 3]


def test_another_threshold_changes_nothing_else() -> None:
    sampling = StageSampling.chosen(
        PROCESS, StageSettings(steps=7, sampler="ddim", options={"eta": 0.5})
    )
    other = sampling.with_threshold(None)
    assert other.options.threshold is None
    assert (other.options.eta, other.steps) == (0.5, 7)
