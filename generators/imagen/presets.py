"""The sizes of the paper's networks (Saharia et al. 2022, appendix F); weights were not released.

docs/models/imagen.md derives the parameter counts and sets them beside the paper's rounded figures.
"""

from __future__ import annotations

from dataclasses import replace

from generators.imagen.model import ImagenConfig
from generators.nn.efficient_unet import EfficientUNetConfig
from generators.nn.unet import UNetConfig

T5_XXL = "google/t5-v1_1-xxl"
"""The paper's text encoder: 4.6 B parameters, states of 4,096."""
T5_XXL_WIDTH = 4096

PAPER_BASE = ImagenConfig(
    unet=UNetConfig(
        image_size=64,
        model_channels=512,
        out_channels=3,
        num_res_blocks=3,
        channel_mult=(1, 2, 3, 4),
        attention_downsamples=(2, 4, 8),
        num_head_channels=64,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ),
    text_width=T5_XXL_WIDTH,
)
"""64 px ("2 B"); cosine schedule, predicts eps."""

SR1_UNET = EfficientUNetConfig(
    image_size=256,
    channels=(128, 256, 512, 1024),
    num_res_blocks=(2, 4, 8, 8),
    num_heads=8,
)
PAPER_SR1 = ImagenConfig(unet=SR1_UNET, text_width=T5_XXL_WIDTH)
"""64 to 256 px ("600 M"); cosine schedule."""

PAPER_SR2 = ImagenConfig(
    unet=replace(SR1_UNET, image_size=1024, self_attention=False), text_width=T5_XXL_WIDTH
)
"""256 to 1024 px ("400 M"); linear schedule, trained on crops of 256 px."""
