"""What a rater sees next, without a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drawbench.errors import RefusedError, StoreError
from drawbench.exchange.exports import raters_frame, reports_frame, votes_frame
from drawbench.rating.limits import ClientLimit
from drawbench.rating.session import (
    MIN_VIEW_S,
    ImagesSeen,
    ItemScreen,
    Notice,
    Visit,
    answer,
    begin,
    images_seen,
    note_shown,
    open_for_rating,
    report,
    screen_for,
    undo,
)
from drawbench.store import Store
from drawbench.study import Study
from drawbench.study.design import Question, question_text

NewStudy = Callable[..., Study]
NewStore = Callable[[Study], Store]


ALL_SEEN = ImagesSeen(after_s=0.0, num_missing=0)


def _item(store: Store, token: str) -> ItemScreen:
    screen = screen_for(store, token)
    assert isinstance(screen, ItemScreen)
    return screen


class Finger:
    """Presses answers with a pause between."""

    def __init__(self, store: Store, token: str) -> None:
        self.store, self.token, self.visit, self.now = store, token, Visit(), 100.0

    def press(self, value: str, *, after_s: float = 2.0, seen: ImagesSeen = ALL_SEEN) -> bool:
        screen = _item(self.store, self.token)
        note_shown(self.visit, screen.place, now=self.now)
        self.visit.seen[screen.place.cell_id] = seen
        self.now += after_s
        question = screen.questions[screen.current_question]
        return answer(
            self.store, self.visit, screen.rater, screen.place, question.id, value, now=self.now
        )


def test_a_rater_goes_from_the_welcome_to_the_completion_code(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study(num_practice=1, num_checks=1))
    assert screen_for(store, "") == Notice(kind="welcome")
    token = begin(store, "", {})
    finger = Finger(store, token)
    seen = []
    while isinstance(screen := screen_for(store, token), ItemScreen):
        seen.append((screen.is_practice, screen.num_done, screen.current_question))
        assert finger.press("tie")
    pages = seen[-1][1] + 1
    assert seen[:2] == [(True, 0, 0), (True, 0, 1)]
    assert [done for practice, done, _ in seen if not practice] == sorted([*range(pages)] * 2)
    assert (screen.kind, screen.num_done, screen.num_pages) == ("finished", pages, pages)
    assert screen.rater is not None
    assert len(screen.rater.completion_code) == 8


def test_the_next_page_is_announced_for_preloading(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    token = begin(store, "", {})
    finger = Finger(store, token)
    ahead = _item(store, token).preload
    finger.press("first")
    assert _item(store, token).preload == ahead
    finger.press("first")
    place = _item(store, token).place
    assert ahead == (*place.first, *place.second)


def test_a_second_press_within_a_blink_is_passed_over(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    finger = Finger(store, begin(store, "", {}))
    assert not finger.press("first", after_s=MIN_VIEW_S / 2)
    assert finger.press("first", after_s=MIN_VIEW_S)
    assert not finger.press("first", after_s=MIN_VIEW_S / 2), "meant for the question before"
    assert finger.press("second", after_s=1.0)
    assert not finger.press("first", after_s=MIN_VIEW_S / 2), "meant for the page before"
    assert len(votes_frame(store)) == 2


def test_the_time_of_a_vote_counts_from_the_moment_when_all_images_are_there(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    finger = Finger(store, begin(store, "", {}))
    finger.press("first", after_s=3.0)
    finger.press("first", after_s=1.5)
    finger.press("first", after_s=7.0, seen=ImagesSeen(after_s=5.0, num_missing=1))
    finger.press("first", after_s=1.0, seen=ImagesSeen(after_s=99.0, num_missing=0))
    votes = votes_frame(store)
    assert votes["response_s"].tolist() == [3.0, 4.5, 2.0, 0.0]
    assert votes["images_missing"].tolist() == [0, 0, 1, 0]


def test_no_answer_is_stored_before_the_images_were_there(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    screen = _item(store, begin(store, "", {}))
    visit = Visit()
    press = (store, visit, screen.rater, screen.place, screen.questions[0].id, "first")
    assert not answer(*press)
    assert "images of this page were not loaded yet" in visit.message
    assert votes_frame(store).empty
    visit.seen[screen.place.cell_id] = ALL_SEEN
    assert answer(*press)


def test_what_a_browser_says_about_images_is_checked(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    place = _item(store, begin(store, "", {})).place
    right = {"cell": place.cell_id, "after_ms": 1500, "missing": 4}
    assert images_seen(place, right) == ImagesSeen(after_s=1.5, num_missing=4)
    for wrong in (
        {"cell": place.cell_id + 1},
        {"missing": 5},
        {"missing": -1},
        {"missing": 0.5},
        {"missing": True},
        {"after_ms": -1},
        {"after_ms": float("nan")},
        {"after_ms": float("inf")},
        {"after_ms": "1"},
    ):
        assert images_seen(place, {**right, **wrong}) is None, wrong
    for nonsense in (None, [], "seen", 1):
        assert images_seen(place, nonsense) is None


def test_two_tabs_of_one_rater_make_one_vote(new_study: NewStudy, sqlite_store: NewStore) -> None:
    store = sqlite_store(new_study())
    token = begin(store, "", {})
    stale = _item(store, token)
    one, other = Visit(), Visit()
    for visit in (one, other):
        note_shown(visit, stale.place, now=0.0)
        visit.seen[stale.place.cell_id] = ALL_SEEN
    for visit, now in ((one, 5.0), (other, 6.0)):
        for question in ("quality", "alignment"):
            assert answer(store, visit, stale.rater, stale.place, question, "tie", now=now + 1)
            now += 1
    assert len(votes_frame(store)) == 2
    assert _item(store, token).num_done == 1


def test_undo_brings_the_page_back(new_study: NewStudy, sqlite_store: NewStore) -> None:
    store = sqlite_store(new_study())
    token = begin(store, "", {})
    finger = Finger(store, token)
    assert not _item(store, token).can_undo
    first = _item(store, token).place
    finger.press("first")
    finger.press("first")
    assert _item(store, token).place.cell_id != first.cell_id
    undo(store, finger.visit, _item(store, token).rater)
    screen = _item(store, token)
    assert (screen.place.cell_id, screen.current_question) == (first.cell_id, 1)


def test_links_that_are_unknown_and_doors_that_are_closed(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study(invited_only=True))
    assert screen_for(store, "") == Notice(kind="members_only")
    assert screen_for(store, "00" * 16) == Notice(kind="unknown_link")
    with pytest.raises(RefusedError, match="invited raters only"):
        begin(store, "", {})
    with pytest.raises(RefusedError, match="personal link does not exist"):
        begin(store, "00" * 16, {})
    joined = store.invite()
    assert screen_for(store, joined.token) == Notice(kind="welcome", rater=joined.rater)
    assert begin(store, joined.token, {}) == joined.token
    assert isinstance(screen_for(store, joined.token), ItemScreen)


def test_whoever_comes_by_the_platforms_link_again_goes_on(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    first = begin(store, "", {"PROLIFIC_PID": " 5Fa\n", "workerId": ""})
    finger = Finger(store, first)
    finger.press("first")
    before = _item(store, first)
    again = begin(store, "", {"PROLIFIC_PID": "5Fa"})
    assert again != first
    assert screen_for(store, first) == Notice(kind="unknown_link"), "the new link replaces the old"
    after = _item(store, again)
    assert (after.rater.id, after.place, after.current_question) == (
        before.rater.id,
        before.place,
        1,
    )
    other = begin(store, "", {"PROLIFIC_PID": "5fa"})
    assert _item(store, other).rater.id != before.rater.id, "upper and lower case differ"
    assert begin(store, "", {}) != begin(store, "", {}), "without an id, everybody is new"
    assert len(raters_frame(store)) == 4


def test_a_study_may_let_a_platform_number_in_only_once(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study(return_by_platform_id=False))
    begin(store, "", {"PROLIFIC_PID": "abc", "workerId": ""})
    with pytest.raises(RefusedError, match="history of the browser"):
        begin(store, "", {"PROLIFIC_PID": "abc "})


@pytest.mark.parametrize("number", ["a\x00b", "a\u202eb", "x" * 201, "{{%PROLIFIC_PID%}}", "${id}"])
def test_what_can_be_no_platform_number_is_refused(
    new_study: NewStudy, sqlite_store: NewStore, number: str
) -> None:
    store = sqlite_store(new_study())
    with pytest.raises(RefusedError, match="valid ID of your crowd platform"):
        begin(store, "", {"PROLIFIC_PID": number})
    assert raters_frame(store).empty


def test_one_client_joins_only_so_often_and_links_are_not_limited(
    new_study: NewStudy, sqlite_store: NewStore
) -> None:
    store = sqlite_store(new_study())
    seconds = [0.0]
    limit = ClientLimit(2, 3600.0, clock=lambda: seconds[0])

    def come(client: str, token: str = "", **ids: str) -> str:
        return begin(store, token, ids, client=client, limit=limit)

    tokens = [come("192.0.2.1"), come("192.0.2.1", PROLIFIC_PID="p")]
    with pytest.raises(RefusedError, match="Too many people have joined"):
        come("192.0.2.1")
    assert come("192.0.2.1", PROLIFIC_PID="p") not in tokens, "coming back takes no place"
    assert come("192.0.2.1", store.invite().token)
    assert come("192.0.2.2")
    seconds[0] = 3600.0
    assert come("192.0.2.1")


def test_a_refused_join_does_not_count(new_study: NewStudy, sqlite_store: NewStore) -> None:
    store = sqlite_store(new_study(rows=[("one", "x")], raters_per_item=1))
    limit = ClientLimit(2, 3600.0)
    begin(store, "", {}, client="c", limit=limit)
    for _ in range(3):
        with pytest.raises(RefusedError, match="study is full"):
            begin(store, "", {}, client="c", limit=limit)


def test_whoever_comes_back_too_late_is_thanked(
    new_study: NewStudy, sqlite_store: NewStore, clock: Any
) -> None:
    store = sqlite_store(new_study(rows=[("one", "x"), ("two", "x")], raters_per_item=1))
    token = begin(store, "", {})
    finger = Finger(store, token)
    finger.press("tie")
    finger.press("tie")
    clock.now += 10**6
    begin(store, "", {})
    screen = screen_for(store, token)
    assert isinstance(screen, Notice)
    assert (screen.kind, screen.num_done) == ("taken_over", 1)


def test_a_store_that_is_away_stores_nothing_and_says_so(
    new_study: NewStudy, sqlite_store: NewStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = sqlite_store(new_study())
    token = begin(store, "", {})
    screen = _item(store, token)
    finger = Finger(store, token)

    def away(*_: object, **__: object) -> None:
        raise StoreError("away")

    for name in ("submit", "undo", "report"):
        monkeypatch.setattr(store, name, away)
    assert not finger.press("first")
    assert "was not stored" in finger.visit.message
    undo(store, finger.visit, screen.rater)
    assert "Nothing was changed" in finger.visit.message
    report(store, finger.visit, screen.rater, _report_of(screen))
    assert finger.visit.report is not None
    assert not finger.visit.report.stored


def _report_of(screen: ItemScreen, **changes: Any) -> dict[str, Any]:
    place = screen.place
    sent = {"id": 7, "cell": place.cell_id, "names": [place.first[0]], "reason": ""}
    return {**sent, **changes}


def test_reports_name_an_image_of_the_page(new_study: NewStudy, sqlite_store: NewStore) -> None:
    store = sqlite_store(new_study())
    screen = _item(store, begin(store, "", {}))
    other = _item(store, begin(store, "", {}))
    right = _report_of(screen, names=list(screen.place.second), reason="<script>")
    visit = Visit()
    for nonsense in (None, 1, {}, {**right, "names": []}, {**right, "names": [1]}):
        report(store, visit, screen.rater, nonsense)
        assert visit.report is None
    for wrong in (_report_of(other), {**right, "names": ["0" * 32]}):
        report(store, visit, screen.rater, {**wrong, "id": 1})
        assert visit.report is not None
        assert not visit.report.stored
        visit.report = None
    for _ in range(2):  # a message that comes twice
        report(store, visit, screen.rater, right)
    assert visit.report is not None
    assert visit.report.stored
    found = reports_frame(store)
    assert found["reason"].tolist() == ["<script>"] * 2
    assert found["image_key"].tolist() == list(screen.place.second)


def test_captions_are_put_in_as_they_are() -> None:
    question = Question.model_validate_json(
        '{"id": "q", "text": "Is it {caption}?", "kind": "single", "answers": '
        '[{"value": "yes", "label": "Yes"}, {"value": "no", "label": "No"}]}'
    )
    assert question_text(question, "a {red} {caption}") == "Is it a {red} {caption}?"


def test_without_a_study_the_sample_is_made_once(tmp_path: Path) -> None:
    one = open_for_rating("", "", sample_path=tmp_path / "sample")
    token = begin(one, "", {})
    again = open_for_rating("", "", sample_path=tmp_path / "sample")
    assert isinstance(screen_for(again, token), ItemScreen)
    assert again.study.document.label == "sample"
    for store in (one, again):
        store.database.close()
