"""Sampling from GLIDE's two networks, as the authors' notebook does.

Captions go through the text encoder once. The base makes a 64 px image with classifier-free
guidance; the upsampler, unguided, enlarges it from noise of a slightly lower temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from evalkit.core.errors import ConfigError
from generators.diffusion.guidance import Denoiser, Gradient, classifier_free
from generators.diffusion.noise import draw_noise
from generators.diffusion.process import DiffusionProcess
from generators.diffusion.samplers import Progress, process_for, sample
from generators.diffusion.thresholding import Threshold, static_threshold
from generators.glide.inpainting import GivenPixels
from generators.glide.model import Text2ImUNet, TextStates
from generators.glide.residual import from_residual, residual_threshold
from generators.pixels import requantise
from generators.tokenizer import BytePairTokenizer

UPSAMPLER_TEMPERATURE = 0.997
BASE_STEPS = 100
UPSAMPLER_STEPS = "fast27"


@dataclass(frozen=True, eq=False)
class Captions:
    """What a stage needs to know of a batch of captions."""

    text: TextStates
    empty: TextStates
    """States of the empty caption, batch 1: the unconditional half of guidance."""
    truncated: tuple[bool, ...]
    """Which captions lost their end to the context's length."""


@torch.no_grad()
def encode_captions(
    network: Text2ImUNet, tokenizer: BytePairTokenizer, captions: Sequence[str]
) -> Captions:
    """Runs a network's text encoder, once for each different caption.

    Raises:
        ConfigError: The network has no text encoder.
    """
    if network.text is None:
        raise ConfigError("this network takes no captions: it has no text encoder")
    unique = list(dict.fromkeys(["", *captions]))
    tokens = tokenizer.pad(unique, network.text.text_ctx)
    device = next(network.parameters()).device
    states = network.encode_text(tokens.ids.to(device), tokens.mask.to(device))
    row = {caption: index for index, caption in enumerate(unique)}
    rows = [row[caption] for caption in captions]
    return Captions(
        text=states.select(torch.tensor(rows, device=device)),
        empty=states.select(slice(0, 1)),
        truncated=tuple(tokens.truncated[index] for index in rows),
    )


@torch.no_grad()
def sample_base(
    network: Text2ImUNet,
    captions: Captions,
    generators: Sequence[torch.Generator],
    *,
    process: DiffusionProcess,
    guidance_scale: float = 3.0,
    steps: int | str = BASE_STEPS,
    sampler: str = "ancestral",
    eta: float = 0.0,
    threshold: Threshold | None = static_threshold,
    gradient: Gradient | None = None,
    given: GivenPixels | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Makes the small images.

    Args:
        network: The base network.
        captions: Of the batch, from this network's text encoder.
        generators: One an image, for all of its noise at this stage.
        process: All timesteps of the network's training.
        guidance_scale: s in eps_u + s (eps_c - eps_u); 1 evaluates the conditional half alone.
        steps: Number of evaluations of the network, or a respacing such as "ddim25".
        sampler: Name of the sampler.
        eta: For DDIM.
        threshold: Keeps the predicted images in range.
        gradient: Of a noised CLIP, instead of (or beside) classifier-free guidance.
        given: Pixels to keep, for an inpainting network.
        progress: Told after each step.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    size = network.config.image_size
    text = captions.text
    if guidance_scale == 1.0:
        model = _bound(network, text, given)
    else:
        empty = captions.empty.select(torch.zeros(len(text.proj), dtype=torch.long))
        both = _bound(network, TextStates.cat([text, empty]), given and given.twice())
        model = classifier_free(both, guidance_scale)
    x_T = draw_noise(generators, (3, size, size), text.proj.device)
    return sample(
        sampler,
        model,
        x_T,
        process_for(process, sampler, steps),
        generators,
        eta=eta,
        threshold=_keeping(threshold, given),
        gradient=gradient,
        progress=progress,
    )


@torch.no_grad()
def sample_upsampler(
    network: Text2ImUNet,
    low_res: Float[Tensor, "batch 3 low_height low_width"],
    captions: Captions | None,
    generators: Sequence[torch.Generator],
    *,
    process: DiffusionProcess,
    steps: int | str = UPSAMPLER_STEPS,
    sampler: str = "ddim",
    eta: float = 0.0,
    temperature: float = UPSAMPLER_TEMPERATURE,
    quantise: bool = True,
    residual_scale: float | None = None,
    threshold: Threshold | None = static_threshold,
    given: GivenPixels | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Enlarges images to the network's size.

    Args:
        network: The upsampler.
        low_res: The base's images in [-1, 1].
        captions: Of the batch, from *this* network's text encoder; None where it has none.
        generators: One an image, for all of its noise at this stage.
        process: All timesteps of the network's training.
        steps: Number of evaluations, or a respacing.
        sampler: Name of the sampler.
        eta: For DDIM.
        temperature: Multiplies the noise to start from.
        quantise: Round the small images to 256 levels, as the authors' notebook does. Rounding
            makes a level of a difference in the seventh digit, so that batch sizes show.
        residual_scale: Of a network that makes only what the enlarged image lacks (`residual`).
        threshold: Keeps the predicted images in range; of residuals, static whatever is given.
        given: Pixels to keep, for an inpainting network.
        progress: Told after each step.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    size = network.config.image_size
    inputs = {} if given is None else given.as_inputs()
    seen = requantise(low_res) if quantise else low_res.clamp(-1, 1)
    text = captions.text if captions else None
    x_T = temperature * draw_noise(generators, (3, size, size), low_res.device)
    if residual_scale is not None:
        threshold = residual_threshold(seen, residual_scale)
    made = sample(
        sampler,
        lambda x_t, t: network(x_t, t, seen, text=text, **inputs),
        x_T,
        process_for(process, sampler, steps),
        generators,
        eta=eta,
        threshold=_keeping(threshold, given),
        progress=progress,
    )
    return made if residual_scale is None else from_residual(made, seen, residual_scale)


def _bound(network: Text2ImUNet, text: TextStates, given: GivenPixels | None) -> Denoiser:
    inputs = {} if given is None else given.as_inputs()
    return lambda x_t, t: network(x_t, t, text=text, **inputs)


def _keeping(threshold: Threshold | None, given: GivenPixels | None) -> Threshold | None:
    """The threshold, after the given pixels are put into the predicted image."""
    if given is None:
        return threshold
    return given.put_into(threshold or (lambda x_0: x_0))
