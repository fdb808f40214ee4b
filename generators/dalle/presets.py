"""The sizes of the paper's networks (Ramesh et al. 2021, sections 2.1 and 2.2, appendix B).

docs/models/dalle.md derives the parameter counts and sets them beside the paper's rounded figures.
"""

from __future__ import annotations

from generators.dalle.dvae import DVAEConfig
from generators.dalle.model import DalleConfig

PAPER_DVAE = DVAEConfig(n_hid=256, group_count=4, n_blk_per_group=2, vocab_size=8192, n_init=128)
"""256 px to 32 x 32 codes; the one part that was released."""

PAPER_TRANSFORMER = DalleConfig(
    text_vocab=16_384,
    text_length=256,
    image_vocab=8192,
    grid_size=32,
    width=3968,
    layers=64,
    heads=62,
    kernel_size=11,
)
"""12.09 B parameters in its blocks ("12 B")."""

PAPER_CANDIDATES = 512
"""Samples a caption, of which CLIP keeps the best (section 2.6)."""
