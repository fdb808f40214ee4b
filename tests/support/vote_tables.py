"""Small tables of votes for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from drawbench.votes import REQUIRED_COLUMNS, validate_votes


def make_votes(
    answers: Iterable[Sequence[str]],
    *,
    question: str = "fidelity",
    model_a: str = "imagen",
    model_b: str = "glide",
) -> pd.DataFrame:
    """Votes from rows (rater, prompt, category, answer)."""
    rows = [
        (rater, prompt, category, model_a, model_b, question, answer)
        for rater, prompt, category, answer in answers
    ]
    return validate_votes(pd.DataFrame(rows, columns=list(REQUIRED_COLUMNS)))


def grid_votes(table: Sequence[str], *, category: str = "") -> pd.DataFrame:
    """Votes of a full grid: one string per rater, one letter (a, t, b) per prompt."""
    names = {"a": "a", "t": "tie", "b": "b"}
    return make_votes(
        (f"r{rater}", f"p{prompt}", category, names[letter])
        for rater, row in enumerate(table)
        for prompt, letter in enumerate(row)
    )
