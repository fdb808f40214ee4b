"""The small networks of our own: ADM's layout on patches of pixels, for two CPU cores.

A patch of p x p pixels becomes one position with 3 p^2 channels, which makes a network p^2 times as
fast at nearly the same quality (Luhman & Luhman 2022). Outside, everything is as without patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from generators.ddpm.adm import NoisyClassifier
from generators.errors import ArchitectureError
from generators.nn.unet import UNet, UNetConfig


class OnPatches(nn.Module):
    """A U-Net or classifier that sees and makes patches instead of pixels.

    Args:
        network: Called with (patches, t) or (patches, t, y).
        patch_size: Edge of a patch in px.
    """

    def __init__(self, network: UNet | NoisyClassifier, patch_size: int) -> None:
        super().__init__()
        self.network = network
        self.patch_size = patch_size

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch ..."]:
        """Predictions of the images' size, or logits."""
        patches = F.pixel_unshuffle(x, self.patch_size)  # (B, 3 p^2, H / p, W / p)
        output = self.network(patches, t) if y is None else self.network(patches, t, y)
        return F.pixel_shuffle(output, self.patch_size) if output.ndim == 4 else output


def build_network(settings: Mapping[str, Any]) -> OnPatches:
    """The U-Net of a recipe: settings of `UNetConfig` for whole images, and `patch_size`.

    Raises:
        ArchitectureError: A setting is unknown, missing or doesn't fit the others.
    """
    config, patch_size = _on_grid(settings)
    return OnPatches(
        UNet(replace(config, out_channels=config.out_channels * patch_size**2)), patch_size
    )


def build_classifier(settings: Mapping[str, Any]) -> OnPatches:
    """The noisy classifier of a recipe; `out_channels` is the number of classes.

    Raises:
        ArchitectureError: As in `build_network`.
    """
    config, patch_size = _on_grid(settings)
    return OnPatches(NoisyClassifier(config, "attention"), patch_size)


def _on_grid(settings: Mapping[str, Any]) -> tuple[UNetConfig, int]:
    """The configuration of the network that sees patches, and their edge."""
    rest = dict(settings)
    patch_size = int(rest.pop("patch_size", 1))
    config = UNetConfig.from_flat(rest)
    if patch_size < 1 or config.image_size % patch_size:
        raise ArchitectureError(
            f"image_size {config.image_size} is not a multiple of patch_size {patch_size}"
        )
    grid = config.image_size // patch_size
    return replace(
        config, image_size=grid, in_channels=config.in_channels * patch_size**2
    ), patch_size
