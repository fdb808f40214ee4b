"""Sampling of image embeddings by unCLIP's priors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from generators.diffusion.guidance import classifier_free
from generators.diffusion.noise import draw_noise, image_generators
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import process_for, sample
from generators.unclip.conditioning import CaptionReading
from generators.unclip.prior import DiffusionPrior

Draw = Callable[[Sequence[torch.Generator]], Tensor]
"""From one generator an image to one embedding an image."""


@torch.no_grad()
def sample_prior(
    network: DiffusionPrior,
    caption: CaptionReading,
    empty: CaptionReading,
    generators: Sequence[torch.Generator],
    *,
    process: DiffusionProcess,
    guidance_scale: float = 1.0,
    steps: int | str = 64,
    sampler: str = "dpm++2m",
) -> Float[Tensor, "batch embed_dim"]:
    """Draws image embeddings from noise.

    Args:
        network: The diffusion prior.
        caption: The batch's.
        empty: The empty caption's, of the batch's size: the unconditional half.
        generators: One an image.
        process: All timesteps of the network's training.
        guidance_scale: 1 is off. The paper guides the decoder alone (section 4.1).
        steps: Number of evaluations.
        sampler: Name of the sampler; the paper's is Analytic-DPM.

    Returns:
        Scaled embeddings.
    """
    size = network.config.embed_dim
    both = CaptionReading.cat(caption, empty)

    def guided(z_t: Tensor, t: Tensor) -> Tensor:
        return network(z_t, t, both)

    def plain(z_t: Tensor, t: Tensor) -> Tensor:
        return network(z_t, t, caption)

    on = guidance_scale != 1.0
    return sample(
        sampler,
        classifier_free(guided, guidance_scale, guided_channels=size) if on else plain,
        draw_noise(generators, (size,), caption.states.device),
        process_for(process, sampler, steps),
        generators,
        threshold=None,
    )


def best_of(
    draw: Draw,
    text_embedding: Float[Tensor, "batch embed_dim"],
    seeds: Sequence[int],
    *,
    candidates: int,
    scale: float,
) -> Float[Tensor, "batch embed_dim"]:
    """Draws several embeddings an image and keeps the one closest to the text embedding.

    The paper draws two (section 2.2). Candidate k of an image is the same whatever their number.

    Args:
        draw: A prior with all of its settings in it.
        text_embedding: CLIP's, of length 1.
        seeds: The images'.
        candidates: How many, at least 1.
        scale: Length of what is returned: on the sphere that the decoder knows.
    """
    drawn = [draw(image_generators(seeds, f"prior {k}")) for k in range(candidates)]
    unit = F.normalize(torch.stack(drawn), dim=-1)  # (K, B, D)
    best = (unit * text_embedding).sum(dim=-1).argmax(dim=0)  # (B,)
    return scale * unit[best, torch.arange(len(best), device=best.device)]
