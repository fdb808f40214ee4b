"""Sampling from one network of Imagen's cascade."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from generators.diffusion.noise import draw_noise
from generators.diffusion.samplers import Rngs
from generators.diffusion.stage_sampling import StageSampling
from generators.glide.model import TextStates
from generators.glide.residual import from_residual, residual_threshold
from generators.imagen.augmentation import augmented, residual_scale_at, trusted
from generators.imagen.model import ImagenBase, ImagenUpsampler

States = Float[Tensor, "batch length width"]
"""The text encoder's."""


@torch.no_grad()
def sample_base(
    network: ImagenBase, states: States, rngs: Rngs, sampling: StageSampling
) -> Float[Tensor, "batch 3 size size"]:
    """Sample the small images.

    Args:
        network: The base.
        states: The text encoder's, zero on padding.
        rngs: One per image.
        sampling: How.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    text = _text(network, states, guided=sampling.is_guided)
    model = sampling.guided(lambda x_t, t: network(x_t, t, text))
    x_T = draw_noise(rngs, (3, *[network.config.image_size] * 2), states.device)
    return sampling.sample(model, x_T, rngs)


@torch.no_grad()
def sample_upsampler(
    network: ImagenUpsampler,
    low_res: Float[Tensor, "batch 3 low_size low_size"],
    states: States,
    rngs: Rngs,
    sampling: StageSampling,
    *,
    aug_level: float,
    residual_scale: float | None = None,
) -> Float[Tensor, "batch 3 size size"]:
    """Upsample images.

    Args:
        network: The upsampler.
        low_res: Images in [-1, 1] of the stage before.
        states: The text encoder's, zero on padding.
        rngs: One per image; they draw the augmentation's noise first.
        sampling: How.
        aug_level: Of the noise on the low-resolution images, in [0, 1].
        residual_scale: Of a network that makes only what the enlarged image lacks.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    text = _text(network, states, guided=sampling.is_guided)
    level = torch.full((len(states),), aug_level, device=states.device)
    disturbance = draw_noise(rngs, low_res.shape[1:], states.device)
    seen = augmented(low_res.clamp(-1, 1), level, disturbance)
    known = trusted(seen, level)
    scale = None if residual_scale is None else residual_scale_at(residual_scale, level)
    if scale is not None:
        of_image = sampling.options.threshold or (lambda image: image)
        threshold = residual_threshold(known, scale, of_image)
        sampling = sampling.with_threshold(threshold)
    halves = 2 if sampling.is_guided else 1
    both, levels = torch.cat([seen] * halves), torch.cat([level] * halves)
    model = sampling.guided(lambda x_t, t: network(x_t, t, text, low_res=both, aug_level=levels))
    x_T = draw_noise(rngs, (3, *[network.config.image_size] * 2), states.device)
    made = sampling.sample(model, x_T, rngs)
    return made if scale is None else from_residual(made, known, scale)


def _text(network: ImagenBase | ImagenUpsampler, states: Tensor, *, guided: bool) -> TextStates:
    """Read the captions; for guidance, append an unconditional half of zeros."""
    return network.read_text(torch.cat([states, torch.zeros_like(states)]) if guided else states)
