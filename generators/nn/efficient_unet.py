"""Imagen's Efficient U-Net (Saharia et al. 2022, section 2.4 and appendix B.1).

What makes it faster than ADM's U-Net: most residual blocks work at low resolution, a block on the
way down resamples *before* its convolutions and one on the way up *after* them, and skip
connections are scaled by 1 / sqrt(2). A block: convolution of stride 2, the embedding of timestep
and text added, residual blocks, attention (in the lowest block only).

Feature maps are (B, C, H, W); `emb` is the sum of all embeddings (B, 4 * channels[0]).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.attention import AttentionBlock, CrossAttentionBlock, zeroed
from generators.nn.normalization import NUM_GROUPS, GroupNorm
from generators.nn.precision import in_float32, kept_in_float32
from generators.nn.settings import config_from_flat
from generators.nn.unet import ContextKV

SKIP_SCALE = 1 / math.sqrt(2)


@dataclass(frozen=True, kw_only=True)
class EfficientUNetConfig:
    """Sizes of an Efficient U-Net."""

    image_size: int
    """Edge of the images in px."""
    channels: tuple[int, ...]
    """Width of each block, finest first."""
    num_res_blocks: tuple[int, ...]
    """Residual blocks of each block, on the way down as on the way up."""
    in_channels: int = 6
    """Count noisy image and low-resolution image."""
    out_channels: int = 3
    self_attention: bool = True
    """In the lowest block."""
    context_channels: int | None = None
    """Width of the text states that the lowest block attends to; None: there is no text."""
    num_heads: int = 8
    pixel_shuffle: bool = False
    """Enlarge maps by a convolution to four times the channels, which become 2 x 2 pixels (Shi et
    al. 2016), instead of repeating each pixel before a convolution. The paper's figures name only
    the convolution; a narrow network has too few channels at full size to tell pixels apart."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> EfficientUNetConfig:
        """Read settings as TOML has them.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        return config_from_flat(cls, settings, "an Efficient U-Net")

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.num_res_blocks) or not self.channels:
            raise ArchitectureError(
                "channels and num_res_blocks must have one entry per block, got "
                f"{len(self.channels)} and {len(self.num_res_blocks)}."
            )
        if any(width <= 0 or width % NUM_GROUPS for width in self.channels):
            raise ArchitectureError(
                f"Each block's width must be a positive multiple of {NUM_GROUPS}, "
                f"got {list(self.channels)}."
            )
        if self.channels[-1] % self.num_heads:
            raise ArchitectureError(
                f"A width of {self.channels[-1]} cannot be split into {self.num_heads} heads."
            )
        if self.image_size % 2 ** len(self.channels):
            raise ArchitectureError(
                f"image_size {self.image_size} cannot be halved {len(self.channels)} times."
            )

    @property
    def embedding_channels(self) -> int:
        """Width of the embeddings."""
        return 4 * self.channels[0]


class ResNetBlock(nn.Module):
    """Twice norm, swish and convolution, beside a convolution of width 1 (figure A.27)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            GroupNorm(in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.second = nn.Sequential(
            GroupNorm(out_channels),
            nn.SiLU(),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        return self.skip(x) + self.second(self.first(x))


class Block(nn.Module):
    """What both ways share: embeddings, residual blocks, attention.

    Args:
        in_channels: Width of the input, skip connection included.
        channels: Width of the output.
        num_res_blocks: How many residual blocks.
        config: Embedding width; attention.
        lowest: Whether it attends.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_res_blocks: int,
        config: EfficientUNetConfig,
        *,
        lowest: bool,
    ) -> None:
        super().__init__()
        self.combine = nn.Sequential(nn.SiLU(), nn.Linear(config.embedding_channels, in_channels))
        widths = [in_channels] + [channels] * num_res_blocks
        self.res_blocks = nn.Sequential(*(ResNetBlock(a, b) for a, b in itertools.pairwise(widths)))
        self.attention = _attention(config, channels) if lowest else None

    def forward(self, x: Tensor, emb: Tensor, context_kv: Iterator[Tensor] | None) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        x = self.res_blocks(x + self.combine(emb).to(x.dtype)[:, :, None, None])
        if self.attention is None:
            return x
        return self.attention(x, None if context_kv is None else next(context_kv))


class EfficientUNet(nn.Module):
    """Denoises an image; embeddings and the projected text come from outside."""

    def __init__(self, config: EfficientUNetConfig) -> None:
        super().__init__()
        self.config = config
        widths, numbers = config.channels, config.num_res_blocks
        last = len(widths) - 1
        self.first = kept_in_float32(nn.Conv2d(config.in_channels, widths[0], 3, padding=1))
        ins = [widths[0], *widths[:-1]]
        self.down_convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(ins, widths, strict=True)
        )
        self.down_blocks = nn.ModuleList(
            Block(width, width, number, config, lowest=level == last)
            for level, (width, number) in enumerate(zip(widths, numbers, strict=True))
        )
        self.up_blocks = nn.ModuleList(  # finest first; the lowest has no skip: it is its own
            Block(
                width if level == last else 2 * width, width, number, config, lowest=level == last
            )
            for level, (width, number) in enumerate(zip(widths, numbers, strict=True))
        )
        pixels = 4 if config.pixel_shuffle else 1
        self.up_convs = nn.ModuleList(
            nn.Conv2d(b, pixels * a, 3, padding=1) for a, b in zip(ins, widths, strict=True)
        )
        self.out = kept_in_float32(
            nn.Sequential(
                GroupNorm(2 * widths[0]),
                nn.SiLU(),
                zeroed(nn.Conv2d(2 * widths[0], config.out_channels, 3, padding=1)),
            )
        )

    def project_context(self, context: Float[Tensor, "batch context_channels length"]) -> ContextKV:
        """Return each attention's keys and values of text states, in the order of execution."""
        attending = (AttentionBlock, CrossAttentionBlock)
        blocks = [module for module in self.modules() if isinstance(module, attending)]
        return tuple(block.project_context(context) for block in blocks)

    def denoise(
        self,
        x: Float[Tensor, "batch in_channels height width"],
        emb: Float[Tensor, "batch embedding"],
        context_kv: ContextKV | None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network on its full input."""
        projected = None if context_kv is None else iter(context_kv)
        x = in_float32(self.first, x)
        maps = [x]
        for conv, block in zip(self.down_convs, self.down_blocks, strict=True):
            x = block(conv(x), emb, projected)
            maps.append(x)
        maps.pop()  # the lowest map is not joined to itself
        for level in reversed(range(len(self.up_blocks))):
            x = self.up_blocks[level](x, emb, projected)
            x = self._enlarged(x, self.up_convs[level])
            x = torch.cat([x, SKIP_SCALE * maps.pop()], dim=1)
        return in_float32(self.out, x)

    def _enlarged(self, x: Tensor, conv: nn.Module) -> Tensor:
        if self.config.pixel_shuffle:
            return F.pixel_shuffle(conv(x), 2)
        enlarged: Tensor = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return enlarged


def _attention(config: EfficientUNetConfig, channels: int) -> nn.Module | None:
    if config.self_attention:
        return AttentionBlock(
            channels,
            num_heads=config.num_heads,
            context_channels=config.context_channels,
            inner_channels=2 * channels,
        )
    if config.context_channels is None:
        return None
    return CrossAttentionBlock(
        channels, num_heads=config.num_heads, context_channels=config.context_channels
    )
