"""The noise of an image comes from that image's own random number generator, on the CPU.

The noise is therefore independent of batch size, order, device and the other images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from jaxtyping import Float32
from torch import Tensor


def image_rngs(seeds: Sequence[int], stage: str = "") -> list[torch.Generator]:
    """Return one seeded random number generator per image.

    torch seeds its CPU generator with the low 32 bits alone, so they are hashed from the whole
    seed and the stage.

    Args:
        seeds: Any non-negative integers.
        stage: Name of the stage; each stage of a cascade draws its own noise.
    """
    return [torch.Generator().manual_seed(_stage_seed(seed, stage)) for seed in seeds]


def _stage_seed(seed: int, stage: str) -> int:
    digest = hashlib.sha256(f"{seed}/{stage}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_noise(
    rngs: Sequence[torch.Generator],
    shape: Sequence[int],
    device: torch.device | str = "cpu",
) -> Float32[Tensor, "batch ..."]:
    """Draw standard normal noise of `shape`, one image from each rng.

    >>> a, b = draw_noise(image_rngs([1, 2]), (3, 8, 8))
    >>> bool((a == draw_noise(image_rngs([1]), (3, 8, 8))[0]).all())
    True
    """
    on_gpu = torch.device(device).type == "cuda"
    # From pinned memory a copy does not wait for what the GPU still computes, so noise is drawn
    # ahead of it.
    noise = torch.empty((len(rngs), *shape), pin_memory=on_gpu)
    for image, rng in zip(noise, rngs, strict=True):
        torch.randn(tuple(shape), generator=rng, out=image)
    return noise.to(device, non_blocking=on_gpu)
