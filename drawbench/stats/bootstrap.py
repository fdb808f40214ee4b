"""The two-way bootstrap: raters and prompts are resampled together (Owen 2007).

It counts the noise of single votes more than once, so its intervals are slightly too wide. It is
reported next to the intervals of `drawbench.stats.clustered` as a check without formulas.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drawbench.stats.clustered import LEVEL, Codes, Layout, Pooling
from drawbench.stats.effective import Floats
from evalkit.core.intervals import percentile_interval as percentile_ends
from evalkit.core.results import Interval

RESAMPLES = 2000
METHOD_BOTH = "two-way bootstrap over raters and prompts, percentile"
METHOD_ONE = "bootstrap over {}, percentile"


class TwoWayResampler:
    """Weights of raters and prompts in many resamples of one layout.

    Prompts are drawn within their category; raters within theirs if each has only one, else among
    all. The draws are shared by every quantity computed from one resampler.
    """

    def __init__(self, layout: Layout, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.layout = layout
        prompt_stratum = _first_of(layout.prompt, layout.strata)
        self.rater_counts = _draw(_rater_strata(layout), resamples, rng)
        self.prompt_counts = _draw(prompt_stratum, resamples, rng)
        self._prompt_category = _first_of(layout.prompt, layout.category)

    def totals(self, values: Floats) -> Floats:
        """Compute resampled sums of a value per vote by category, (resamples, categories)."""
        shape = (self.layout.num_raters, self.layout.num_prompts)
        flat = self.layout.rater * shape[1] + self.layout.prompt
        table = np.bincount(flat, values, minlength=shape[0] * shape[1]).reshape(shape)
        by_prompt = (self.rater_counts @ table) * self.prompt_counts
        indicator = np.eye(self.layout.num_categories)[self._prompt_category]
        sums: Floats = by_prompt @ indicator
        return sums

    def means(
        self, numerator: Floats, denominator: Floats, *, pooling: Pooling = "votes"
    ) -> Floats:
        """Compute resampled `sum(numerator) / sum(denominator)`; NaN where the denominator is 0."""
        num, den = self.totals(numerator), self.totals(denominator)
        if pooling == "votes":
            num, den = num.sum(axis=1, keepdims=True), den.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Floats = (num / den).mean(axis=1)
        return means

    @property
    def method(self) -> str:
        """What was resampled, in words: with one rater only prompts, with one prompt only raters.

        With one of each nothing varies, and there is no interval to name.
        """
        sampled = self.layout.sampled
        return METHOD_ONE.format(f"{sampled[0]}s") if len(sampled) == 1 else METHOD_BOTH

    def vote_counts(self) -> Floats:
        """Return how often each vote is drawn, (resamples, votes)."""
        counts: Floats = (
            self.rater_counts[:, self.layout.rater] * self.prompt_counts[:, self.layout.prompt]
        )
        return counts


def percentile_interval(
    resampled: Floats, *, level: float = LEVEL, method: str = METHOD_BOTH
) -> Interval | None:
    """Return the central `level` of resampled values.

    None where too many could not be computed, and where they are all equal: votes that do not vary
    show nothing of how others would.
    """
    usable = resampled[np.isfinite(resampled)]
    if usable.size < resampled.size / 2:
        return None
    low, high = percentile_ends(usable, level=level)
    if low == high:
        return None
    return Interval(low=low, high=high, level=level, method=method)


def _draw(strata: Codes, resamples: int, rng: np.random.Generator) -> Floats:
    """Draw counts per unit: within each stratum as many draws as it has units."""
    counts = np.empty((resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        shares = np.full(len(members), 1 / len(members))
        counts[:, members] = rng.multinomial(len(members), shares, size=resamples)
    return counts


def _rater_strata(layout: Layout) -> Codes:
    nested = (
        np.unique(np.stack([layout.rater, layout.strata]), axis=1).shape[1] == layout.num_raters
    )
    return (
        _first_of(layout.rater, layout.strata) if nested else np.zeros(layout.num_raters, np.intp)
    )


def _first_of(clusters: Codes, labels: NDArray[np.intp]) -> Codes:
    """Return the label of each cluster's first vote."""
    return labels[np.unique(clusters, return_index=True)[1]]
