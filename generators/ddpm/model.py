"""DDPM's U-Net (Ho et al. 2020, appendix B), in the layout of the weights the public can get.

Those are Google's TensorFlow weights as diffusers holds them, so the state-dict names are its, and
three habits of TensorFlow stay: a stride-2 convolution pads only right and below, group
normalisation has eps 1e-6, and the timestep's sines come before its cosines. Attention has one
head. Feature maps are (B, C, H, W), `emb` is the embedded timestep (B, 4 * model_channels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.attention import zeroed
from generators.nn.embeddings import sin_cos_embedding
from generators.nn.normalization import NUM_GROUPS, GroupNorm
from generators.nn.precision import in_float32, kept_in_float32
from generators.nn.settings import config_from_flat

EPS = 1e-6
OLD_ATTENTION_NAMES = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
"""Names in weights files from before diffusers renamed its attention."""


@dataclass(frozen=True, kw_only=True)
class DDPMConfig:
    """Sizes of the U-Net."""

    image_size: int
    """Edge of the images in px."""
    model_channels: int
    """Base width; level i is `channel_mult[i]` times as wide."""
    channel_mult: tuple[int, ...]
    """One entry a level, finest first."""
    num_res_blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up."""
    attention_levels: tuple[int, ...] = ()
    """Indices of the levels with attention; the middle always has it."""
    dropout: float = 0.0
    in_channels: int = 3
    out_channels: int = 3
    num_classes: int | None = None
    """Not in the paper: labels added to the embedded timestep."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DDPMConfig:
        """Read settings as JSON or TOML have them.

        Raises:
            ArchitectureError: A setting is unknown or missing.
        """
        return config_from_flat(cls, settings, "a DDPM network")

    def __post_init__(self) -> None:
        if not self.channel_mult or any(width % NUM_GROUPS for width in self.widths):
            raise ArchitectureError(
                f"Each level's width must be a multiple of {NUM_GROUPS}, got {self.widths}."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(mult * self.model_channels for mult in self.channel_mult)


class TimestepEmbedding(nn.Module):
    """Two linear layers on the sinusoids."""

    def __init__(self, channels: int, emb_channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, emb_channels)
        self.linear_2 = nn.Linear(emb_channels, emb_channels)

    def forward(self, sinusoids: Tensor) -> Tensor:
        """Map (B, C) to (B, 4C)."""
        return self.linear_2(F.silu(self.linear_1(sinusoids)))


class ResnetBlock(nn.Module):
    """Two convolutions with the timestep added between them, beside a skip."""

    def __init__(self, in_channels: int, out_channels: int, config: DDPMConfig) -> None:
        super().__init__()
        self.norm1 = GroupNorm(in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * config.model_channels, out_channels)
        self.norm2 = GroupNorm(out_channels, eps=EPS)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        changes = in_channels != out_channels
        self.conv_shortcut = nn.Conv2d(in_channels, out_channels, 1) if changes else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Attention(nn.Module):
    """Self-attention over positions with one head, beside a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = GroupNorm(channels, eps=EPS)
        self.to_q = nn.Linear(channels, channels)
        self.to_k = nn.Linear(channels, channels)
        self.to_v = nn.Linear(channels, channels)
        self.to_out = nn.ModuleList([zeroed(nn.Linear(channels, channels))])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        batch, channels, height, width = x.shape
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, T, C)
        q, k, v = self.to_q(tokens), self.to_k(tokens), self.to_v(tokens)
        attended = F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        out = self.to_out[0](attended).view(batch, height, width, channels)
        return x + out.permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Halves the resolution; pads right and below only, as TensorFlow's "same" does."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / 2, W / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Doubles the resolution by repetition, then convolves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class DownLevel(nn.Module):
    """The blocks of one resolution on the way down; `downsample`: to the next one."""

    def __init__(
        self, widths: list[tuple[int, int]], config: DDPMConfig, *, attends: bool, downsample: bool
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = _blocks(widths, config, attends=attends)
        channels = widths[-1][1]
        self.downsamplers = nn.ModuleList([Downsample(channels)]) if downsample else None

    def forward(self, x: Tensor, emb: Tensor) -> list[Tensor]:
        """Return the feature map after each block."""
        maps = []
        for index, resnet in enumerate(self.resnets):
            x = resnet(x, emb)
            x = x if self.attentions is None else self.attentions[index](x)
            maps.append(x)
        return maps if self.downsamplers is None else [*maps, self.downsamplers[0](x)]


class UpLevel(nn.Module):
    """The blocks of one resolution on the way up; `upsample`: to the next one."""

    def __init__(
        self, widths: list[tuple[int, int]], config: DDPMConfig, *, attends: bool, upsample: bool
    ) -> None:
        super().__init__()
        self.resnets, self.attentions = _blocks(widths, config, attends=attends)
        channels = widths[-1][1]
        self.upsamplers = nn.ModuleList([Upsample(channels)]) if upsample else None

    def forward(self, x: Tensor, maps: list[Tensor], emb: Tensor) -> Tensor:
        """Evaluate the level; its skip connections are popped from the end of `maps`."""
        for index, resnet in enumerate(self.resnets):
            x = resnet(torch.cat([x, maps.pop()], dim=1), emb)
            x = x if self.attentions is None else self.attentions[index](x)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class Middle(nn.Module):
    """Residual block, attention, residual block."""

    def __init__(self, channels: int, config: DDPMConfig) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels)])
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, config) for _ in range(2))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x, emb)), emb)


class DDPMUNet(nn.Module):
    """Predicts the noise in x_t."""

    def __init__(self, config: DDPMConfig) -> None:
        super().__init__()
        self.config = config
        emb_channels = 4 * config.model_channels
        self.time_embedding = TimestepEmbedding(config.model_channels, emb_channels)
        if config.num_classes is not None:
            self.class_embedding = nn.Embedding(config.num_classes, emb_channels)
        channels = config.widths[0]
        self.conv_in = kept_in_float32(nn.Conv2d(config.in_channels, channels, 3, padding=1))
        self.down_blocks, skip_widths = _way_down(config)
        self.mid_block = Middle(config.widths[-1], config)
        self.up_blocks = _way_up(config, skip_widths)
        self.conv_norm_out = GroupNorm(channels, eps=EPS)
        last = nn.Conv2d(channels, config.out_channels, 3, padding=1)
        self.conv_out = kept_in_float32(zeroed(last))

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DDPMUNet:
        """Build the network from flat settings; see `DDPMConfig.from_flat`."""
        return cls(DDPMConfig.from_flat(settings))

    def forward(
        self,
        x: Float[Tensor, "batch in_channels height width"],
        t: Shaped[Tensor, " batch"],
        y: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Evaluate the network on noisy images at timesteps `t`, with labels if it has classes."""
        emb = self._embed(t, y)
        maps = [in_float32(self.conv_in, x)]
        for level in self.down_blocks:
            maps += level(maps[-1], emb)
        h = self.mid_block(maps[-1], emb)
        for level in self.up_blocks:
            h = level(h, maps, emb)
        return in_float32(self.conv_out, F.silu(self.conv_norm_out(h)))

    def _embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        if (y is None) != (self.config.num_classes is None):
            raise ArchitectureError(
                "Labels y are required by a class-conditional network and accepted by no other; "
                f"num_classes is {self.config.num_classes}."
            )
        sinusoids = sin_cos_embedding(t, self.config.model_channels)
        emb = self.time_embedding(sinusoids.to(self.conv_in.weight.dtype))
        return emb if y is None else emb + self.class_embedding(y)


def current_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of old weights files to the current names."""
    renamed = {}
    for name, tensor in state_dict.items():
        parts = name.split(".")
        if "attentions" in parts:
            parts = [OLD_ATTENTION_NAMES.get(part, part) for part in parts]
        renamed[".".join(parts)] = tensor
    return renamed


def _blocks(
    widths: list[tuple[int, int]], config: DDPMConfig, *, attends: bool
) -> tuple[nn.ModuleList, nn.ModuleList | None]:
    resnets = nn.ModuleList(ResnetBlock(i, o, config) for i, o in widths)
    return resnets, nn.ModuleList(Attention(out) for _, out in widths) if attends else None


def _way_down(config: DDPMConfig) -> tuple[nn.ModuleList, list[int]]:
    channels = config.widths[0]
    levels, skip_widths = [], [channels]
    for index, width in enumerate(config.widths):
        widths = [(channels, width)] + [(width, width)] * (config.num_res_blocks - 1)
        is_last = index == len(config.widths) - 1
        attends = index in config.attention_levels
        levels.append(DownLevel(widths, config, attends=attends, downsample=not is_last))
        skip_widths += [width] * (config.num_res_blocks + (not is_last))
        channels = width
    return nn.ModuleList(levels), skip_widths


def _way_up(config: DDPMConfig, skip_widths: list[int]) -> nn.ModuleList:
    channels, skips, levels = config.widths[-1], list(skip_widths), []
    for index, width in reversed(list(enumerate(config.widths))):
        widths = []
        for _ in range(config.num_res_blocks + 1):
            widths.append((channels + skips.pop(), width))
            channels = width
        attends = index in config.attention_levels
        levels.append(UpLevel(widths, config, attends=attends, upsample=index > 0))
    return nn.ModuleList(levels)
