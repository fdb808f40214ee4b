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
from generators.diffusion.guidance import Denoiser
from generators.diffusion.noise import draw_noise
from generators.diffusion.samplers import Rngs
from generators.diffusion.stage_sampling import StageSampling
from generators.glide.inpainting import GivenPixels
from generators.glide.model import Text2ImUNet, TextStates
from generators.glide.residual import from_residual, residual_threshold
from generators.pixels import requantise
from generators.tokenizer import BytePairTokenizer

UPSAMPLER_TEMPERATURE = 0.997
"""The authors' notebook's."""


@dataclass(frozen=True, eq=False)
class Captions:
    """The text states of a batch of captions at one stage."""

    text: TextStates
    empty: TextStates
    """States of the empty caption, batch 1: the unconditional half of guidance."""
    truncated: tuple[bool, ...]
    """Which captions lost their end to the context's length."""


@torch.no_grad()
def encode_captions(
    network: Text2ImUNet, tokenizer: BytePairTokenizer, captions: Sequence[str]
) -> Captions:
    """Run a network's text encoder, once for each distinct caption.

    Raises:
        ConfigError: The network has no text encoder.
    """
    if network.text is None:
        raise ConfigError("This network takes no captions: it has no text encoder.")
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


@dataclass(frozen=True, kw_only=True)
class Enlarging:
    """How an upsampler treats the small images and its noise."""

    temperature: float = UPSAMPLER_TEMPERATURE
    """Multiplies the noise to start from."""
    quantise: bool = True
    """Round the small images to 256 levels, as the authors' notebook does. Rounding makes a level
    of a difference in the seventh digit, so that batch sizes show."""
    residual_scale: float | None = None
    """Of a network that makes only what the enlarged image lacks (`residual`)."""


@torch.no_grad()
def sample_base(
    network: Text2ImUNet,
    captions: Captions,
    rngs: Rngs,
    sampling: StageSampling,
    *,
    given: GivenPixels | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Sample the small images.

    Args:
        network: The base network.
        captions: Of the batch, from this network's text encoder.
        rngs: One per image, for all of its noise at this stage.
        sampling: How; its gradient is a noised CLIP's, instead of (or beside) classifier-free
            guidance.
        given: Pixels to keep, for an inpainting network.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    size = network.config.image_size
    text = captions.text
    if sampling.is_guided:
        empty = captions.empty.select(torch.zeros(len(text.proj), dtype=torch.long))
        both = TextStates.cat([text, empty])
        model = sampling.guided(_bound(network, both, given and given.twice()))
    else:
        model = _bound(network, text, given)
    x_T = draw_noise(rngs, (3, size, size), text.proj.device)
    return _keeping(sampling, given).sample(model, x_T, rngs)


@torch.no_grad()
def sample_upsampler(
    network: Text2ImUNet,
    low_res: Float[Tensor, "batch 3 low_height low_width"],
    captions: Captions | None,
    rngs: Rngs,
    sampling: StageSampling,
    *,
    enlarging: Enlarging,
    given: GivenPixels | None = None,
) -> Float[Tensor, "batch 3 height width"]:
    """Upsample images to the network's size.

    Args:
        network: The upsampler.
        low_res: The base's images in [-1, 1].
        captions: Of the batch, from *this* network's text encoder; None where it has none.
        rngs: One per image, for all of its noise at this stage.
        sampling: How, unguided; residuals are always thresholded statically.
        enlarging: What is done with the small images and with the noise.
        given: Pixels to keep, for an inpainting network.

    Returns:
        Images in [-1, 1], not yet rounded.
    """
    size = network.config.image_size
    inputs = {} if given is None else given.as_inputs()
    seen = requantise(low_res) if enlarging.quantise else low_res.clamp(-1, 1)
    text = captions.text if captions else None
    x_T = enlarging.temperature * draw_noise(rngs, (3, size, size), low_res.device)
    scale = enlarging.residual_scale
    if scale is not None:
        sampling = sampling.with_threshold(residual_threshold(seen, scale))
    made = _keeping(sampling, given).sample(
        lambda x_t, t: network(x_t, t, seen, text=text, **inputs), x_T, rngs
    )
    return made if scale is None else from_residual(made, seen, scale)


def _bound(network: Text2ImUNet, text: TextStates, given: GivenPixels | None) -> Denoiser:
    inputs = {} if given is None else given.as_inputs()
    return lambda x_t, t: network(x_t, t, text=text, **inputs)


def _keeping(sampling: StageSampling, given: GivenPixels | None) -> StageSampling:
    """Paste the given pixels into the predicted image before its threshold."""
    if given is None:
        return sampling
    threshold = sampling.options.threshold or (lambda x_0: x_0)
    return sampling.with_threshold(given.put_into(threshold))
