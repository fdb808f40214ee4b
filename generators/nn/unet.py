"""The U-Net of ADM and GLIDE, and its encoder half (the noisy-image classifier's trunk).

Dhariwal & Nichol 2021, section 3 and appendix: residual blocks with the timestep added or as scale
and shift, attention at chosen resolutions, optional resampling inside residual blocks. State-dict
names are those of the released code, so its weights load as they are.

Feature maps are (B, C, H, W); `emb` is the embedded timestep (B, 4 * model_channels). A context is
(B, W, L): text states that every attention block sees, each through keys and values of its own,
`context_kv`, one (B, L, 2C) for each attention block in the order of execution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.attention import AttentionBlock, zeroed
from generators.nn.embeddings import cos_sin_embedding
from generators.nn.normalization import NUM_GROUPS, GroupNorm
from generators.nn.precision import in_float32, is_kept_in_float32, kept_in_float32
from generators.nn.settings import config_from_flat

ContextKV = tuple[Tensor, ...]
"""Keys and values of a context, one (B, L, 2C) for each attention block."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Sizes and switches of a U-Net, under the released code's names."""

    image_size: int
    """Edge of the images in px; the network itself takes any size that halves often enough."""
    model_channels: int
    """Base width; level i is `channel_mult[i]` times as wide."""
    out_channels: int
    """3, or 6 where the variance is learned."""
    num_res_blocks: int
    """Residual blocks a level on the way down; one more on the way up."""
    channel_mult: tuple[float, ...]
    """One entry a level, finest first."""
    in_channels: int = 3
    attention_downsamples: tuple[int, ...] = ()
    """Levels with attention, as factors of downsampling (1 is full resolution)."""
    middle_attention: bool = True
    """The released networks always attend at the coarsest level."""
    dropout: float = 0.0
    num_classes: int | None = None
    num_heads: int = 1
    num_head_channels: int = -1
    """Width of a head; -1: as `num_heads` gives."""
    num_heads_upsample: int = -1
    """Number of heads on the way up; -1: `num_heads`. Unused where the width of a head is given."""
    use_scale_shift_norm: bool = False
    resblock_updown: bool = False
    """Resample inside residual blocks rather than by a (strided) convolution."""
    conv_resample: bool = True
    """Where not inside residual blocks: with a convolution, or by plain pooling and repetition."""
    use_new_attention_order: bool = False
    context_channels: int | None = None
    """Width of the text states; None: attention sees the image alone."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> UNetConfig:
        """Read settings as JSON or TOML have them.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        return config_from_flat(cls, settings, "a U-Net")

    def __post_init__(self) -> None:
        widths = [self.width(mult) for mult in self.channel_mult]
        if not widths or any(width <= 0 or width % NUM_GROUPS for width in widths):
            raise ArchitectureError(
                f"Each level's width must be a positive multiple of {NUM_GROUPS}, got {widths}. "
                "Change model_channels or channel_mult."
            )
        for width in widths:
            for heads in (self.heads(width), self.heads(width, up=True)):
                if heads < 1 or width % heads:
                    raise ArchitectureError(
                        f"A width of {width} cannot be split into {heads} heads. "
                        "Change num_heads or num_head_channels."
                    )

    @property
    def embedding_channels(self) -> int:
        """Width of the embedded timestep."""
        return 4 * self.model_channels

    def width(self, mult: float) -> int:
        """Return the channels of a level."""
        return int(mult * self.model_channels)

    def heads(self, channels: int, *, up: bool = False) -> int:
        """Return the number of attention heads for a width."""
        if self.num_head_channels != -1:
            return channels // self.num_head_channels
        return self.num_heads_upsample if up and self.num_heads_upsample != -1 else self.num_heads


class Downsample(nn.Module):
    """Halves the resolution: a strided convolution, or the mean of 2 x 2."""

    def __init__(self, channels: int, *, with_conv: bool) -> None:
        super().__init__()
        self.op = (
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) if with_conv else nn.AvgPool2d(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / 2, W / 2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Doubles the resolution by repetition, with a convolution behind it or without."""

    def __init__(self, channels: int, *, with_conv: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if self.conv is None else self.conv(x)


class ResBlock(nn.Module):
    """A residual block that knows the timestep, and may change width or resolution.

    Args:
        in_channels: Width of the input.
        out_channels: Width of the output.
        config: Embedding width, dropout, scale-shift.
        resample: Applied to both branches, between normalisation and convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        config: UNetConfig,
        resample: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = config.use_scale_shift_norm
        self.resample = resample
        self.in_layers = nn.Sequential(
            GroupNorm(in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        emb_width = 2 * out_channels if self.scale_shift else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(config.embedding_channels, emb_width))
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1)
        )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W')."""
        norm, activation, conv = self.in_layers
        h = activation(norm(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = conv(h)
        shift_of_t = self.emb_layers(emb).to(h.dtype)[:, :, None, None]  # (B, C' or 2C', 1, 1)
        if self.scale_shift:
            scale, shift = shift_of_t.chunk(2, dim=1)
            h = torch.addcmul(shift, self.out_layers[0](h), 1 + scale)
            h = self.out_layers[1:](h)
        else:
            h = self.out_layers(h + shift_of_t)
        return self.skip_connection(x) + h


class TimestepEmbedSequential(nn.Sequential):
    """Layers in sequence, each called with the inputs that its kind takes."""

    def forward(  # type: ignore[override]
        self, x: Tensor, emb: Tensor, context_kv: Iterator[Tensor] | None
    ) -> Tensor:
        """Map (B, C, H, W) to (B, C', H', W'); each attention takes the next of `context_kv`."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            elif isinstance(layer, AttentionBlock):
                x = layer(x, None if context_kv is None else next(context_kv))
            elif is_kept_in_float32(layer):
                x = in_float32(layer, x)
            else:
                x = layer(x)
        return x


class UNetEncoder(nn.Module):
    """The way down and the middle; `UNet` and the classifier build on it."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.time_embed = nn.Sequential(
            nn.Linear(config.model_channels, config.embedding_channels),
            nn.SiLU(),
            nn.Linear(config.embedding_channels, config.embedding_channels),
        )
        channels = config.width(config.channel_mult[0])
        first = kept_in_float32(nn.Conv2d(config.in_channels, channels, 3, padding=1))
        blocks = [TimestepEmbedSequential(first)]
        self.skip_widths = [channels]
        last_level = len(config.channel_mult) - 1
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                block = ResBlock(channels, config.width(mult), config)
                channels = config.width(mult)
                blocks.append(
                    TimestepEmbedSequential(block, *_attention(config, channels, 2**level))
                )
                self.skip_widths.append(channels)
            if level != last_level:
                blocks.append(TimestepEmbedSequential(_downsampling(channels, config)))
                self.skip_widths.append(channels)
        self.input_blocks = nn.ModuleList(blocks)
        middle_attention = [_attention_block(config, channels)] if config.middle_attention else []
        self.middle_block = TimestepEmbedSequential(
            ResBlock(channels, channels, config),
            *middle_attention,
            ResBlock(channels, channels, config),
        )
        self.middle_channels = channels

    def embed_timestep(self, t: Tensor) -> Tensor:
        """Map (B,) to (B, 4 * model_channels)."""
        sinusoids = cos_sin_embedding(t, self.config.model_channels)
        return self.time_embed(sinusoids.to(next(self.time_embed.parameters()).dtype))

    def encode(
        self, x: Tensor, emb: Tensor, context_kv: Iterator[Tensor] | None = None
    ) -> list[Tensor]:
        """Return the feature map after each input block, finest first."""
        maps: list[Tensor] = []
        for block in self.input_blocks:
            x = block(x, emb, context_kv)
            maps.append(x)
        return maps


class UNet(UNetEncoder):
    """Predicts the noise (and the variance) of x_t; class labels and text are optional."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, config.embedding_channels)
        channels, skip_widths = self.middle_channels, list(self.skip_widths)
        blocks: list[TimestepEmbedSequential] = []
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for index in range(config.num_res_blocks + 1):
                block = ResBlock(channels + skip_widths.pop(), config.width(mult), config)
                channels = config.width(mult)
                layers = [block, *_attention(config, channels, 2**level, up=True)]
                if level and index == config.num_res_blocks:
                    layers.append(_upsampling(channels, config))
                blocks.append(TimestepEmbedSequential(*layers))
        self.output_blocks = nn.ModuleList(blocks)
        self.out = kept_in_float32(
            nn.Sequential(
                GroupNorm(channels),
                nn.SiLU(),
                zeroed(nn.Conv2d(channels, config.out_channels, 3, padding=1)),
            )
        )

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> UNet:
        """Build the network from flat settings; see `UNetConfig.from_flat`."""
        return cls(UNetConfig.from_flat(settings))

    def project_context(self, context: Float[Tensor, "batch context_channels length"]) -> ContextKV:
        """Return every attention block's keys and values of text states, valid for all t."""
        attention = [module for module in self.modules() if isinstance(module, AttentionBlock)]
        return tuple(block.project_context(context) for block in attention)

    def forward(
        self,
        x: Float[Tensor, "batch in_channels height width"],
        t: Shaped[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
        *,
        extra_emb: Float[Tensor, "batch embedding"] | None = None,
        context_kv: ContextKV | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network.

        Args:
            x: Noisy images x_t.
            t: The timesteps the network was trained with (not indices into a respaced process).
            y: Class labels, where the network is class-conditional.
            extra_emb: Added to the embedded timestep (pooled text).
            context_kv: What `project_context` made of the text states.
        """
        if (y is None) != (self.config.num_classes is None):
            raise ArchitectureError(
                "Labels y are required by a class-conditional network and accepted by no other; "
                f"num_classes is {self.config.num_classes}."
            )
        emb = self.embed_timestep(t)
        if y is not None:
            emb = emb + self.label_emb(y)
        if extra_emb is not None:
            emb = emb + extra_emb.to(emb.dtype)
        remaining_kv = None if context_kv is None else iter(context_kv)
        maps = self.encode(x, emb, remaining_kv)
        h = self.middle_block(maps[-1], emb, remaining_kv)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, maps.pop()], dim=1), emb, remaining_kv)
        return in_float32(self.out, h)


def enlarge(low_res: Tensor, like: Tensor) -> Tensor:
    """Enlarge bilinearly, corners not aligned, to the height and width of `like`."""
    size = (like.shape[2], like.shape[3])
    return F.interpolate(low_res.to(like.dtype), size, mode="bilinear", align_corners=False)


def _attention(
    config: UNetConfig, channels: int, downsample: int, *, up: bool = False
) -> list[AttentionBlock]:
    if downsample not in config.attention_downsamples:
        return []
    return [_attention_block(config, channels, up=up)]


def _attention_block(config: UNetConfig, channels: int, *, up: bool = False) -> AttentionBlock:
    return AttentionBlock(
        channels,
        num_heads=config.heads(channels, up=up),
        new_order=config.use_new_attention_order,
        context_channels=config.context_channels,
    )


def _downsampling(channels: int, config: UNetConfig) -> nn.Module:
    if config.resblock_updown:
        return ResBlock(channels, channels, config, Downsample(channels, with_conv=False))
    return Downsample(channels, with_conv=config.conv_resample)


def _upsampling(channels: int, config: UNetConfig) -> nn.Module:
    if config.resblock_updown:
        return ResBlock(channels, channels, config, Upsample(channels, with_conv=False))
    return Upsample(channels, with_conv=config.conv_resample)
