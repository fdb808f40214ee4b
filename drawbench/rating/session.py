"""The rating session: what a rater sees next, and what each button does. It needs no browser.

The page in `drawbench.pages` draws a `Screen` and calls the functions below. Its state is in the
store, so the page can be closed, opened elsewhere or killed at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeGuard

from drawbench.errors import RefusedError
from drawbench.rating.limits import ClientLimit
from drawbench.store import Rater, Store, open_store
from drawbench.store.pages import Place
from drawbench.study.design import Question
from drawbench.study.folder import DOCUMENT, Study, load_study
from drawbench.study.sample import make_sample_study
from drawbench.study.texts import fill
from evalkit.core.errors import EvalkitError

NoticeKind = Literal["welcome", "members_only", "unknown_link", "finished", "taken_over"]
MIN_VIEW_S = 0.5
"""A press sooner after the page changed was meant for what was there before."""
MAX_REPORTED = 128
"""Images in one report: no page has more."""
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


@dataclass(frozen=True, kw_only=True)
class ReportOutcome:
    """What became of a report."""

    id: int
    """The browser's number of the report."""
    stored: bool


@dataclass(frozen=True, kw_only=True)
class ImagesSeen:
    """What a browser says about the images of a page once they are all there or given up."""

    after_s: float
    """Seconds from drawing the page until then."""
    num_missing: int
    """Images that could not be loaded, which the rater chose to report or to do without."""


@dataclass
class Visit:
    """The state of one open page between two presses."""

    shown_at: dict[int, float] = field(default_factory=dict)
    """When each cell first appeared, on a monotonic clock."""
    seen: dict[int, ImagesSeen] = field(default_factory=dict)
    """What became of the images of each cell; answers wait for it."""
    report: ReportOutcome | None = None
    """The last report of an image, for the dialog that sent it."""
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


def begin(
    store: Store,
    token: str,
    platform_ids: Mapping[str, str],
    *,
    client: str = "",
    limit: ClientLimit | None = None,
) -> str:
    """Store a consent and return the rater's token.

    Whoever comes by the link of a crowd platform again goes on where they were, if the study
    allows it; their former personal link stops working.

    Args:
        store: The votes.
        token: The token of an invited rater, or empty.
        platform_ids: Ids that a crowd platform added to the URL, such as PROLIFIC_PID.
        client: Network address that the limit counts by.
        limit: How many raters without an invitation may join from one client.

    Raises:
        RefusedError: The study is full or for invited raters only, this person has joined before,
            or too many have joined from there.
    """
    if token:
        rater = store.find_rater(token)
        if rater is None:
            raise RefusedError(store.study.texts.errors.unknown_link)
        store.accept(rater.id)
        return token
    external_id = next((platform_ids[k] for k in PLATFORM_ID_KEYS if platform_ids.get(k)), "")
    if external_id and store.study.config.return_by_platform_id:
        back = store.come_back(external_id)
        if back is not None:
            return back.token
    if store.study.config.invited_only:
        raise RefusedError(store.study.texts.errors.invited_only)
    if limit is not None and not limit.take(client):
        raise RefusedError(store.study.texts.errors.too_many_joins)
    try:
        return store.join(external_id=external_id).token
    except EvalkitError:
        if limit is not None:
            limit.give_back(client)
        raise


def images_seen(place: Place, told: object) -> ImagesSeen | None:
    """Return what a browser says about the images of a page, or None if it is of another page.

    What a browser says can have any value.
    """
    if not isinstance(told, Mapping) or told.get("cell") != place.cell_id:
        return None
    after_ms, missing = told.get("after_ms"), told.get("missing")
    num_images = len(place.first) + len(place.second)
    if not _is_number(after_ms) or not _is_number(missing):
        return None
    if not 0 <= after_ms < float("inf") or missing not in range(num_images + 1):
        return None
    return ImagesSeen(after_s=after_ms / 1000, num_missing=int(missing))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


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

    The time of an answer counts from the moment when the rater could see all images of the page.

    Returns:
        Whether the vote is stored; a press too soon after the page changed is ignored, and one
        before the images were there is refused.
    """
    now = time.monotonic() if now is None else now
    texts = store.study.texts.errors
    if now - visit.last_change < MIN_VIEW_S:
        return False
    seen = visit.seen.get(place.cell_id)
    if seen is None:
        visit.message = fill(texts.not_stored, reason=texts.images_not_seen)
        return False
    shown_at = visit.shown_at.get(place.cell_id)
    try:
        store.submit(
            rater.id,
            place.cell_id,
            question_id,
            value,
            response_s=None if shown_at is None else _looked_s(now - shown_at, seen),
            images_missing=seen.num_missing,
        )
    except RefusedError as error:
        visit.message = fill(texts.not_stored, reason=error)
        return False
    except EvalkitError:
        visit.message = texts.store_failed
        return False
    visit.last_change = now
    return True


def _looked_s(since_shown_s: float, seen: ImagesSeen) -> float:
    return round(max(0.0, since_shown_s - seen.after_s), 3)


def undo(store: Store, visit: Visit, rater: Rater) -> None:
    """Undo the last vote; its page is shown again."""
    try:
        cell_id = store.undo(rater.id)
    except EvalkitError:
        visit.message = store.study.texts.errors.undo_failed
        return
    if cell_id is not None:
        visit.last_change = time.monotonic()


def report(store: Store, visit: Visit, rater: Rater, told: object) -> None:
    """Store what a browser sent as a report of images, once.

    It can have any value; what is no report of images on a page of the rater's is refused.
    """
    sent = _as_report(told)
    if sent is None or (visit.report is not None and visit.report.id == sent.id):
        return
    try:
        for key in sent.image_keys:
            store.report(rater.id, sent.cell_id, key, sent.reason)
    except EvalkitError:
        visit.report = ReportOutcome(id=sent.id, stored=False)
        return
    visit.report = ReportOutcome(id=sent.id, stored=True)
    visit.message = store.study.texts.report.thanks


@dataclass(frozen=True, kw_only=True)
class _Report:
    id: int
    cell_id: int
    image_keys: tuple[str, ...]
    reason: str


def _as_report(told: object) -> _Report | None:
    if not isinstance(told, Mapping):
        return None
    number, cell, names, reason = (told.get(key) for key in ("id", "cell", "names", "reason"))
    if not (isinstance(number, int) and isinstance(cell, int) and isinstance(reason, str)):
        return None
    if not isinstance(names, list) or not 0 < len(names) <= MAX_REPORTED:
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    return _Report(id=number, cell_id=cell, image_keys=tuple(names), reason=reason)


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
