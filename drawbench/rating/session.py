"""The rating session: what a rater sees next, and what each button does. It needs no browser.

The page in `drawbench.pages` draws a `Screen` and calls the functions below. Its state is in the
store, so the page can be closed, opened elsewhere or killed at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from drawbench.errors import RefusedError
from drawbench.store import Rater, Store, open_store
from drawbench.store.pages import Place
from drawbench.study.design import Question
from drawbench.study.folder import DOCUMENT, Study, load_study
from drawbench.study.sample import make_sample_study
from drawbench.study.texts import fill
from evalkit.core.errors import EvalkitError

NoticeKind = Literal["welcome", "members_only", "unknown_link", "finished", "taken_over"]
# Nobody can look at sixteen images in this time: a second press within it is accidental.
MIN_VIEW_S = 0.3
PLATFORM_ID_KEYS = ("PROLIFIC_PID", "workerId", "participant")


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A page without images: welcome, finished or no access."""

    kind: NoticeKind
    rater: Rater | None = None
    num_done: int = 0
    num_pages: int = 0


@dataclass(frozen=True, kw_only=True)
class ItemScreen:
    """A page to rate."""

    rater: Rater
    place: Place
    questions: tuple[Question, ...]
    """The questions about it."""
    current_question: int
    """Index of the first question without an answer; the answer keys apply to it."""
    num_done: int
    num_pages: int
    """Pages of the rater without practice."""
    preload: tuple[str, ...]
    """Blind names of the images of the page after this one."""
    can_undo: bool

    @property
    def is_practice(self) -> bool:
        """Whether answers on this page don't count."""
        return self.place.item.role == "practice"


Screen = Notice | ItemScreen


@dataclass
class Visit:
    """The state of one open page between two presses."""

    shown_at: dict[int, float] = field(default_factory=dict)
    """When each cell first appeared, on a monotonic clock."""
    last_change: float = float("-inf")
    """When the page last changed."""
    message: str = ""
    """A message to show once."""


def screen_for(store: Store, token: str) -> Screen:
    """Return what the holder of a token sees; without a token, the welcome page.

    Opening the link renews the lease of a rater who was away.
    """
    if not token:
        return Notice(kind="members_only" if store.study.config.invited_only else "welcome")
    rater = store.find_rater(token)
    if rater is None:
        return Notice(kind="unknown_link")
    if rater.state == "invited":
        return Notice(kind="welcome", rater=rater)
    if rater.state == "lapsed":
        rater = store.resume(rater.id)
    return _screen_in_hand(store, rater)


def begin(store: Store, token: str, platform_ids: Mapping[str, str]) -> str:
    """Store a consent and return the rater's token.

    Args:
        store: The votes.
        token: The token of an invited rater, or empty.
        platform_ids: Ids that a crowd platform added to the URL, such as PROLIFIC_PID.

    Raises:
        RefusedError: The study is full or for invited raters only, or this person has joined
            before.
    """
    if token:
        rater = store.find_rater(token)
        if rater is None:
            raise RefusedError(store.study.texts.errors.unknown_link)
        store.accept(rater.id)
        return token
    if store.study.config.invited_only:
        raise RefusedError(store.study.texts.errors.invited_only)
    external_id = next((platform_ids[k] for k in PLATFORM_ID_KEYS if platform_ids.get(k)), "")
    return store.join(external_id=external_id).token


def note_shown(visit: Visit, place: Place, *, now: float | None = None) -> None:
    """Start the clock of a page when it first appears."""
    if place.cell_id not in visit.shown_at:
        visit.shown_at[place.cell_id] = time.monotonic() if now is None else now
        visit.last_change = visit.shown_at[place.cell_id]


def answer(
    store: Store,
    visit: Visit,
    rater: Rater,
    place: Place,
    question_id: str,
    value: str,
    *,
    now: float | None = None,
) -> bool:
    """Store an answer, or leave a message why it was not stored.

    Returns:
        Whether the vote is stored; a press too soon after the page changed is ignored.
    """
    now = time.monotonic() if now is None else now
    if now - visit.last_change < MIN_VIEW_S:
        return False
    shown_at = visit.shown_at.get(place.cell_id)
    try:
        store.submit(
            rater.id,
            place.cell_id,
            question_id,
            value,
            response_s=None if shown_at is None else round(now - shown_at, 3),
        )
    except RefusedError as error:
        visit.message = fill(store.study.texts.errors.not_stored, reason=error)
        return False
    except EvalkitError:
        visit.message = store.study.texts.errors.store_failed
        return False
    visit.last_change = now
    return True


def undo(store: Store, visit: Visit, rater: Rater) -> None:
    """Undo the last vote; its page is shown again."""
    try:
        cell_id = store.undo(rater.id)
    except EvalkitError:
        visit.message = store.study.texts.errors.undo_failed
        return
    if cell_id is not None:
        visit.last_change = time.monotonic()


def report(
    store: Store, visit: Visit, rater: Rater, place: Place, image_key: str, reason: str
) -> None:
    """Report an image."""
    try:
        store.report(rater.id, place.cell_id, image_key, reason)
    except EvalkitError:
        visit.message = store.study.texts.report.failed
        return
    visit.message = store.study.texts.report.thanks


def reported_image(place: Place, position: object) -> str | None:
    """Return the image at a position on the page (set A first), or None if there is none.

    The position comes from a browser and can have any value.
    """
    keys = (*place.first, *place.second)
    if isinstance(position, int) and not isinstance(position, bool) and 0 <= position < len(keys):
        return keys[position]
    return None


def open_for_rating(study_path: str, database_url: str, *, sample_path: Path) -> Store:
    """Open the study for the page; without a path, the sample study.

    Raises:
        EvalkitError: The study or its database can't be opened.
    """
    if study_path:
        return open_store(load_study(Path(study_path)), database_url)
    return open_store(_sample_study(sample_path), create=True)


def _sample_study(path: Path) -> Study:
    if not (path / DOCUMENT).is_file():
        try:
            return make_sample_study(path)
        except (OSError, EvalkitError):
            # Another process may have made it meanwhile.
            if not (path / DOCUMENT).is_file():
                raise
    return load_study(path)


def _screen_in_hand(store: Store, rater: Rater) -> Screen:
    hand = store.hand(rater.id)
    counted = [place for place in hand if place.item.role != "practice"]
    num_done = sum(place.done for place in counted)
    open_places = [place for place in hand if not place.done]
    if not open_places:
        kind: NoticeKind = "finished" if rater.state == "finished" else "taken_over"
        return Notice(kind=kind, rater=rater, num_done=num_done, num_pages=len(counted))
    place = open_places[0]
    questions = tuple(store.study.questions(place.item))
    unanswered = [i for i, question in enumerate(questions) if question.id not in place.answers]
    assert unanswered, "a page is done exactly when all its questions are answered"
    following = open_places[1:2]
    return ItemScreen(
        rater=rater,
        place=place,
        questions=questions,
        current_question=unanswered[0],
        num_done=num_done,
        num_pages=len(counted),
        preload=tuple(key for nxt in following for key in (*nxt.first, *nxt.second)),
        can_undo=any(other.answers for other in hand),
    )
