"""Sampling from one network of Imagen's cascade."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from generators.diffusion.guidance import Denoiser, classifier_free
from generators.diffusion.noise import draw_noise
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import process_for, sample
from generators.diffusion.thresholding import Threshold
from generators.glide.model import TextStates
from generators.glide.residual import from_residual, residual_threshold
from generators.imagen.augmentation import augmented
from generators.imagen.model import ImagenBase, ImagenUpsampler


@torch.no_grad()
def sample_base(
    network: ImagenBase,
    states: Float[Tensor, "batch length width"],
    generators: Sequence[torch.Generator],
    *,
    process: DiffusionProcess,
    guidance_scale: float,
    steps: int | str,
    sampler: str,
    threshold: Threshold,
) -> Float[Tensor, "batch 3 size size"]:
    """Makes the small images.

    Args:
        network: The base.
        states: The text encoder's, zero on padding.
        generators: One an image.
        process: All timesteps of the network's training.
        guidance_scale: 1 is off.
        steps: Number of evaluations.
        sampler: Name of the sampler.
        threshold: Keeps the predicted images in range.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    text = _text(network, states, guided=guidance_scale != 1.0)
    model = _guided(lambda x_t, t: network(x_t, t, text), guidance_scale)
    x_T = draw_noise(generators, (3, *[network.config.image_size] * 2), states.device)
    spaced = process_for(process, sampler, steps)
    return sample(sampler, model, x_T, spaced, generators, threshold=threshold)


@torch.no_grad()
def sample_upsampler(
    network: ImagenUpsampler,
    low_res: Float[Tensor, "batch 3 low_size low_size"],
    states: Float[Tensor, "batch length width"],
    generators: Sequence[torch.Generator],
    *,
    process: DiffusionProcess,
    guidance_scale: float,
    steps: int | str,
    sampler: str,
    threshold: Threshold,
    aug_level: float,
    residual_scale: float | None = None,
) -> Float[Tensor, "batch 3 size size"]:
    """Enlarges images.

    Args:
        network: The upsampler.
        low_res: Images in [-1, 1] of the stage before.
        states: The text encoder's, zero on padding.
        generators: One an image; they draw the augmentation's noise first.
        process: All timesteps of the network's training.
        guidance_scale: 1 is off.
        steps: Number of evaluations.
        sampler: Name of the sampler.
        threshold: Keeps the predicted images in range.
        aug_level: Of the noise on the low-resolution images, in [0, 1].
        residual_scale: Of a network that makes only what the enlarged image lacks.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    guided = guidance_scale != 1.0
    text = _text(network, states, guided=guided)
    level = torch.full((len(states),), aug_level, device=states.device)
    disturbance = draw_noise(generators, low_res.shape[1:], states.device)
    low_res = low_res.clamp(-1, 1)
    seen = augmented(low_res, level, disturbance)
    if residual_scale is not None:
        threshold = residual_threshold(low_res, residual_scale, threshold)
    if guided:
        seen, level = torch.cat([seen, seen]), torch.cat([level, level])
    model = _guided(
        lambda x_t, t: network(x_t, t, text, low_res=seen, aug_level=level), guidance_scale
    )
    x_T = draw_noise(generators, (3, *[network.config.image_size] * 2), states.device)
    spaced = process_for(process, sampler, steps)
    made = sample(sampler, model, x_T, spaced, generators, threshold=threshold)
    return made if residual_scale is None else from_residual(made, low_res, residual_scale)


def _text(network: ImagenBase | ImagenUpsampler, states: Tensor, *, guided: bool) -> TextStates:
    """The captions', and behind them, for guidance, as many times no text: zeros."""
    return network.read_text(torch.cat([states, torch.zeros_like(states)]) if guided else states)


def _guided(model: Denoiser, guidance_scale: float) -> Denoiser:
    return model if guidance_scale == 1.0 else classifier_free(model, guidance_scale)
