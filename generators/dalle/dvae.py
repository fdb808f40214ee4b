"""DALL-E's discrete VAE: an image as a grid of codes (Ramesh et al. 2021, section 2.1, appendix A).

The encoder gives each place of a grid a distribution over a vocabulary, the decoder paints the
image from one code per position. Between them is a relaxation that gradients pass through, the
Gumbel-softmax: a blend of codes that its temperature tau makes ever closer to a single one. The
state-dict names are the released code's, so its weights load.

Units: `x` is in [0, 1], as in the released code; inside, pixels are in [0.1, 0.9], where the
logit-Laplace density has no poles.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from generators.errors import ArchitectureError
from generators.nn.settings import config_from_flat

LOGIT_LAPLACE_EPS = 0.1
"""Pixels are moved from [0, 1] to [eps, 1 - eps] (appendix A.3)."""
LARGEST_KERNEL = 7
"""Of the encoder's first convolution."""


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """Sizes of the encoder and the decoder, under the released code's names."""

    n_hid: int = 256
    """Width of the group at full resolution; each group further inside doubles it."""
    group_count: int = 4
    """Groups of blocks; between two of them the resolution halves (or doubles)."""
    n_blk_per_group: int = 2
    vocab_size: int = 8192
    """Number of codes."""
    input_channels: int = 3
    output_channels: int = 6
    """Twice the image's: mean and log-scale of each value."""
    n_init: int = 128
    """Width into which the decoder embeds a code."""

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DVAEConfig:
        """Read settings as JSON or TOML have them.

        Raises:
            ArchitectureError: A setting is unknown, or a size can't be built.
        """
        return config_from_flat(cls, settings, "a discrete VAE")

    def __post_init__(self) -> None:
        sizes = (self.group_count, self.n_blk_per_group, self.vocab_size, self.n_init)
        if min(sizes) < 1 or self.n_hid < 4 or self.n_hid % 4:
            raise ArchitectureError(
                f"A discrete VAE needs positive sizes and n_hid a multiple of 4, got {self}."
            )
        if self.input_channels < 1 or self.output_channels < 2 or self.output_channels % 2:
            raise ArchitectureError(
                "output_channels must be even, a mean and a log-scale for each value, got "
                f"{self.output_channels} for {self.input_channels} input_channels."
            )

    @property
    def factor(self) -> int:
        """Pixels to a place of the grid, along an edge."""
        return 2 ** (self.group_count - 1)

    @property
    def widths(self) -> list[int]:
        """Width of each group, the one at full resolution first."""
        return [2**index * self.n_hid for index in range(self.group_count)]

    @property
    def residual_gain(self) -> float:
        """What a block's branch is multiplied by: one over the squared number of blocks."""
        return 1 / (self.group_count * self.n_blk_per_group) ** 2


class Conv2d(nn.Module):
    """A convolution that keeps the size, its parameters named `w` and `b`."""

    def __init__(self, n_in: int, n_out: int, kernel: int) -> None:
        super().__init__()
        self.w = nn.Parameter(
            torch.randn(n_out, n_in, kernel, kernel) / math.sqrt(n_in * kernel**2)
        )
        self.b = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        return F.conv2d(x, self.w, self.b, padding=self.w.shape[-1] // 2)


class Block(nn.Module):
    """Four convolutions in a bottleneck of a quarter of the width, beside a skip."""

    def __init__(self, n_in: int, n_out: int, kernels: Iterable[int], gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.id_path = nn.Identity() if n_in == n_out else Conv2d(n_in, n_out, 1)
        widths = [n_in, *[n_out // 4] * 3, n_out]
        self.res_path = nn.Sequential()
        for index, kernel in enumerate(kernels):
            self.res_path.add_module(f"relu_{index + 1}", nn.ReLU())
            conv = Conv2d(widths[index], widths[index + 1], kernel)
            self.res_path.add_module(f"conv_{index + 1}", conv)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, H, W) to (B, n_out, H, W)."""
        return self.id_path(x) + self.gain * self.res_path(x)


class DVAEEncoder(nn.Module):
    """An image to the logits of a code for each place: 7x7 in, groups of blocks, 1x1 out."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.blocks = nn.Sequential()
        self.blocks.add_module("input", Conv2d(config.input_channels, widths[0], LARGEST_KERNEL))
        for index, (n_in, n_out) in enumerate(zip([widths[0], *widths], widths, strict=False)):
            group = _group(n_in, n_out, (3, 3, 3, 1), config)
            if index < config.group_count - 1:
                group.add_module("pool", nn.MaxPool2d(2))
            self.blocks.add_module(f"group_{index + 1}", group)
        self.blocks.add_module("output", _output(widths[-1], config.vocab_size))

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DVAEEncoder:
        """Build the network from flat settings; see `DVAEConfig.from_flat`."""
        return cls(DVAEConfig.from_flat(settings))

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch vocab rows columns"]:
        """Return the logits of the codes.

        Args:
            x: In [0, 1]; height and width are multiples of `config.factor`.

        Raises:
            ArchitectureError: Another number of channels, or a size that the grid doesn't divide.
        """
        factor, channels = self.config.factor, self.config.input_channels
        if x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            raise ArchitectureError(
                f"This encoder takes {channels} channels and edges of multiples of {factor}, got "
                f"{tuple(x.shape[1:])}."
            )
        return self.blocks(map_pixels(x))

    @torch.no_grad()
    def codes(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Int[Tensor, "batch rows columns"]:
        """Return the likeliest code of each position; no noise is added (section 2.2)."""
        return self(x).argmax(dim=1)


class DVAEDecoder(nn.Module):
    """Codes to the mean and log-scale of each pixel's logit-Laplace density."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths[::-1]
        self.blocks = nn.Sequential()
        self.blocks.add_module("input", Conv2d(config.vocab_size, config.n_init, 1))
        for index, (n_in, n_out) in enumerate(zip([config.n_init, *widths], widths, strict=False)):
            group = _group(n_in, n_out, (1, 3, 3, 3), config)
            if index < config.group_count - 1:
                group.add_module("upsample", nn.Upsample(scale_factor=2, mode="nearest"))
            self.blocks.add_module(f"group_{index + 1}", group)
        self.blocks.add_module("output", _output(widths[-1], config.output_channels))

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DVAEDecoder:
        """Build the network from flat settings; see `DVAEConfig.from_flat`."""
        return cls(DVAEConfig.from_flat(settings))

    def forward(
        self, codes: Int[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch statistics height width"]:
        """Return the statistics of codes: mu of each channel, then ln b."""
        embed = self.blocks[0]
        assert isinstance(embed, Conv2d)
        # a 1x1 convolution of one-hot vectors is a row of its weights
        embedded = F.embedding(codes, embed.w[:, :, 0, 0].t()) + embed.b  # (B, h, w, n_init)
        return self.blocks[1:](embedded.permute(0, 3, 1, 2))

    def from_blend(
        self, blend: Float[Tensor, "batch vocab rows columns"]
    ) -> Float[Tensor, "batch statistics height width"]:
        """Return the statistics of a mixture of codes, whose weights sum to 1 at each position."""
        return self.blocks(blend)

    @torch.no_grad()
    def reconstruction(
        self, codes: Int[Tensor, "batch rows columns"]
    ) -> Float[Tensor, "batch channels height width"]:
        """Return the image of codes, in [0, 1]: the median of the density."""
        mu = self(codes)[:, : self.config.output_channels // 2]
        return unmap_pixels(torch.sigmoid(mu.float()))


class DVAE(nn.Module):
    """Encoder and decoder, trained together."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        if config.output_channels != 2 * config.input_channels:
            raise ArchitectureError(
                f"output_channels is {config.output_channels}, expected twice input_channels "
                f"({config.input_channels})."
            )
        self.config = config
        self.encoder = DVAEEncoder(config)
        self.decoder = DVAEDecoder(config)

    @classmethod
    def from_flat(cls, settings: Mapping[str, Any]) -> DVAE:
        """Build the network from flat settings; see `DVAEConfig.from_flat`."""
        return cls(DVAEConfig.from_flat(settings))


def map_pixels(x: Tensor) -> Tensor:
    """Map [0, 1] to [0.1, 0.9].

    >>> map_pixels(torch.tensor([0.0, 0.5])).tolist()
    [0.10000000149011612, 0.5]
    """
    return (1 - 2 * LOGIT_LAPLACE_EPS) * x + LOGIT_LAPLACE_EPS


def unmap_pixels(x: Tensor) -> Tensor:
    """Invert `map_pixels` and clip to [0, 1]."""
    return ((x - LOGIT_LAPLACE_EPS) / (1 - 2 * LOGIT_LAPLACE_EPS)).clamp(0, 1)


def gumbel_softmax(
    logits: Float[Tensor, "batch vocab rows columns"],
    tau: float,
    rngs: Sequence[torch.Generator],
) -> Float[Tensor, "batch vocab rows columns"]:
    """Draw a relaxed sample of each position's code (Jang et al. 2016; Maddison et al. 2016).

    softmax((logits + g) / tau) with g standard Gumbel noise; one-hot samples as tau goes to 0.

    Args:
        logits: Of the codes.
        tau: Temperature, above 0.
        rngs: Sources of the noise, one per image, on the CPU.
    """
    drawn = [torch.empty(logits.shape[1:]).exponential_(generator=rng) for rng in rngs]
    exponential = torch.stack(drawn).to(logits.device)
    gumbel = -exponential.clamp(min=torch.finfo(torch.float32).tiny).log()
    return F.softmax((logits.float() + gumbel) / tau, dim=1)


def logit_laplace_nll(
    statistics: Float[Tensor, "batch statistics height width"],
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """Compute -ln of the logit-Laplace density of each value (appendix A.3, eq. 3), in nats.

    f(x | mu, b) = 1 / (2 b x (1 - x)) exp(-|logit(x) - mu| / b) on (0, 1).

    Args:
        statistics: mu and ln b, as the decoder gives them.
        x: In [0, 1]; mapped to [0.1, 0.9] here.

    >>> at_half = logit_laplace_nll(torch.zeros(1, 2, 1, 1), torch.full((1, 1, 1, 1), 0.5))
    >>> round(at_half.item(), 4)  # 1 / (2 * 1 * 0.25) = 2, and -ln 2 = -0.6931
    -0.6931
    """
    mu, log_b = statistics.float().chunk(2, dim=1)
    mapped = map_pixels(x)
    log_volume = math.log(2) + log_b + mapped.log() + (1 - mapped).log()
    return (mapped.logit() - mu).abs() * torch.exp(-log_b) + log_volume


def kl_from_uniform(
    logits: Float[Tensor, "batch vocab rows columns"],
) -> Float[Tensor, "batch rows columns"]:
    """Compute KL(q || uniform) at each position, in nats: ln K minus the entropy of q.

    >>> sure = torch.tensor([1e4, 0, 0, 0]).view(1, 4, 1, 1)
    >>> round(kl_from_uniform(sure).item(), 4)  # ln 4
    1.3863
    """
    log_q = F.log_softmax(logits.float(), dim=1)
    return (log_q.exp() * log_q).sum(dim=1) + math.log(logits.shape[1])


def usage_gap(logits: Float[Tensor, "batch vocab rows columns"]) -> Float[Tensor, ""]:
    """Compute KL(mean of q || uniform), in nats; 0 if all codes are used equally.

    The paper has no such term. A few hundred small steps end with a handful of codes for all
    without it, since each step moves the logits of a code everywhere at once; Yu et al. 2023
    (MAGVIT-2, section 3.1) reward the entropy of the mean code likewise.

    >>> one_code_each = 1e4 * torch.eye(4).view(1, 4, 2, 2)
    >>> round(usage_gap(one_code_each).item(), 4)
    0.0
    >>> round(usage_gap(one_code_each[:, :, :1, :1]).item(), 4)  # ln 4
    1.3863
    """
    mean = F.softmax(logits.float(), dim=1).mean(dim=(0, 2, 3))
    log_mean = mean.clamp(min=torch.finfo(torch.float32).tiny).log()  # a gradient at 0, too
    return (mean * log_mean).sum() + math.log(logits.shape[1])


@torch.no_grad()
def spread_codes(
    network: DVAE, x: Float[Tensor, "batch channels height width"], deviation: float
) -> None:
    """Initialise weights from the data (Salimans & Kingma 2016, section 3).

    Over the batch's places the logits of each code get mean 0 and the deviation given, so that
    many codes are chosen from the first step; embedded codes get a deviation of 1.

    Args:
        network: Untrained.
        x: Images in [0, 1].
        deviation: Of the logits.
    """
    logits = network.encoder(x)
    output = network.encoder.blocks[-1].get_submodule("conv")
    embed = network.decoder.blocks[0]
    assert isinstance(output, Conv2d)
    assert isinstance(embed, Conv2d)
    spread = logits.std(dim=(0, 2, 3))
    scale = deviation / spread.clamp(min=1e-2 * float(spread.mean()))
    output.w.mul_(scale[:, None, None, None])
    output.b.sub_(logits.mean(dim=(0, 2, 3))).mul_(scale)
    embed.w.mul_(math.sqrt(network.config.vocab_size))


def dvae_loss(
    network: DVAE,
    x: Float[Tensor, "batch channels height width"],
    *,
    tau: float,
    kl_weight: float,
    rngs: Sequence[torch.Generator],
    usage_weight: float = 0.0,
) -> Float[Tensor, ""]:
    """Compute the negative relaxed evidence lower bound (appendix A.2), in nats per value.

    The KL term is summed over the grid and, as the likelihood, divided by the number of values: at
    256 px and 32 x 32 places a weight of 6.6 counts as 6.6 / 192 of the mean over the places.

    Args:
        network: Both halves.
        x: Images in [0, 1].
        tau: Temperature of the relaxation.
        kl_weight: beta.
        rngs: Sources of the Gumbel noise, one per image, on the CPU.
        usage_weight: Of `usage_gap`; 0, the paper's loss, by default.
    """
    logits = network.encoder(x)
    statistics = network.decoder.from_blend(gumbel_softmax(logits, tau, rngs))
    values = x[0].numel()
    kl = kl_from_uniform(logits).sum(dim=(1, 2)) / values  # (B,)
    bound = logit_laplace_nll(statistics, x).mean() + kl_weight * kl.mean()
    return bound + usage_weight * usage_gap(logits) if usage_weight else bound


def cosine_decay(step: int, *, start: float, end: float, steps: int) -> float:
    """Follow half a cosine from `start` to `end` over `steps`, then stay (appendix A.2).

    >>> [round(cosine_decay(s, start=1, end=1 / 16, steps=4), 4) for s in (0, 2, 4, 9)]
    [1.0, 0.5312, 0.0625, 0.0625]
    """
    share = min(1.0, step / max(1, steps))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _group(n_in: int, n_out: int, kernels: Iterable[int], config: DVAEConfig) -> nn.Sequential:
    group = nn.Sequential()
    for index in range(config.n_blk_per_group):
        block = Block(n_in if index == 0 else n_out, n_out, kernels, config.residual_gain)
        group.add_module(f"block_{index + 1}", block)
    return group


def _output(width: int, channels: int) -> nn.Sequential:
    output = nn.Sequential()
    output.add_module("relu", nn.ReLU())
    output.add_module("conv", Conv2d(width, channels, 1))
    return output
