"""Answers wait for the images, and keys for the dialogs; raters in Debian's Chromium."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from visitors import GATE_IS_OPEN, Visitor

from drawbench.exchange.exports import reports_frame, votes_frame
from drawbench.store import Store
from drawbench.store.pages import Place

pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    # The browser's driver leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Visit = Callable[..., Visitor]
ANSWERS = '[class*="st-key-answer-"] button'
TRIED_MS = 1500
"""So long a press is given to do what it must not do."""


def _past_practice(store: Store) -> tuple[str, int]:
    """Make a rater whose next page counts; return the token and the rater's id."""
    joined = store.join(simulated=True)
    practice = store.hand(joined.rater.id)[0]
    for question in store.study.questions(practice.item):
        store.submit(joined.rater.id, practice.cell_id, question.id, "tie")
    return joined.token, joined.rater.id


def _open_place(store: Store, rater_id: int) -> Place:
    return next(place for place in store.hand(rater_id) if not place.done)


def _try_to_answer(person: Visitor) -> None:
    """Press every answer by key and by mouse, as often as an impatient person."""
    for key in ("1", "2", "3", "1"):
        person.page.keyboard.press(key)
    for button in person.page.locator(ANSWERS).all():
        button.dispatch_event("click")
    person.page.wait_for_timeout(TRIED_MS)


def test_no_answer_goes_through_while_every_image_is_blocked(
    server: Any, store: Store, visit: Visit
) -> None:
    token, _ = _past_practice(store)
    person = visit()
    page = person.page
    page.route("**/picture/*", lambda route: route.abort())
    person.open(f"{server.url}/?rater={token}")
    page.locator(".thumb.failed").nth(3).wait_for()
    page.get_by_text("Images that could not be loaded: 4.").wait_for()
    assert all(button.is_disabled() for button in page.locator(ANSWERS).all())
    _try_to_answer(person)
    assert votes_frame(store).empty
    page.unroute("**/picture/*")
    page.get_by_role("button", name="Try again").click()
    person.wait_for_question(0)
    assert page.locator(".thumb.failed").count() == 0
    person.answer_page()
    votes = votes_frame(store)
    assert votes["images_missing"].tolist() == [0, 0]
    assert votes["response_s"].max() < 60, "the time before the images came does not count"


def test_answers_stay_closed_while_an_image_is_on_its_way(
    server: Any, store: Store, visit: Visit
) -> None:
    token, rater_id = _past_practice(store)
    slow = _open_place(store, rater_id).second[0]
    person = visit()
    held: list[Any] = []
    person.page.route(f"**/picture/{slow}", lambda route: held.append(route))
    person.open(f"{server.url}/?rater={token}")
    person.page.get_by_text("The images are loading").wait_for()
    _try_to_answer(person)
    assert votes_frame(store).empty
    for route in held:
        route.continue_()
    person.wait_for_question(0)
    person.answer_page()
    assert len(votes_frame(store)) == 2


def test_a_rater_may_do_without_an_image_and_the_vote_says_so(
    server: Any, store: Store, visit: Visit
) -> None:
    token, rater_id = _past_practice(store)
    gone = _open_place(store, rater_id).first[1]
    (store.study.path / "images" / f"{gone}.png").unlink()
    person = visit()
    person.open(f"{server.url}/?rater={token}")
    person.page.get_by_role("button", name="Answer without them").click()
    person.wait_for_question(0)
    person.answer_page()
    person.answer_page()
    votes = votes_frame(store)
    assert sorted(votes["images_missing"]) == [0, 0, 1, 1]
    assert set(votes[votes["images_missing"] == 1]["item_id"].value_counts()) == {2}


def test_a_rater_may_report_an_image_that_fails_and_then_answer(
    server: Any, store: Store, visit: Visit
) -> None:
    token, rater_id = _past_practice(store)
    gone = _open_place(store, rater_id).first[0]
    person = visit()
    page = person.page
    page.route(f"**/picture/{gone}", lambda route: route.abort())
    person.open(f"{server.url}/?rater={token}")
    page.get_by_role("button", name="Report", exact=True).click()
    page.get_by_label("What is wrong with it?").fill("not there")
    page.locator(".report").get_by_role("button", name="Report", exact=True).click()
    page.get_by_text("The image was reported").wait_for()
    person.wait_for_question(0)
    person.answer_page()
    assert reports_frame(store)["image_key"].tolist() == [gone]
    assert votes_frame(store)["images_missing"].tolist() == [1, 1]


def test_keys_belong_to_the_report_dialog_and_nothing_of_it_is_lost(
    server: Any, store: Store, visit: Visit
) -> None:
    token, rater_id = _past_practice(store)
    first = _open_place(store, rater_id).first[0]
    person = visit()
    page = person.page
    person.open(f"{server.url}/?rater={token}")
    person.wait_for_question(0)
    page.locator(".thumb").first.click()
    page.get_by_text("Set A, image 1").wait_for()
    for key in ("1", "2", "u"):
        page.keyboard.press(key)
    page.locator(".viewer-image").click()  # the focus is nowhere now
    for key in ("1", "2", "u"):
        page.keyboard.press(key)
    page.keyboard.press("ArrowRight")
    page.get_by_text("Set A, image 2").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_role("button", name="Report this image").click()
    reason = page.get_by_label("What is wrong with it?")
    reason.wait_for()
    assert reason.evaluate("field => field.getRootNode().activeElement === field")
    page.keyboard.type("1 and 2 are the same")
    page.locator(".report h2").click()
    for key in ("1", "2"):
        page.keyboard.press(key)
    page.wait_for_timeout(TRIED_MS)
    assert votes_frame(store).empty
    assert page.get_by_text("1 of 3").is_visible()
    assert reason.input_value() == "1 and 2 are the same"
    page.locator(".report").get_by_role("button", name="Report", exact=True).click()
    page.get_by_text("The image was reported").wait_for()
    found = reports_frame(store)
    assert found[["image_key", "reason"]].to_numpy().tolist() == [[first, "1 and 2 are the same"]]
    page.locator(".report").wait_for(state="hidden")
    person.answer_page()
    assert len(votes_frame(store)) == 2


def test_keys_do_nothing_behind_the_instructions(server: Any, store: Store, visit: Visit) -> None:
    token, _ = _past_practice(store)
    person = visit()
    person.open(f"{server.url}/?rater={token}")
    person.wait_for_question(0)
    person.page.get_by_role("button", name="Instructions").click()
    person.page.get_by_text("The number keys answer").wait_for()
    person.page.keyboard.press("1")
    person.page.wait_for_timeout(TRIED_MS)
    assert votes_frame(store).empty


def test_a_report_that_is_not_stored_stays_open_with_its_text(
    server: Any, store: Store, visit: Visit
) -> None:
    token, _ = _past_practice(store)
    person = visit()
    page = person.page
    person.open(f"{server.url}/?rater={token}")
    person.wait_for_question(0)
    page.locator(".thumb").first.click()
    page.get_by_role("button", name="Report this image").click()
    page.get_by_label("What is wrong with it?").fill("blurred")
    store.database.engine.dispose()
    with store.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE report RENAME TO away")
    page.locator(".report").get_by_role("button", name="Report", exact=True).click()
    page.get_by_text("The image could not be reported").wait_for()
    with store.database.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO report")
    page.locator(".report").get_by_role("button", name="Report", exact=True).click()
    page.get_by_text("The image was reported").wait_for()
    assert reports_frame(store)["reason"].tolist() == ["blurred"]


def test_a_second_click_does_not_answer_the_next_page(
    server: Any, store: Store, visit: Visit
) -> None:
    """Click at the same place until the page has moved on, and within half a second after it."""
    token, rater_id = _past_practice(store)
    person = visit()
    page = person.page
    person.open(f"{server.url}/?rater={token}")
    person.wait_for_question(0)
    page.keyboard.press("2")
    person.wait_for_question(1)
    page.evaluate(CLICK_ON, ".st-key-answers-1 button")
    page.get_by_text("2 of 3").wait_for()
    page.wait_for_function("window.clicked")
    page.wait_for_function(GATE_IS_OPEN)
    page.wait_for_timeout(TRIED_MS)
    assert page.get_by_text("2 of 3").is_visible()
    assert len(votes_frame(store)) == 2
    assert not _open_place(store, rater_id).answers


CLICK_ON = """selector => {
  // Click once, and then for 0.4 s from the moment when the page begins to change.
  const where = () => document.querySelector('.where')?.innerText;
  const before = where();
  const click = () => document.querySelector(selector)?.click();
  new MutationObserver((_, observer) => {
    if (where() === before) return;
    observer.disconnect();
    const changedAt = performance.now();
    const again = () => {
      if (performance.now() - changedAt > 400) { window.clicked = true; return; }
      click();
      setTimeout(again, 40);
    };
    again();
  }).observe(document.body, { childList: true, subtree: true, characterData: true });
  click();
}"""


def test_a_key_that_is_held_down_answers_once(server: Any, store: Store, visit: Visit) -> None:
    token, _ = _past_practice(store)
    person = visit()
    person.open(f"{server.url}/?rater={token}")
    person.wait_for_question(0)
    person.page.keyboard.down("1")
    person.wait_for_question(1)
    for _ in range(5):
        person.page.keyboard.down("1")  # what the keyboard repeats
        person.page.wait_for_timeout(100)
    person.page.keyboard.up("1")
    person.page.wait_for_timeout(TRIED_MS)
    assert len(votes_frame(store)) == 1
