"""Inpainting (GLIDE, section 4.3): some pixels are given, the network makes the others.

The network sees the given pixels and their mask. They are also pasted into every predicted image,
as in the authors' notebook, so that they are kept exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from generators.base import Request
from generators.diffusion.thresholding import Threshold
from generators.errors import UnsupportedRequestError
from generators.pixels import from_uint8


@dataclass(frozen=True, eq=False)
class GivenPixels:
    """The pixels that a batch keeps."""

    image: Float[Tensor, "batch 3 size size"]
    """In [-1, 1]; 0 where nothing is kept."""
    mask: Float[Tensor, "batch 1 size size"]
    """1 on pixels to keep."""

    def shrunk(self, size_px: int) -> GivenPixels:
        """Shrink by area means; a pixel is kept if all pixels under it are."""
        factor = self.mask.shape[-1] // size_px
        image = F.interpolate(self.image, (size_px, size_px), mode="area")
        lost = F.max_pool2d(1 - self.mask, factor)
        return GivenPixels(image, 1 - lost)

    def twice(self) -> GivenPixels:
        """Repeat the batch for both halves of classifier-free guidance."""
        return GivenPixels(torch.cat([self.image] * 2), torch.cat([self.mask] * 2))

    def put_into(self, threshold: Threshold) -> Threshold:
        """Return a threshold that first pastes the given pixels into the predicted image."""
        return lambda x_0: threshold(x_0 * (1 - self.mask) + self.image * self.mask)

    def as_inputs(self) -> dict[str, Tensor]:
        """Return the keyword arguments of the inpainting networks."""
        return {"inpaint_image": self.image, "inpaint_mask": self.mask}


def given_pixels(requests: Sequence[Request], size_px: int, device: str) -> GivenPixels:
    """Collect the pixels that a batch of requests keeps; without an image, none.

    Raises:
        UnsupportedRequestError: An image without a mask or the other way round, or another size.
    """
    images = np.zeros((len(requests), size_px, size_px, 3), np.uint8)
    masks = np.zeros((len(requests), 1, size_px, size_px), np.float32)
    for row, request in enumerate(requests):
        if request.image is None and request.mask is None:
            continue
        if request.image is None or request.mask is None:
            raise UnsupportedRequestError(
                "Inpainting needs both an image and a mask, got one of them."
            )
        if request.image.shape != images.shape[1:] or request.mask.shape != masks.shape[2:]:
            raise UnsupportedRequestError(
                f"Inpainting needs an RGB image of {size_px} x {size_px} px and a mask of that "
                f"size, got {request.image.shape} and {request.mask.shape}."
            )
        images[row], masks[row, 0] = request.image, request.mask
    mask = torch.from_numpy(masks).to(device)
    return GivenPixels(from_uint8(torch.from_numpy(images)).to(device) * mask, mask)
