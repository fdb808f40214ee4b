"""The models of a set of votes that can be ranked on one scale.

Strengths exist for models that are linked by wins in both directions (Ford 1957): each beats or
ties a model that does, in some number of steps, the same to each other one. A model outside won or
lost every vote against them, so its strength would be infinite, or it never met them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drawbench.stats.effective import Floats

Indices = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class UnrankedModel:
    """A model without a place, and the reason."""

    model: str
    num_votes: int
    """Against any model."""
    reason: str


def linked_models(first: Indices, second: Indices, score: Floats, size: int) -> Indices:
    """Return the largest set of models that are linked in both directions.

    Of sets of one size, the one with more votes between its models is returned.

    Args:
        first: First model of each vote, from 0 to `size` - 1.
        second: Second model of each vote.
        score: 1 if the first won, 1/2 for a tie, 0 if the second won.
        size: Number of models.

    >>> beats = np.array([0, 1, 0]), np.array([1, 0, 2])
    >>> linked_models(*beats, np.array([1.0, 1.0, 1.0]), 3).tolist()
    [0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    winners = np.concatenate([first[score > 0], second[score < 1]])
    losers = np.concatenate([second[score > 0], first[score < 1]])
    graph = coo_array((np.ones(len(winners)), (winners, losers)), shape=(size, size))
    count, group = connected_components(graph.tocsr(), directed=True, connection="strong")
    inside = group[first] == group[second]
    votes = np.bincount(group[first[inside]], minlength=count)
    sizes = np.bincount(group, minlength=count)
    best = max(range(count), key=lambda number: (sizes[number], votes[number]))
    linked: Indices = np.flatnonzero(group == best)
    return linked


def unranked_models(
    first: Indices, second: Indices, score: Floats, names: Sequence[str], linked: Indices
) -> tuple[UnrankedModel, ...]:
    """Return the models that are not linked to the others, each with its reason."""
    ranked = np.isin(np.arange(len(names)), linked)
    found = []
    for number in np.flatnonzero(~ranked).tolist():
        as_first = (first == number) & ranked[second]
        as_second = (second == number) & ranked[first]
        wins = (score[as_first] > 0).sum() + (score[as_second] < 1).sum()
        votes = int(as_first.sum() + as_second.sum())
        found.append(
            UnrankedModel(
                model=names[number],
                num_votes=int(((first == number) | (second == number)).sum()),
                reason=_reason(votes, won=wins > 0),
            )
        )
    return tuple(found)


def _reason(votes: int, *, won: bool) -> str:
    if not votes:
        return "never compared with the ranked models"
    return f"{votes} vote{'s' if votes > 1 else ''}, {'won' if won else 'lost'} all"
