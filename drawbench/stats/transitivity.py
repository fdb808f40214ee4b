"""Intransitive triples: A beats B, B beats C, C beats A.

A ranking on one scale can't show such a cycle. Chance makes cycles where models are close, so a
triple is beyond chance only if all three win rates exclude 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import pandas as pd

from drawbench.stats.clustered import LEVEL
from drawbench.stats.preference import preference, split_pairs
from evalkit.core.intervals import check_level


@dataclass(frozen=True, kw_only=True)
class IntransitiveTriple:
    """Three models of which each beats the next, and the last beats the first."""

    models: tuple[str, str, str]
    """Each beats the next; the alphabetically first model leads."""
    win_rates: tuple[float, float, float]
    """Of each model against the next, above 1/2, with ties as half a win."""
    beyond_chance: bool
    """Whether all three intervals exclude 1/2."""


@dataclass(frozen=True, kw_only=True)
class Transitivity:
    """The triples of models of one question."""

    question: str
    num_triples: int
    """Triples in which each pair was compared."""
    intransitive: tuple[IntransitiveTriple, ...]

    @property
    def num_beyond_chance(self) -> int:
        """Number of intransitive triples that chance does not explain."""
        return sum(triple.beyond_chance for triple in self.intransitive)


def transitivity(votes: pd.DataFrame, *, level: float = LEVEL) -> Transitivity:
    """Find the intransitive triples of one question.

    Args:
        votes: Votes on one question, any number of pairs.
        level: Of the win rates' intervals.

    Raises:
        NoVotesError: `votes` is empty.
        ConfigError: A level outside (0, 1).
    """
    check_level(level)
    tables = {frozenset(pair): table for pair, table in split_pairs(votes)}
    rates: Rates = {}
    for pair, table in split_pairs(votes):
        rates[pair] = _win_rate(table)
        rates[pair[::-1]] = 1 - rates[pair]
    names = sorted({name for pair in rates for name in pair})
    triples = [
        triple
        for triple in combinations(names, 3)
        if all(pair in rates for pair in combinations(triple, 2))
    ]
    cycles = [cycle for triple in triples if (cycle := _cycle(triple, rates)) is not None]
    return Transitivity(
        question=str(votes["question"].iloc[0]),
        num_triples=len(triples),
        intransitive=tuple(
            IntransitiveTriple(
                models=cycle,
                win_rates=_win_rates(cycle, rates),
                beyond_chance=all(
                    preference(tables[frozenset(step)], level=level).winner is not None
                    for step in _steps(cycle)
                ),
            )
            for cycle in cycles
        ),
    )


Triple = tuple[str, str, str]
Steps = tuple[tuple[str, str], tuple[str, str], tuple[str, str]]
Rates = dict[tuple[str, str], float]


def _win_rate(votes: pd.DataFrame) -> float:
    """Return the first model's share of votes, a tie counting half."""
    return float(((votes["answer"] == "a") + (votes["answer"] == "tie") / 2).mean())


def _cycle(triple: Triple, rates: Rates) -> Triple | None:
    """Return the triple in the order of its cycle; None if it has none."""
    for order in (triple, (triple[0], triple[2], triple[1])):
        if min(_win_rates(order, rates)) > 0.5:
            return order
    return None


def _win_rates(cycle: Triple, rates: Rates) -> tuple[float, float, float]:
    one, two, three = (rates[step] for step in _steps(cycle))
    return one, two, three


def _steps(cycle: Triple) -> Steps:
    return (cycle[0], cycle[1]), (cycle[1], cycle[2]), (cycle[2], cycle[0])
