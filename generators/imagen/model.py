"""Imagen's networks (Saharia et al. 2022, sections 2.3 to 2.4, appendix F).

All read the frozen encoder's states through a layer norm: pooled by attention and added to the
embedded timestep, and in full by cross-attention, whose keys and values precede those of the
image. The base is ADM's U-Net, the two upsamplers are Efficient U-Nets that also see the
low-resolution image and how much noise was put on it. No text is all states zero. Images are in
[-1, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.glide.model import TextStates
from generators.nn.attention import merge_heads
from generators.nn.efficient_unet import EfficientUNet, EfficientUNetConfig
from generators.nn.embeddings import cos_sin_embedding
from generators.nn.normalization import LayerNorm
from generators.nn.unet import UNet, UNetConfig, enlarge

LEVEL_SCALE = 1000.0
"""The augmentation level in [0, 1] is embedded as a timestep of 0 to 1000."""
POOL_HEAD_CHANNELS = 64


@dataclass(frozen=True, kw_only=True)
class ImagenConfig:
    """A network of the cascade: the base's U-Net or an upsampler's."""

    unet: UNetConfig | EfficientUNetConfig
    text_width: int
    """Width of the text encoder's states."""

    @classmethod
    def base_from_flat(cls, settings: Mapping[str, Any]) -> ImagenConfig:
        """Read `text_width` and the settings of a U-Net.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        rest, width = _without_text_width(settings)
        return cls(unet=UNetConfig.from_flat(rest), text_width=width)

    @classmethod
    def upsampler_from_flat(cls, settings: Mapping[str, Any]) -> ImagenConfig:
        """Read `text_width` and the settings of an Efficient U-Net.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        rest, width = _without_text_width(settings)
        return cls(unet=EfficientUNetConfig.from_flat(rest), text_width=width)


class TextPooling(nn.Module):
    """Pools text states to one vector: the attention of their mean over them and itself.

    Args:
        width: Of the states.
        out_channels: Width of the vector.
    """

    def __init__(self, width: int, out_channels: int) -> None:
        super().__init__()
        self.num_heads = max(1, width // POOL_HEAD_CHANNELS)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, out_channels)

    def forward(
        self, states: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch out_channels"]:
        """Return the pooled states."""
        mean = states.mean(dim=1, keepdim=True)
        q = self._split(self.q(mean))  # (B, heads, 1, W / heads)
        k, v = (self._split(part) for part in self.kv(torch.cat([mean, states], 1)).chunk(2, -1))
        return self.proj(merge_heads(F.scaled_dot_product_attention(q, k, v))[:, 0])

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class ImagenBase(UNet):
    """Makes the small images: noisy image, timestep and text in, the prediction out."""

    def __init__(self, config: ImagenConfig) -> None:
        assert isinstance(config.unet, UNetConfig)
        super().__init__(replace(config.unet, context_channels=config.text_width))
        self.text_norm = LayerNorm(config.text_width)
        self.text_pooling = TextPooling(config.text_width, config.unet.embedding_channels)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> ImagenBase:
        """Build the network from flat settings; see `ImagenConfig.base_from_flat`."""
        return cls(ImagenConfig.base_from_flat(settings))

    def read_text(self, states: Float[Tensor, "batch length width"]) -> TextStates:
        """Return the text states that the U-Net uses at every timestep."""
        return _read_text(self, states)

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        text: TextStates,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network."""
        return super().forward(x, t, extra_emb=text.proj, context_kv=text.kv)


class ImagenUpsampler(EfficientUNet):
    """Enlarges images: also sees the low-resolution one, and how much noise was put on it."""

    def __init__(self, config: ImagenConfig) -> None:
        assert isinstance(config.unet, EfficientUNetConfig)
        super().__init__(replace(config.unet, context_channels=config.text_width))
        channels, width = config.unet.channels[0], config.unet.embedding_channels
        self.time_embed = _embedding_mlp(channels, width)
        self.level_embed = _embedding_mlp(channels, width)
        self.text_norm = LayerNorm(config.text_width)
        self.text_pooling = TextPooling(config.text_width, width)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> ImagenUpsampler:
        """Build the network from flat settings; see `ImagenConfig.upsampler_from_flat`."""
        return cls(ImagenConfig.upsampler_from_flat(settings))

    def read_text(self, states: Float[Tensor, "batch length width"]) -> TextStates:
        """Return the text states that the U-Net uses at every timestep."""
        return _read_text(self, states)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        t: Shaped[Tensor, " batch"],
        text: TextStates,
        *,
        low_res: Float[Tensor, "batch channels low_height low_width"],
        aug_level: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network.

        Args:
            x: Noisy images.
            t: Timesteps.
            text: From `read_text`.
            low_res: Already augmented.
            aug_level: How much, in [0, 1].
        """
        channels = self.config.channels[0]
        levels = cos_sin_embedding(aug_level * LEVEL_SCALE, channels)
        emb = self.time_embed(cos_sin_embedding(t, channels)) + self.level_embed(levels) + text.proj
        seen = torch.cat([x, enlarge(low_res, x)], dim=1)
        return self.denoise(seen, emb, text.kv)


def _read_text(network: ImagenBase | ImagenUpsampler, states: Tensor) -> TextStates:
    normed = network.text_norm(states)
    context = normed.transpose(1, 2)  # (B, W, L)
    return TextStates(network.text_pooling(normed), context, network.project_context(context))


def _embedding_mlp(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))


def _without_text_width(settings: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    if "text_width" not in settings:
        raise ArchitectureError("Missing settings of an Imagen network: text_width.")
    return {k: v for k, v in settings.items() if k != "text_width"}, int(settings["text_width"])
