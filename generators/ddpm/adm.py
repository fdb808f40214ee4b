"""ADM's networks other than the U-Net (Dhariwal & Nichol 2021): noisy classifier and upsampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.attention import AttentionPool2d, zeroed
from generators.nn.normalization import GroupNorm
from generators.nn.unet import UNet, UNetConfig, UNetEncoder, enlarge

SPATIAL_WIDTH = 2048


class NoisyClassifier(UNetEncoder):
    """Classifies x_t, so that its gradient can guide sampling (section 4).

    Args:
        config: The encoder's sizes; `out_channels` is the number of classes.
        pool: How the feature map becomes logits: its mean, attention over it (the released
            classifiers), or the means of all feature maps of the encoder.
    """

    def __init__(self, config: UNetConfig, pool: str = "attention") -> None:
        super().__init__(config)
        self.pool = pool
        channels = self.middle_channels
        if pool == "adaptive":
            self.out = nn.Sequential(
                GroupNorm(channels),
                nn.SiLU(),
                nn.AdaptiveAvgPool2d(1),
                zeroed(nn.Conv2d(channels, config.out_channels, 1)),
                nn.Flatten(),
            )
        elif pool == "attention":
            self.out = nn.Sequential(
                GroupNorm(channels), nn.SiLU(), _attention_pool(config, channels)
            )
        elif pool in ("spatial", "spatial_v2"):
            self.out = _spatial_head(sum(self.skip_widths) + channels, config.out_channels, pool)
        else:
            raise ArchitectureError(
                f"Unknown pool {pool!r}; known: adaptive, attention, spatial, spatial_v2."
            )

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> NoisyClassifier:
        """Build the classifier from settings of `UNetConfig` and `pool` (default: `adaptive`)."""
        unet = {name: value for name, value in settings.items() if name != "pool"}
        return cls(UNetConfig.from_flat(unet), settings.get("pool", "adaptive"))

    def forward(
        self, x: Float[Tensor, "batch in_channels height width"], t: Shaped[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Return the logits of the classes for noisy images at timesteps of training."""
        emb = self.embed_timestep(t)
        maps = self.encode(x, emb)
        maps.append(self.middle_block(maps[-1], emb, None))
        if self.pool.startswith("spatial"):
            return self.out(torch.cat([feature.mean(dim=(2, 3)) for feature in maps], dim=1))
        return self.out(maps[-1])


class SuperResUNet(UNet):
    """ADM's upsampler: also sees the low-resolution image, enlarged bilinearly."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(replace(config, in_channels=2 * config.in_channels))

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        low_res: Float[Tensor, "batch channels low_height low_width"],
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network; `low_res` is in [-1, 1]."""
        return super().forward(torch.cat([x, enlarge(low_res, x)], dim=1), t, y)


def _attention_pool(config: UNetConfig, channels: int) -> AttentionPool2d:
    if config.num_head_channels == -1:
        raise ArchitectureError("Attention pooling needs num_head_channels, the width of a head.")
    return AttentionPool2d(
        config.image_size // 2 ** (len(config.channel_mult) - 1),
        channels,
        head_channels=config.num_head_channels,
        out_channels=config.out_channels,
    )


def _spatial_head(in_features: int, num_classes: int, pool: str) -> nn.Sequential:
    first, last = nn.Linear(in_features, SPATIAL_WIDTH), nn.Linear(SPATIAL_WIDTH, num_classes)
    if pool == "spatial":
        return nn.Sequential(first, nn.ReLU(), last)
    return nn.Sequential(first, GroupNorm(SPATIAL_WIDTH), nn.SiLU(), last)
