"""Degradations of the low-resolution images in the training of unCLIP's upsamplers (section 2.1).

The first one gets them blurred, the second one through a simplified BSR degradation (Zhang et al.
2021): blur, resizing, noise and JPEG, each of random strength, in random order. An upsampler that
was trained so forgives the faults of the stage before it. Images are in [-1, 1].
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from evalkit.core.errors import ConfigError
from evalkit.core.pixels import read_rgb
from generators.pixels import from_uint8, to_uint8

BLUR_SIZE_PX = 3
BLUR_SIGMA_PX = 0.6
"""Appendix C."""
BSR_KERNEL_PX = 7
BSR_SIGMA_PX = (0.1, 1.2)
BSR_RESIZE = (0.5, 1.5)
BSR_NOISE = (2 / 255, 24 / 255)
"""Deviation in [-1, 1]."""
BSR_GRAY_NOISE_SHARE = 0.4
BSR_JPEG_QUALITY = (40, 96)
RESIZE_MODES = ("bilinear", "bicubic", "area")

Degradation = Callable[[Tensor, Sequence[torch.Generator]], Tensor]
"""Takes images and one generator for each."""


def gaussian_kernel(
    size_px: int, sigmas_px: tuple[float, float], angle: float = 0.0
) -> Float[Tensor, "size size"]:
    """Build a normalised Gaussian with a deviation along each of two rotated axes.

    Args:
        size_px: Odd edge.
        sigmas_px: Deviations along the axes.
        angle: Of the first axis, in radians.
    """
    steps = torch.arange(size_px, dtype=torch.float32) - size_px // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    along = (math.cos(angle) * x + math.sin(angle) * y) / sigmas_px[0]
    across = (math.cos(angle) * y - math.sin(angle) * x) / sigmas_px[1]
    kernel = torch.exp(-0.5 * (along.square() + across.square()))
    return kernel / kernel.sum()


def convolve(
    images: Float[Tensor, "batch 3 height width"], kernel: Float[Tensor, "size size"]
) -> Float[Tensor, "batch 3 height width"]:
    """Convolve each channel with the same kernel; edges are mirrored."""
    half = kernel.shape[0] // 2
    weights = kernel.to(images).expand(3, 1, *kernel.shape)
    return F.conv2d(F.pad(images, [half] * 4, mode="reflect"), weights, groups=3)


def blur(
    images: Float[Tensor, "batch 3 height width"], rngs: Sequence[torch.Generator] = ()
) -> Float[Tensor, "batch 3 height width"]:
    """Blur by a fixed Gaussian of 3 px with deviation 0.6, for the first upsampler."""
    sigmas = (BLUR_SIGMA_PX, BLUR_SIGMA_PX)
    return convolve(images, gaussian_kernel(BLUR_SIZE_PX, sigmas))


def bsr(
    images: Float[Tensor, "batch 3 height width"], rngs: Sequence[torch.Generator]
) -> Float[Tensor, "batch 3 height width"]:
    """Blur, resize, noise and compress each image differently, for the second upsampler."""
    return torch.cat([_degraded(images[i : i + 1], rng) for i, rng in enumerate(rngs)])


def _degraded(image: Tensor, rng: torch.Generator) -> Tensor:
    for index in torch.randperm(len(BSR_STEPS), generator=rng).tolist():
        image = BSR_STEPS[index](image, rng)
    return image.clamp(-1, 1)


def _random_blur(image: Tensor, rng: torch.Generator) -> Tensor:
    """Blur by a kernel that is isotropic in half of the cases."""
    first, second = (uniform(*BSR_SIGMA_PX, rng) for _ in range(2))
    round_one = uniform(0, 1, rng) < 0.5
    angle = uniform(0, math.pi, rng)
    kernel = gaussian_kernel(BSR_KERNEL_PX, (first, first if round_one else second), angle)
    return convolve(image, kernel)


def _random_resize(image: Tensor, rng: torch.Generator) -> Tensor:
    """Resize to another size and back, each time with a random filter."""
    size = image.shape[-1]
    between = max(2, round(size * uniform(*BSR_RESIZE, rng)))
    for target in (between, size):
        mode = RESIZE_MODES[int(torch.randint(len(RESIZE_MODES), (1,), generator=rng))]
        image = F.interpolate(image, (target, target), mode=mode)
    return image


def _random_noise(image: Tensor, rng: torch.Generator) -> Tensor:
    """Add Gaussian noise, in some cases the same for all three channels."""
    deviation = uniform(*BSR_NOISE, rng)
    gray = uniform(0, 1, rng) < BSR_GRAY_NOISE_SHARE
    shape = (1, 1, *image.shape[2:]) if gray else image.shape
    return image + deviation * torch.randn(shape, generator=rng).to(image)


def _random_jpeg(image: Tensor, rng: torch.Generator) -> Tensor:
    """Compress as JPEG and read back."""
    quality = int(torch.randint(*BSR_JPEG_QUALITY, (1,), generator=rng))
    pixels = to_uint8(image)[0].cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    back = read_rgb(file.getvalue())
    return from_uint8(torch.from_numpy(back)[None]).to(image)


BSR_STEPS: tuple[Callable[[Tensor, torch.Generator], Tensor], ...] = (
    _random_blur,
    _random_resize,
    _random_noise,
    _random_jpeg,
)
DEGRADATIONS: dict[str, Degradation] = {"blur": blur, "bsr": bsr}


def resolve_degradation(name: str) -> Degradation:
    """Return a degradation by its name in a recipe.

    Raises:
        ConfigError: The degradation does not exist.
    """
    if name not in DEGRADATIONS:
        raise ConfigError(f"Unknown degradation {name!r}; known: {', '.join(DEGRADATIONS)}.")
    return DEGRADATIONS[name]


def uniform(low: float, high: float, rng: torch.Generator) -> float:
    """Draw a uniform number."""
    return low + (high - low) * float(torch.rand((), generator=rng))
