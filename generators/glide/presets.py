"""GLIDE's configurations: the released networks, the paper's, and small ones of our own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from generators.diffusion.process import DiffusionProcess
from generators.diffusion.schedules import Schedule
from generators.glide.model import GlideConfig, TextConfig
from generators.nn.unet import UNetConfig

VOCABULARY_SIZE = 50_257
CONTEXT_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class GlideStage:
    """A network and the process it was trained with."""

    network: GlideConfig
    schedule: Schedule
    num_steps: int = 1000

    def process(self) -> DiffusionProcess:
        """All timesteps; the variance is always learned."""
        return DiffusionProcess.from_schedule(self.schedule, self.num_steps)


@dataclass(frozen=True, kw_only=True)
class GlidePreset:
    """The two networks of a system."""

    base: GlideStage
    upsampler: GlideStage


RELEASED_TEXT = TextConfig(
    n_vocab=VOCABULARY_SIZE, text_ctx=CONTEXT_LENGTH, xf_width=512, xf_layers=16, xf_heads=8
)
RELEASED_BASE = GlideConfig(
    unet=UNetConfig(
        image_size=64,
        model_channels=192,
        out_channels=6,
        num_res_blocks=3,
        channel_mult=(1, 2, 3, 4),
        attention_downsamples=(2, 4, 8),
        dropout=0.1,
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ),
    text=RELEASED_TEXT,
)
"""64 px, 385 M parameters; trained on filtered images (the released model card)."""

RELEASED_UPSAMPLER = GlideConfig(
    unet=replace(
        RELEASED_BASE.unet,
        image_size=256,
        num_res_blocks=2,
        channel_mult=(1, 1, 2, 2, 4, 4),
        attention_downsamples=(8, 16, 32),
    ),
    text=RELEASED_TEXT,
)
"""64 to 256 px, 398 M parameters."""

PAPER_BASE = GlideConfig(
    unet=replace(RELEASED_BASE.unet, model_channels=512),
    text=replace(RELEASED_TEXT, xf_width=2048, xf_layers=24, xf_heads=32),
)
"""3.5 B parameters (section 4.1); never released."""

PAPER_UPSAMPLER = GlideConfig(
    unet=replace(RELEASED_UPSAMPLER.unet, model_channels=384),
    text=replace(RELEASED_TEXT, xf_width=1024, xf_layers=24, xf_heads=16),
)
"""1.5 B parameters (section 4.1); never released."""

RELEASED = GlidePreset(
    base=GlideStage(network=RELEASED_BASE, schedule="cosine"),
    upsampler=GlideStage(network=RELEASED_UPSAMPLER, schedule="linear"),
)
PAPER = GlidePreset(
    base=GlideStage(network=PAPER_BASE, schedule="cosine"),
    upsampler=GlideStage(network=PAPER_UPSAMPLER, schedule="linear"),
)


def tiny_text(
    n_vocab: int, *, text_ctx: int = 32, width: int = 128, layers: int = 4, heads: int = 4
) -> TextConfig:
    """A text encoder for a small vocabulary of our own."""
    return TextConfig(
        n_vocab=n_vocab, text_ctx=text_ctx, xf_width=width, xf_layers=layers, xf_heads=heads
    )


def tiny_base(
    text: TextConfig,
    *,
    image_size: int = 32,
    model_channels: int = 64,
    channel_mult: tuple[float, ...] = (1, 2, 2),
    num_res_blocks: int = 1,
    attention_downsamples: tuple[int, ...] = (2, 4),
    num_head_channels: int = 32,
    dropout: float = 0.0,
) -> GlideConfig:
    """A base network that two CPU cores can train."""
    unet = UNetConfig(
        image_size=image_size,
        model_channels=model_channels,
        out_channels=6,
        num_res_blocks=num_res_blocks,
        channel_mult=channel_mult,
        attention_downsamples=attention_downsamples,
        dropout=dropout,
        num_head_channels=num_head_channels,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    return GlideConfig(unet=unet, text=text)


def tiny_upsampler(
    text: TextConfig | None = None,
    *,
    image_size: int = 64,
    model_channels: int = 32,
    channel_mult: tuple[float, ...] = (1, 2, 2),
    num_res_blocks: int = 1,
) -> GlideConfig:
    """An upsampler without attention (and, by default, without text), for speed."""
    unet = UNetConfig(
        image_size=image_size,
        model_channels=model_channels,
        out_channels=6,
        num_res_blocks=num_res_blocks,
        channel_mult=channel_mult,
        middle_attention=text is not None,
        num_head_channels=32,
        use_scale_shift_norm=True,
        resblock_updown=True,
    )
    return GlideConfig(unet=unet, text=text)
