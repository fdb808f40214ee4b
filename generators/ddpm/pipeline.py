"""Sampling from an unconditional or class-conditional network, with classifier guidance or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from generators.diffusion.guidance import classifier_gradient
from generators.diffusion.noise import draw_noise
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import Progress, process_for, sample
from generators.diffusion.thresholding import Threshold, static_threshold


@torch.no_grad()
def sample_images(
    network: nn.Module,
    generators: Sequence[torch.Generator],
    *,
    size_px: int,
    process: DiffusionProcess,
    steps: int | str = "250",
    sampler: str = "ancestral",
    eta: float = 0.0,
    labels: Int[Tensor, " batch"] | None = None,
    label_network: bool = False,
    classifier: nn.Module | None = None,
    classifier_scale: float = 0.0,
    threshold: Threshold | None = static_threshold,
    progress: Progress | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Makes images.

    Args:
        network: Called with (x, t), or with (x, t, y) where `label_network`.
        generators: One an image, for all of its noise.
        size_px: Edge of the images.
        process: All timesteps of the network's training.
        steps: Number of evaluations of the network, or a respacing such as "ddim25".
        sampler: Name of the sampler.
        eta: For DDIM.
        labels: Classes wanted; for the network, the classifier, or both.
        label_network: Whether the network itself takes labels.
        classifier: Trained on noisy images; called with (x, t).
        classifier_scale: Multiplies its gradient; 0 leaves the classifier unused.
        threshold: Keeps the predicted images in range.
        progress: Told after each step.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    device = next(network.parameters()).device
    gradient = None
    if classifier is not None and labels is not None and classifier_scale:
        gradient = classifier_gradient(classifier, labels, classifier_scale)
    model = (lambda x_t, t: network(x_t, t, labels)) if label_network else network
    return sample(
        sampler,
        model,
        draw_noise(generators, (3, size_px, size_px), device),
        process_for(process, sampler, steps),
        generators,
        eta=eta,
        threshold=threshold,
        gradient=gradient,
        progress=progress,
    )
