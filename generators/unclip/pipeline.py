"""Sampling of image embeddings by unCLIP's priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from generators.diffusion.noise import draw_noise, image_rngs
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.stage_sampling import StageSampling
from generators.unclip.conditioning import CaptionReading
from generators.unclip.prior import DiffusionPrior

Draw = Callable[[Sequence[torch.Generator]], Tensor]
"""From one rng per image to one embedding per image."""


@torch.no_grad()
def sample_prior(
    network: DiffusionPrior,
    caption: CaptionReading,
    empty: CaptionReading,
    rngs: Sequence[torch.Generator],
    sampling: StageSampling,
) -> Float[Tensor, "batch embed_dim"]:
    """Sample image embeddings from noise.

    Args:
        network: The diffusion prior.
        caption: The batch's.
        empty: The empty caption's, of the batch's size: the unconditional half.
        rngs: One per image.
        sampling: How. The paper guides the decoder alone (section 4.1) and samples with
            Analytic-DPM; embeddings have no range, so a threshold in it is left out.

    Returns:
        Scaled embeddings.
    """
    size = network.config.embed_dim
    read = CaptionReading.cat(caption, empty) if sampling.is_guided else caption
    model = sampling.guided(lambda z_t, t: network(z_t, t, read), guided_channels=size)
    z_T = draw_noise(rngs, (size,), caption.states.device)
    return sampling.with_threshold(None).sample(model, z_T, rngs)


def prior_process(objective: Mapping[str, Any]) -> DiffusionProcess:
    """Build the process of the diffusion prior: it predicts z_0, its variance is fixed.

    Args:
        objective: A recipe's; its `schedule` counts.
    """
    return DiffusionProcess.from_objective(objective, prediction="x_0", variance="fixed_small")


def best_of(
    draw: Draw,
    text_embedding: Float[Tensor, "batch embed_dim"],
    seeds: Sequence[int],
    *,
    candidates: int,
    scale: float,
) -> Float[Tensor, "batch embed_dim"]:
    """Draw several embeddings per image and keep the one closest to the text embedding.

    The paper draws two (section 2.2). Candidate k of an image is the same for any number of them.

    Args:
        draw: A prior with all of its settings in it.
        text_embedding: CLIP's, of length 1.
        seeds: The images'.
        candidates: How many, at least 1.
        scale: Length of what is returned: on the sphere that the decoder knows.
    """
    drawn = [draw(image_rngs(seeds, f"prior {k}")) for k in range(candidates)]
    unit = F.normalize(torch.stack(drawn), dim=-1)  # (K, B, D)
    best = (unit * text_embedding).sum(dim=-1).argmax(dim=0)  # (B,)
    return scale * unit[best, torch.arange(len(best), device=best.device)]
