"""Sampling from an unconditional or class-conditional network, with classifier guidance or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from generators.diffusion.guidance import classifier_gradient
from generators.diffusion.noise import draw_noise
from generators.diffusion.stage_sampling import StageSampling


@torch.no_grad()
def sample_images(
    network: nn.Module,
    rngs: Sequence[torch.Generator],
    sampling: StageSampling,
    *,
    size_px: int,
    labels: Int[Tensor, " batch"] | None = None,
    label_network: bool = False,
    classifier: nn.Module | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Sample images.

    Args:
        network: Called with (x, t), or with (x, t, y) where `label_network`.
        rngs: One per image, for all of its noise.
        sampling: How; its `guidance_scale` multiplies the classifier's gradient, and 0 or None
            leaves the classifier unused.
        size_px: Edge of the images.
        labels: Classes wanted; for the network, the classifier, or both.
        label_network: Whether the network itself takes labels.
        classifier: Trained on noisy images; called with (x, t).

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    scale = sampling.guidance_scale
    if classifier is not None and labels is not None and scale:
        gradient = classifier_gradient(classifier, labels, scale)
        sampling = replace(sampling, options=replace(sampling.options, gradient=gradient))
    model = (lambda x_t, t: network(x_t, t, labels)) if label_network else network
    device = next(network.parameters()).device
    x_T = draw_noise(rngs, (3, size_px, size_px), device)
    return sampling.sample(model, x_T, rngs)
