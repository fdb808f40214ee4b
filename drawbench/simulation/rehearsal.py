"""Let simulated raters rate in a real store, for tests, load measurements and rehearsals.

They are stored as simulated, and every export and report marks their votes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drawbench.errors import RefusedError
from drawbench.simulation.raters import RATER_PREFIX, SimulatedPanel
from drawbench.store.pages import Place
from drawbench.store.store import Joined, Rater, Store
from drawbench.study.assignment import dice
from drawbench.study.design import Question

CLEAR_ANSWER_S = 3.0


def rehearse(
    store: Store,
    panel: SimulatedPanel,
    *,
    num_raters: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Let simulated raters join and rate one after the other until the study is full.

    Args:
        store: The study.
        panel: How they answer.
        num_raters: Stop after this many; None fills the study.
        on_progress: Called with the number of raters so far.

    Returns:
        Number of raters who rated.
    """
    done = 0
    while num_raters is None or done < num_raters:
        try:
            joined = store.join(simulated=True)
        except RefusedError:
            break
        rate_hand(store, panel, joined)
        done += 1
        if on_progress:
            on_progress(done)
    return done


def rate_hand(
    store: Store, panel: SimulatedPanel, joined: Joined, *, num_pages: int | None = None
) -> int:
    """Let one simulated rater rate their pages.

    Args:
        store: The study.
        panel: How they answer.
        joined: The rater.
        num_pages: Drop out after this many pages; None finishes.

    Returns:
        Number of votes.
    """
    num_votes = 0
    for place in store.hand(joined.rater.id)[:num_pages]:
        for question in store.study.questions(place.item):
            said = simulated_answer(store.study.config.seed, panel, joined.rater, place, question)
            store.submit(
                joined.rater.id,
                place.cell_id,
                question.id,
                said.answer,
                response_s=said.response_s,
            )
            num_votes += 1
    return num_votes


@dataclass(frozen=True)
class ShownAnswer:
    """An answer as clicked."""

    answer: str
    response_s: float


def simulated_answer(
    seed: int, panel: SimulatedPanel, rater: Rater, place: Place, question: Question
) -> ShownAnswer:
    """Return the answer that a simulated rater clicks.

    Practice and checks are answered correctly. A panel has no opinion on single sets, so those
    answers are random.
    """
    item = place.item
    if item.kind == "single":
        values = [answer.value for answer in question.answers]
        right = item.expected.get(question.id)
        drawn = dice(seed, "single", rater.number, item.id, question.id).choice(values)
        return ShownAnswer(right or drawn, CLEAR_ANSWER_S)
    if item.role != "rated":
        return ShownAnswer(_as_shown("a", place.a_first), CLEAR_ANSWER_S)
    said = panel.answer(
        rater_id=f"{RATER_PREFIX}{rater.number}",
        prompt_id=item.prompt_id,
        category=item.category,
        model_a=item.model_a,
        model_b=item.model_b,
        question=question.id,
        left_model=item.model_a if place.a_first else item.model_b,
        item_id=item.id,
    )
    shown = _as_shown(said.answer, place.a_first)
    if shown not in [answer.value for answer in question.answers]:
        shown = "first"  # a question without a tie
    return ShownAnswer(shown, said.response_s)


def _as_shown(answer: str, a_first: bool) -> str:
    if answer == "tie":
        return answer
    return "first" if (answer == "a") == a_first else "second"
