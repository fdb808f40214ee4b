"""Residual upsampling: predict what the enlarged image lacks (Li et al. 2022, SRDiff, section 3).

The residual r = scale * (x_0 - enlarge(low_res)) takes the place of x_0 in the diffusion process,
so that colours and places are right from the start and a small network learns edges alone.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from generators.diffusion.thresholding import Threshold, static_threshold
from generators.nn.unet import enlarge

Scale = float | Float[Tensor, "batch 1 1 1"]


def to_residual(
    x_0: Float[Tensor, "batch channels height width"],
    low_res: Float[Tensor, "batch channels low_height low_width"],
    scale: Scale,
) -> Float[Tensor, "batch channels height width"]:
    """Subtract the bilinearly enlarged `low_res` from `x_0`; both are in [-1, 1]."""
    return scale * (x_0 - enlarge(low_res, x_0))


def from_residual(
    residual: Float[Tensor, "batch channels height width"],
    low_res: Float[Tensor, "batch channels low_height low_width"],
    scale: Scale,
) -> Float[Tensor, "batch channels height width"]:
    """Return the image of a residual; the inverse of `to_residual`."""
    return enlarge(low_res, residual) + residual / scale


def residual_threshold(
    low_res: Float[Tensor, "batch channels low_height low_width"],
    scale: Scale,
    of_image: Threshold = static_threshold,
) -> Threshold:
    """Keep the *image* of a predicted residual in [-1, 1], clipped or by another threshold."""

    def threshold(residual: Tensor) -> Tensor:
        image = of_image(from_residual(residual, low_res, scale))
        return to_residual(image, low_res, scale)

    return threshold
