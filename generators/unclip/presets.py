"""The sizes of the paper's networks (Ramesh et al. 2022, table 3); their weights were not released.

docs/models/unclip.md derives the parameter counts and sets them beside the paper's rounded figures.
"""

from __future__ import annotations

from dataclasses import replace

from generators.glide.model import GlideConfig
from generators.glide.presets import PAPER_BASE as GLIDE_PAPER_BASE
from generators.nn.unet import UNetConfig
from generators.unclip.autoregressive import AutoregressivePriorConfig
from generators.unclip.decoder import DecoderConfig
from generators.unclip.prior import PriorConfig

PAPER_PRIOR = PriorConfig(
    embed_dim=1024, text_width=1024, text_ctx=256, width=2048, layers=24, heads=32
)
"""1.2 B parameters ("1 B"), nearly all of them in the 24 blocks."""

PAPER_PRIOR_AR = AutoregressivePriorConfig(
    embed_dim=1024,
    text_width=1024,
    text_ctx=256,
    num_components=319,
    num_buckets=1024,
    num_agreements=1024,
    width=1664,
    layers=24,
    heads=26,
)
"""0.8 B parameters ("1 B"): the table's latent decoder."""

PAPER_DECODER = DecoderConfig(
    glide=GlideConfig(
        unet=GLIDE_PAPER_BASE.unet,
        text=None
        if GLIDE_PAPER_BASE.text is None
        else replace(GLIDE_PAPER_BASE.text, text_ctx=256),
    ),
    embed_dim=1024,
)
"""64 px; 3.6 B parameters ("3.5 B"): GLIDE's base with a context of 256 tokens."""

PAPER_SR1 = GlideConfig(
    unet=UNetConfig(
        image_size=256,
        model_channels=320,
        out_channels=6,
        num_res_blocks=3,
        channel_mult=(1, 2, 3, 4),
        middle_attention=False,
        dropout=0.1,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ),
    text=None,
)
"""64 to 256 px; 0.73 B parameters ("700 M"). No attention anywhere, as the table says."""

PAPER_SR2 = GlideConfig(
    unet=replace(
        PAPER_SR1.unet,
        image_size=1024,
        model_channels=192,
        num_res_blocks=2,
        channel_mult=(1, 1, 2, 2, 4, 4),
        dropout=0.0,
    ),
    text=None,
)
"""256 to 1024 px; 0.28 B parameters ("300 M")."""
