"""The sizes of the paper's networks (Ramesh et al. 2022, table 3); their weights were not released.

docs/models.md derives the parameter counts and sets them beside the paper's rounded figures.
"""

from __future__ import annotations

from generators.unclip.autoregressive import AutoregressivePriorConfig
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
