"""One analysis that the tests of the report share."""

from __future__ import annotations

import pytest

from drawbench.simulation.raters import SimulatedPanel, simulate_votes
from drawbench.stats.analysis import Analysis, Options, analyse

SIZES = {"Colors": 5, "Text": 4}


@pytest.fixture(scope="package")
def analysis() -> Analysis:
    """Two questions, two categories, some lazy raters; three models' worth is in another test."""
    panel = SimulatedPanel(
        strengths={"imagen": 0.5, "glide": 0.0},
        category_effects={"Text": -1.0},
        lazy_share=0.2,
        seed=3,
    )
    votes = simulate_votes(panel, sizes=SIZES, raters_per_category=12)
    votes["prompt"] = "prompt " + votes["prompt_id"]
    return analyse(votes, options=Options(resamples=200))
