"""False captions made of a true one's own words, which a contrastive loss sets against it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MOST = 4
"""False captions of one caption, at most."""


class HardNegatives:
    """Rewrites captions so that they have (nearly) the same words and another meaning.

    Against random captions it is enough to know which words there are; against these, a text
    encoder has to read their order (NegCLIP: Yuksekgonul et al. 2023, section 4).

    Args:
        exchanged: Groups of words of one kind, such as the shapes. Two of a group that follow each
            other in a caption change places; choose groups for which that is never true as well.
        opposites: Pairs of words, such as left and right; one stands in for the other.
    """

    def __init__(
        self, exchanged: Sequence[Sequence[str]] = (), opposites: Sequence[Sequence[str]] = ()
    ) -> None:
        self._groups = [any_of(group) for group in exchanged if group]
        self._opposites = {
            a: b for one, other in opposites for a, b in ((one, other), (other, one))
        }
        self._opposite = any_of(self._opposites) if self._opposites else None

    @classmethod
    def from_objective(cls, objective: Mapping[str, Any]) -> HardNegatives:
        """Read `exchanged` and `opposites`, both by default empty, of a recipe's objective."""
        return cls(objective.get("exchanged", ()), objective.get("opposites", ()))

    def of(self, caption: str) -> list[str]:
        """Return a caption's false versions in lower case, at most `MOST`; the nearest first."""
        caption = caption.lower()
        false = [self._in_opposite(caption)] if self._opposite else []
        for group in self._groups:
            words = list(group.finditer(caption))
            false += [_exchange(caption, one, other) for one, other in itertools.pairwise(words)]
        different = dict.fromkeys(text for text in false if text != caption)
        return list(different)[:MOST]

    def _in_opposite(self, caption: str) -> str:
        assert self._opposite is not None
        return self._opposite.sub(lambda found: self._opposites[found[0]], caption)


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """Match any of some words of a lower-case caption, as a whole word."""
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b")


def _exchange(caption: str, one: re.Match[str], other: re.Match[str]) -> str:
    between = caption[one.end() : other.start()]
    return caption[: one.start()] + other[0] + between + one[0] + caption[other.end() :]
