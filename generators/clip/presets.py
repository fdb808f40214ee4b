"""The sizes of the published CLIPs; docs/models/clip.md derives their parameter counts.

Weights of the first three come through open_clip; unCLIP's was never released.
"""

from __future__ import annotations

from generators.clip.model import ClipConfig

VOCABULARY = 49_408
CONTEXT = 77


def _openai(*, patch_size: int, width: int, layers: int, text_width: int, dim: int) -> ClipConfig:
    """Build a configuration of Radford et al. 2021, table 20: heads of 64, 12 text layers."""
    return ClipConfig(
        image_size=224,
        patch_size=patch_size,
        vision_width=width,
        vision_layers=layers,
        vision_heads=width // 64,
        vocab_size=VOCABULARY,
        context_length=CONTEXT,
        text_width=text_width,
        text_layers=12,
        text_heads=text_width // 64,
        embed_dim=dim,
    )


VIT_B_32 = _openai(patch_size=32, width=768, layers=12, text_width=512, dim=512)
VIT_B_16 = _openai(patch_size=16, width=768, layers=12, text_width=512, dim=512)
VIT_L_14 = _openai(patch_size=14, width=1024, layers=24, text_width=768, dim=768)

UNCLIP_VIT_H_16 = ClipConfig(
    image_size=256,
    patch_size=16,
    vision_width=1280,
    vision_layers=32,
    vision_heads=16,
    vocab_size=VOCABULARY,
    context_length=256,
    text_width=1024,
    text_layers=24,
    text_heads=16,
    embed_dim=1024,
)
"""Ramesh et al. 2022, appendix C; the paper names neither its heads nor its vocabulary."""

PRESETS = {
    "ViT-B/32": VIT_B_32,
    "ViT-B/16": VIT_B_16,
    "ViT-L/14": VIT_L_14,
    "unCLIP ViT-H/16": UNCLIP_VIT_H_16,
}
