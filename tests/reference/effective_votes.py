"""The effective number of votes, vote by vote and in loops; the equation solved by bisection.

For votes of equal weight in categories with at least two raters and two prompts each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

Vote = tuple[str, str, str, float]
"""Rater, prompt, category, score."""
Key = Callable[[Vote], tuple]

CORRELATION = 0.25
PRIOR = 1.5
SPREAD = 10


def effective_votes(votes: Sequence[Vote]) -> tuple[float, float]:
    """The effective number of votes and its degrees of freedom."""
    size, share = len(votes), sum(vote[3] for vote in votes) / len(votes)
    by_category: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        by_category[vote[2]].append(vote[3])
    centre = {name: sum(scores) / len(scores) for name, scores in by_category.items()}
    gaps = [vote[3] - centre[vote[2]] for vote in votes]
    kinds: dict[str, Key] = {"rater": lambda v: (v[0],), "prompt": lambda v: (v[1],)}
    cell: Key = lambda v: (v[0], v[1])  # noqa: E731
    terms = {name: _term(votes, gaps, key) for name, key in kinds.items()}
    noise = _term(votes, gaps, cell)
    squares = {name: _square(votes, key) for name, key in kinds.items()}
    square = _square(votes, cell)

    raw = max(terms["rater"] + terms["prompt"] - noise, noise)
    parts = {name: max(term - noise, 0) for name, term in terms.items()}
    filled = _filled(votes)
    missed = sum(
        filled * parts[name] * square / (squares[name] - square)
        for name in kinds
        if squares[name] > square
    )
    variance = raw + min(missed, raw)

    prior = square + CORRELATION * sum(each - square for each in squares.values())
    binomial = share * (1 - share)
    varied = sum(len(scores) / size * _differing(scores) for scores in by_category.values())
    extremity = sum(abs(2 * vote[3] - 1) for vote in votes) / size
    ratio = sum(gap**2 for gap in gaps) / size / binomial if binomial else 1.0
    differing = (varied / square) ** 2
    unseen = extremity + (1 - extremity) * min(1, 4 * prior)
    shrunk = (differing * ratio + SPREAD**2 * unseen) / (differing + SPREAD**2)
    known = varied * min(1, ratio / shrunk)
    observed = variance / binomial / shrunk if binomial else 0.0
    inverse = _solve(
        lambda x: (known / x * observed + PRIOR * prior) / (known / x + PRIOR) - x, 0.0, 2.0
    )
    inverse = min(inverse, max(squares.values()))

    degrees = {name: max(1 / each, 2) - 1 for name, each in squares.items()}
    least = min(degrees.values())
    total = sum(parts.values()) + noise
    satterthwaite = least
    if total:
        satterthwaite = total**2 / (
            sum(parts[name] ** 2 / degrees[name] for name in kinds)
            + noise**2 / (degrees["rater"] * degrees["prompt"])
        )
    trust = known / (known + PRIOR * inverse) * (1 - 0.5 ** (least - 1))
    df = 1 / (trust / max(satterthwaite, least) + (1 - trust) / least)
    return 1 / (shrunk * inverse), df


def _differing(scores: Sequence[float]) -> float:
    """The smallest mean distance from any score, in units of the largest possible distance."""
    grid = [step / 1000 for step in range(1001)]
    return min(sum(abs(x - c) for x in scores) / len(scores) / max(c, 1 - c) for c in grid)


def _term(votes: Sequence[Vote], gaps: Sequence[float], key: Key) -> float:
    members: dict[str, set] = defaultdict(set)
    for vote in votes:
        members[vote[2]].add(key(vote))
    totals: dict[tuple, float] = defaultdict(float)
    for vote, gap in zip(votes, gaps, strict=True):
        count = len(members[vote[2]])
        totals[key(vote)] += gap / len(votes) * (count / (count - 1)) ** 0.5
    return sum(total**2 for total in totals.values())


def _square(votes: Sequence[Vote], key: Key) -> float:
    totals: dict[tuple, float] = defaultdict(float)
    for vote in votes:
        totals[key(vote)] += 1 / len(votes)
    return sum(total**2 for total in totals.values())


def _filled(votes: Sequence[Vote]) -> float:
    possible = 0
    for category in {vote[2] for vote in votes}:
        inside = [vote for vote in votes if vote[2] == category]
        possible += len({vote[0] for vote in inside}) * len({vote[1] for vote in inside})
    return len({(vote[0], vote[1], vote[2]) for vote in votes}) / possible


def _solve(gap: Callable[[float], float], low: float, high: float) -> float:
    """The root of a function that falls through 0 once."""
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) > 0 else (low, middle)
    return (low + high) / 2
