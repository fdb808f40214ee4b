"""The two-way cluster-robust variance, vote by vote and in loops, as the formula reads.

Cameron, Gelbach and Miller 2011, equation 2.11, with categories as strata. Dictionaries, no arrays.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

Vote = tuple[str, str, str, float, float]
"""Rater, prompt, category, numerator, denominator."""


def pooled_mean_and_variance(votes: Sequence[Vote]) -> tuple[float, float]:
    """The mean over votes, and its variance; categories are fixed."""
    total = sum(vote[4] for vote in votes)
    mean = sum(vote[3] for vote in votes) / total
    raw = [(y - mean * d) / total for _, _, _, y, d in votes]
    by_category: dict[str, list[float]] = defaultdict(list)
    for vote, value in zip(votes, raw, strict=True):
        by_category[vote[2]].append(value)
    centre = {name: sum(values) / len(values) for name, values in by_category.items()}
    moved = [value - centre[vote[2]] for vote, value in zip(votes, raw, strict=True)]
    raters = _term(votes, moved, lambda vote: (vote[0],))
    prompts = _term(votes, moved, lambda vote: (vote[1],))
    cells = _term(votes, moved, lambda vote: (vote[0], vote[1]))
    return mean, max(raters + prompts - cells, cells)


def _term(votes: Sequence[Vote], moved: Sequence[float], key) -> float:  # type: ignore[no-untyped-def]
    members: dict[str, set] = defaultdict(set)
    for vote in votes:
        members[vote[2]].add(key(vote))
    totals: dict[tuple, float] = defaultdict(float)
    for vote, value in zip(votes, moved, strict=True):
        clusters = len(members[vote[2]])
        totals[key(vote)] += value * (clusters / (clusters - 1)) ** 0.5
    return sum(value**2 for value in totals.values())
