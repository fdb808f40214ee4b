"""GLIDE's configurations: the released networks and the paper's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from generators.diffusion.process import DiffusionProcess
from generators.diffusion.schedules import Schedule
from generators.glide.model import GlideConfig, TextConfig
from generators.nn.unet import UNetConfig

VOCABULARY_SIZE = 50_257
CONTEXT_LENGTH = 128


@dataclass(frozen=True, kw_only=True)
class NetworkPreset:
    """A network's sizes and the process that it was trained with."""

    network: GlideConfig
    schedule: Schedule
    num_steps: int = 1000

    def process(self) -> DiffusionProcess:
        """Return the process with all timesteps; its variance is learned."""
        return DiffusionProcess.from_schedule(self.schedule, self.num_steps)


@dataclass(frozen=True, kw_only=True)
class GlidePreset:
    """The two networks of a system."""

    base: NetworkPreset
    upsampler: NetworkPreset


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
    base=NetworkPreset(network=RELEASED_BASE, schedule="cosine"),
    upsampler=NetworkPreset(network=RELEASED_UPSAMPLER, schedule="linear"),
)
PAPER = GlidePreset(
    base=NetworkPreset(network=PAPER_BASE, schedule="cosine"),
    upsampler=NetworkPreset(network=PAPER_UPSAMPLER, schedule="linear"),
)
