"""Simulated raters with known preferences, for tests and planning.

A rater compares two sets of images and perceives a lead u of model A over model B:

    u  =  strength(A) - strength(B)  +  taste of the rater  +  effect of the prompt  +  side  +
    noise

and answers A above a threshold, B below minus the threshold, and a tie between. Taste and effect
are drawn per model, so that swapping A and B swaps the answer. The answer is a pure function of
the panel and the item, so a simulated rater answers the same question the same way every time.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from drawbench.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

Answer = Literal["a", "tie", "b"]

NORMAL = NormalDist()
RATER_PREFIX = "simulated-"
CAREFUL_MEDIAN_S = 14.0
LAZY_MEDIAN_S = 1.1
PACE_SPREAD = 0.4  # standard deviation of log seconds

DRAWBENCH_SIZES: Mapping[str, int] = {
    "Colors": 25,
    "Conflicting": 10,
    "Counting": 19,
    "DALL-E": 20,
    "Descriptions": 20,
    "Gary Marcus et al.": 10,
    "Misspellings": 10,
    "Positional": 20,
    "Rare Words": 7,
    "Reddit": 38,
    "Text": 21,
}
"""Prompts by category of DrawBench (Saharia et al. 2022)."""
DRAWBENCH_RATERS = 25
"""Raters per category in the paper; each rates all prompts of one category."""


@dataclass(frozen=True, kw_only=True)
class SimulatedAnswer:
    """The answer of a simulated rater to one item, and its time."""

    answer: Answer
    response_s: float


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Probabilities of the answers; they sum to 1."""

    a: float
    tie: float
    b: float

    @property
    def win_rate(self) -> float:
        """Win rate of A, with ties as half a win."""
        return self.a + self.tie / 2


@dataclass(frozen=True, kw_only=True)
class SimulatedPanel:
    """Simulated raters with given preferences.

    With `noise` 1, all effects are in standard deviations of a single vote.
    """

    strengths: Mapping[str, float]
    """Strength of each model; only differences matter."""
    category_effects: Mapping[str, float] = field(default_factory=dict)
    """Added to the strength of the first model in `strengths`, by category."""
    question_effects: Mapping[str, float] = field(default_factory=dict)
    """The same, by question."""
    rater_sd: float = 0.3
    """Standard deviation of raters' taste."""
    prompt_sd: float = 0.5
    """Standard deviation of prompts' effect."""
    noise: float = 1.0
    """Standard deviation of a single vote."""
    tie_threshold: float = 0.3
    """A perceived lead smaller than this is a tie."""
    side_bias: float = 0.0
    """Added to the lead of the model on the left."""
    lazy_share: float = 0.0
    """Share of inattentive raters: half of them answer at random, half always choose the left."""
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.strengths) < 2:
            raise StudyError(f"strengths has {len(self.strengths)} model, expected at least 2.")
        for name in ("rater_sd", "prompt_sd", "tie_threshold"):
            if not 0 <= getattr(self, name) < math.inf:
                raise StudyError(f"{name} is {getattr(self, name)}, expected 0 or more.")
        if not 0 < self.noise < math.inf:
            raise StudyError(f"noise is {self.noise}, expected more than 0.")
        if not 0 <= self.lazy_share <= 1:
            raise StudyError(f"lazy_share is {self.lazy_share}, expected a share in [0, 1].")

    def answer(
        self,
        *,
        rater_id: str,
        prompt_id: str,
        category: str,
        model_a: str,
        model_b: str,
        question: str,
        left_model: str = "",
        item_id: str = "",
    ) -> SimulatedAnswer:
        """Return this rater's answer to one question on one item, the same at every call.

        Args:
            rater_id: The rater; any text.
            prompt_id: The prompt.
            category: Its category.
            model_a: What the answer "a" means.
            model_b: What the answer "b" means.
            question: The question.
            left_model: The model on the left; without it there is no side bias.
            item_id: Distinguishes repeated comparisons of a prompt.
        """
        vote = (rater_id, prompt_id, question, item_id, *sorted((model_a, model_b)))
        habit = self._habit(rater_id)
        median = CAREFUL_MEDIAN_S if habit == "careful" else LAZY_MEDIAN_S
        seconds = round(median * math.exp(PACE_SPREAD * self._normal("pace", *vote)), 2)
        if habit == "random":
            third = int(3 * self._uniform("random", *vote))
            answer: Answer = ("a", "tie", "b")[third]
        elif habit == "left":
            answer = "b" if left_model == model_b else "a"
        else:
            lead = self._felt_lead(vote, rater_id, prompt_id, category, question, model_a, model_b)
            lead += self.side_bias * ((left_model == model_a) - (left_model == model_b))
            answer = answer_of(lead, self.tie_threshold)
        return SimulatedAnswer(answer=answer, response_s=seconds)

    def lead(self, model_a: str, model_b: str, *, category: str = "", question: str = "") -> float:
        """Return the true lead of A over B, before taste, prompt, side and noise."""
        return self._strength(model_a, category, question) - self._strength(
            model_b, category, question
        )

    @property
    def spread(self) -> float:
        """Standard deviation of the perceived lead around the true one."""
        return math.sqrt(self.rater_sd**2 + self.prompt_sd**2 + self.noise**2)

    def shares(
        self, model_a: str, model_b: str, *, category: str = "", question: str = ""
    ) -> Shares:
        """Return the probabilities of the answers over all raters and prompts, with balanced sides.

        >>> panel = SimulatedPanel(strengths={"x": 0.0, "y": 0.0})
        >>> panel.shares("x", "y").win_rate
        0.5
        """
        lead = self.lead(model_a, model_b, category=category, question=question)
        a = b = 0.0
        for side in (self.side_bias, -self.side_bias):
            a += NORMAL.cdf((lead + side - self.tie_threshold) / self.spread) / 2
            b += NORMAL.cdf((-lead - side - self.tie_threshold) / self.spread) / 2
        # Half of the inattentive raters answer at random (1/3 each), half choose the left (1/2
        # each).
        lazy, careful = self.lazy_share, 1 - self.lazy_share
        lazy_a, lazy_tie = (1 / 3 + 1 / 2) / 2, 1 / 6
        return Shares(
            a=careful * a + lazy * lazy_a,
            tie=careful * (1 - a - b) + lazy * lazy_tie,
            b=careful * b + lazy * lazy_a,
        )

    def _strength(self, model: str, category: str, question: str) -> float:
        if model not in self.strengths:
            known = ", ".join(self.strengths)
            raise StudyError(f"The simulated panel has no model {model!r}. Known: {known}.")
        strength = self.strengths[model]
        if model == next(iter(self.strengths)):
            strength += self.category_effects.get(category, 0.0)
            strength += self.question_effects.get(question, 0.0)
        return strength

    def _felt_lead(
        self,
        vote: tuple[str, ...],
        rater_id: str,
        prompt_id: str,
        category: str,
        question: str,
        model_a: str,
        model_b: str,
    ) -> float:
        lead = self.lead(model_a, model_b, category=category, question=question)
        for kind, who, scale in (
            ("rater", rater_id, self.rater_sd),
            ("prompt", prompt_id, self.prompt_sd),
        ):
            ours = self._normal(kind, who, question, model_a)
            theirs = self._normal(kind, who, question, model_b)
            lead += scale * (ours - theirs) / math.sqrt(2)
        sign = 1 if model_a < model_b else -1
        return lead + sign * self.noise * self._normal("vote", *vote)

    def _habit(self, rater_id: str) -> Literal["careful", "random", "left"]:
        draw = self._uniform("habit", rater_id)
        if draw >= self.lazy_share:
            return "careful"
        return "random" if draw < self.lazy_share / 2 else "left"

    def _uniform(self, *key: str) -> float:
        return _uniform(self.seed, key)

    def _normal(self, *key: str) -> float:
        return _normal(self.seed, key)


def answer_of(lead: float, tie_threshold: float) -> Answer:
    """Return the answer for a perceived lead of A.

    >>> answer_of(0.5, 0.3), answer_of(-0.1, 0.3)
    ('a', 'tie')
    """
    if abs(lead) < tie_threshold:
        return "tie"
    return "a" if lead > 0 else "b"


def tie_threshold_for(tie_share: float, *, spread: float) -> float:
    """Return the threshold at which equal models tie this often."""
    return spread * NORMAL.inv_cdf((1 + tie_share) / 2)


def vote_correlations(panel: SimulatedPanel, lead: float = 0.0) -> tuple[float, float]:
    """Return the correlations of two votes (1, 1/2, 0) of one rater, and on one prompt.

    Exact for a panel without inattentive raters and side bias: the perceived leads of two votes
    that share an effect are bivariate normal.
    """
    total = panel.spread**2
    return (
        _score_correlation(panel, lead, panel.rater_sd**2 / total),
        _score_correlation(panel, lead, panel.prompt_sd**2 / total),
    )


def simulate_votes(
    panel: SimulatedPanel,
    *,
    sizes: Mapping[str, int] = DRAWBENCH_SIZES,
    raters_per_category: int = DRAWBENCH_RATERS,
    questions: Sequence[str] = ("fidelity", "alignment"),
    pairs: Iterable[tuple[str, str]] | None = None,
) -> pd.DataFrame:
    """Simulate the votes of the paper's study: each rater rates all prompts of one category.

    Args:
        panel: The raters.
        sizes: Prompts by category.
        raters_per_category: Each rates every prompt of the category.
        questions: Asked about every item.
        pairs: Pairs of models; by default the first two of the panel. Items cycle through several
            pairs.

    Returns:
        Votes as `drawbench.votes` describes them, with `simulated` true throughout.
    """
    from drawbench.votes import validate_votes

    return validate_votes(_simulated_frame(panel, sizes, raters_per_category, questions, pairs))


def _simulated_frame(
    panel: SimulatedPanel,
    sizes: Mapping[str, int],
    raters_per_category: int,
    questions: Sequence[str],
    pairs: Iterable[tuple[str, str]] | None,
) -> pd.DataFrame:
    import pandas as pd

    models = list(panel.strengths)
    matches = list(pairs) if pairs is not None else [(models[0], models[1])]
    rows = []
    for category_index, (category, size) in enumerate(sizes.items()):
        for rater in range(raters_per_category):
            rater_id = f"{RATER_PREFIX}{category_index:02d}-{rater:03d}"
            for prompt in range(size):
                model_a, model_b = matches[(rater + prompt) % len(matches)]
                # A is on the left for half of the raters of a prompt and half of the prompts of a
                # rater.
                left = (model_a, model_b)[((rater + prompt) // len(matches)) % 2]
                for question in questions:
                    item = {
                        "rater_id": rater_id,
                        "prompt_id": f"{category_index:02d}-{prompt:03d}",
                        "category": category,
                        "model_a": model_a,
                        "model_b": model_b,
                        "question": question,
                        "left_model": left,
                    }
                    given = panel.answer(**item)
                    rows.append({**item, "answer": given.answer, "response_s": given.response_s})
    return pd.DataFrame(rows).assign(simulated=True)


def _score_correlation(panel: SimulatedPanel, lead: float, shared: float) -> float:
    """Return the correlation of two scores; a score is half the number of thresholds exceeded."""
    from scipy.stats import multivariate_normal

    cuts = [(lead - cut) / panel.spread for cut in (panel.tie_threshold, -panel.tie_threshold)]
    joint = multivariate_normal(cov=[[1, shared], [shared, 1]], allow_singular=True)
    product = sum(float(joint.cdf([x, y])) for x in cuts for y in cuts) / 4
    above, any_win = (NORMAL.cdf(cut) for cut in cuts)
    mean = (above + any_win) / 2
    square = (above + any_win + 2 * above) / 4
    return (product - mean**2) / (square - mean**2)


def _uniform(seed: int, key: tuple[str, ...]) -> float:
    """Return a number in (0, 1) that depends on the seed and the key alone."""
    message = "\x1f".join((str(seed), *key)).encode()
    integer = int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "big")
    return (integer + 0.5) / 2**64


@lru_cache(maxsize=1 << 16)
def _normal(seed: int, key: tuple[str, ...]) -> float:
    return NORMAL.inv_cdf(min(max(_uniform(seed, key), 1e-16), 1 - 1e-16))
