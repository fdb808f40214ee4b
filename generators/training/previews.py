"""How a network in training is sampled for its grids: 25 steps of DDIM, at one guidance scale."""

from __future__ import annotations

from generators.diffusion.process import DiffusionProcess
from generators.diffusion.stage_sampling import StageSampling

STEPS = 25
GUIDANCE_SCALE = 3.0


def preview(process: DiffusionProcess, *, guided: bool = False) -> StageSampling:
    """Return the sampling of a preview.

    Args:
        process: Of the training.
        guided: Whether captions were dropped in training, so that guidance works.
    """
    scale = GUIDANCE_SCALE if guided else None
    return StageSampling(process=process, sampler="ddim", steps=STEPS, guidance_scale=scale)
