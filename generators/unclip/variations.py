"""What unCLIP can do with images instead of captions (Ramesh et al. 2022, section 3).

An image is encoded as a pair: z, what CLIP sees in it, and x_T, the noise from which the decoder
makes exactly it (DDIM walked backwards). Variations keep z and add fresh noise; interpolations
move both along the great circle between two images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalkit.core.errors import DataError
from generators.base import Settings
from generators.diffusion.guidance import Denoiser, classifier_free
from generators.diffusion.noise import image_rngs
from generators.diffusion.samplers import SamplerOptions, invert_ddim, sample_ddim
from generators.glide.model import TextStates
from generators.pixels import from_uint8, shrink, to_uint8
from generators.unclip.decoder import decoder_captions
from generators.unclip.generator import UnclipGenerator

INVERSION_STEPS = 100


@dataclass(frozen=True, eq=False)
class EncodedImages:
    """The two halves of what the decoder needs to make images."""

    embedding: Float[Tensor, "batch embed_dim"]
    """z, scaled."""
    noise: Float[Tensor, "batch 3 size size"]
    """x_T at the decoder's size."""


def encode_images(
    generator: UnclipGenerator,
    images: UInt8[np.ndarray, "batch height width 3"],
    *,
    steps: int = INVERSION_STEPS,
) -> EncodedImages:
    """Encode images as CLIP's embedding and the noise that the unguided decoder maps to them.

    Args:
        generator: A tiny unCLIP.
        images: uint8, square, of CLIP's size.
        steps: Of the inversion; more are more exact.

    Raises:
        DataError: The images have another size.
    """
    size = generator.clip.network.config.image_size
    if images.ndim != 4 or images.shape[1:] != (size, size, 3):
        raise DataError(
            f"{generator.spec.name} encodes images of {size} x {size} x 3, got "
            f"{' x '.join(map(str, images.shape[1:]))}. Resize them first."
        )
    pixels = from_uint8(torch.from_numpy(np.ascontiguousarray(images))).to(generator.clip.device)
    embedding = generator.clip.embed_images(pixels) * generator.clip.scale
    decoder = generator.decoder
    process = decoder.process.respaced(str(steps))
    small = shrink(pixels, decoder.network.config.image_size)
    noise = invert_ddim(_denoiser(generator, embedding, 1.0), small, process)
    return EncodedImages(embedding, noise)


def decode_images(
    generator: UnclipGenerator,
    encoded: EncodedImages,
    seeds: Sequence[int],
    settings: Settings,
    *,
    eta: float = 0.0,
) -> UInt8[np.ndarray, "batch size size 3"]:
    """Decode images; with eta 0 and guidance 1 they are close to the encoded ones.

    Args:
        generator: The model that encoded them.
        encoded: Embeddings and noise.
        seeds: Of the fresh noise, one per image.
        settings: Steps and guidance of the stage `base`, and the upsamplers'.
        eta: DDIM's; at 1 all of the noise on the way is fresh.
    """
    base = settings["base"]
    assert base.guidance is not None
    small = sample_ddim(
        _denoiser(generator, encoded.embedding, base.guidance),
        encoded.noise,
        generator.decoder.process.respaced(str(base.steps)),
        image_rngs(seeds, "base"),
        SamplerOptions(eta=eta),
    )
    return to_uint8(generator.enlarge(small, seeds, settings)).cpu().numpy()


def interpolate(first: EncodedImages, second: EncodedImages, share: float) -> EncodedImages:
    """Interpolate between two images (section 3.2), both halves by `slerp`.

    Args:
        first: At share 0.
        second: At share 1, of the same batch size.
        share: In [0, 1].
    """
    return EncodedImages(
        slerp(first.embedding, second.embedding, share), slerp(first.noise, second.noise, share)
    )


def slerp(
    first: Float[Tensor, "batch ..."], second: Float[Tensor, "batch ..."], share: float
) -> Float[Tensor, "batch ..."]:
    """Interpolate spherically: along the great circle, and linearly in length.

    >>> right, up = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> slerp(right, up, 0.5)[0].tolist()
    [1.4142135381698608, 1.4142135381698608]
    """
    a, b = first.flatten(1), second.flatten(1)
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = ((a / length_a) * (b / length_b)).sum(dim=1, keepdim=True).clamp(-1, 1)
    angle = cosine.acos().clamp(min=1e-4)  # equal ends: the weights go to 1 - share and share
    direction = (
        torch.sin((1 - share) * angle) * (a / length_a) + torch.sin(share * angle) * (b / length_b)
    ) / torch.sin(angle)
    length = (1 - share) * length_a + share * length_b
    return (length * direction).view_as(first)


def _denoiser(generator: UnclipGenerator, embedding: Tensor, guidance_scale: float) -> Denoiser:
    """Return the decoder conditioned on an embedding, without a caption."""
    network = generator.decoder.network
    captions = decoder_captions(network, generator.clip.tokenizer, [""] * len(embedding), embedding)
    if guidance_scale == 1.0:
        return lambda x_t, t: network(x_t, t, text=captions.text)
    nothing = captions.empty.select(torch.zeros(len(embedding), dtype=torch.long))
    both = TextStates.cat([captions.text, nothing])
    return classifier_free(lambda x_t, t: network(x_t, t, text=both), guidance_scale)
