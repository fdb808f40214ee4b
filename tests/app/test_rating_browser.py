"""Raters in Debian's Chromium before the real server. All of them are simulated raters."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from visitors import PATIENCE_MS, Visitor

from drawbench.exchange.exports import quota_frame, raters_frame, votes_frame
from drawbench.simulation.raters import SimulatedPanel
from drawbench.store import Store

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="browser tests need: pip install playwright"
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    # The browser's driver leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MODELS = ("Zephyrine-XL", "Quokkalith")
KEYS = {"first": "1", "tie": "2", "second": "3"}
PHONE = {"width": 390, "height": 844}


def test_a_rater_completes_a_category_by_keyboard_alone_and_sees_no_name(
    server: Any, store: Store, visit: Callable[..., Visitor]
) -> None:
    token = store.invite(simulated=True).token
    person = visit(viewport={"width": 1366, "height": 800})
    person.open(f"{server.url}/?rater={token}")
    page = person.page
    page.get_by_role("button", name="Start").wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement?.type") == "checkbox":
            break
    page.keyboard.press("Space")
    page.locator("button:enabled", has_text="Start").wait_for()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    person.wait_for_question(0)
    texts = []
    for _ in range(4):
        texts.append(page.content())
        page.locator(".thumb img").first.wait_for()
        person.answer_page("2", "3")
    rater = store.find_rater(token)
    assert rater is not None
    assert rater.state == "finished"
    page.get_by_text(rater.completion_code).wait_for()
    texts.append(page.content())
    votes = votes_frame(store)
    assert len(votes) == 6
    assert votes["simulated"].all()
    assert set(votes[votes["question"] == "quality"]["answer"]) == {"tie"}
    everything = "\n".join([*texts, *person.addresses, page.title()]).encode() + b"".join(
        person.frames
    )
    assert person.frames
    assert sum("/picture/" in address for address in person.addresses) >= 12
    for word in (*MODELS, "hostile-00", "runs/", str(store.study.path), rater.name):
        assert word.encode() not in everything, word
    for address in person.addresses:
        if "/picture/" in address:
            assert re.fullmatch(rf"{server.url}/picture/[0-9a-f]{{32}}", address)


def test_pressing_twice_two_tabs_and_another_browser_make_one_vote_each(
    server: Any, store: Store, visit: Callable[..., Visitor]
) -> None:
    joined = store.join(simulated=True)
    link = f"{server.url}/?rater={joined.token}"
    one, other = visit(), visit()
    one.open(link)
    one.wait_for_question(0)
    other.open(link)
    other.wait_for_question(0)
    for _ in range(2):
        one.page.keyboard.press("1")  # the second press comes within a blink
    one.wait_for_question(1)
    one.page.keyboard.press("1")
    one.page.get_by_text("1 of 3").wait_for()
    # The other browser still shows the practice page; it goes on where the rater is.
    other.page.keyboard.press("1")
    other.page.get_by_text("1 of 3").wait_for()
    other.wait_for_question(0)
    other.answer_page("1", "3")
    one.open(link)
    one.page.get_by_text("2 of 3").wait_for()
    votes = votes_frame(store)
    assert len(votes) == 2
    assert not votes.duplicated(["rater_id", "item_id", "question"]).any()


def test_killing_the_server_loses_no_acknowledged_vote(
    server: Any, store: Store, visit: Callable[..., Visitor]
) -> None:
    joined = store.join(simulated=True)
    person = visit()
    person.open(f"{server.url}/?rater={joined.token}")
    person.wait_for_question(0)
    person.answer_page()
    person.page.keyboard.press("1")
    person.wait_for_question(1)
    server.kill()
    assert len(votes_frame(store)) == 1
    server.start()
    person.page.reload(timeout=PATIENCE_MS)
    person.wait_for_question(1)
    person.page.keyboard.press("2")
    person.page.get_by_text("2 of 3").wait_for()
    assert len(votes_frame(store)) == 2


def test_a_rater_without_a_network_goes_on_when_it_is_back(
    wire: Any, store: Store, visit: Callable[..., Visitor]
) -> None:
    joined = store.join(simulated=True)
    person = visit()
    person.open(f"{wire.url}/?rater={joined.token}")
    person.wait_for_question(0)
    person.answer_page()
    wire.cut()
    person.page.wait_for_timeout(1500)
    person.page.keyboard.press("1")  # nobody hears it
    person.page.wait_for_timeout(1500)
    assert votes_frame(store).empty
    wire.mend()
    second = person.page.locator(".st-key-question-current-1")
    while not second.count():
        # The page finds back by itself; the rater presses again when nothing happens.
        person.page.keyboard.press("1")
        with suppress(sync_api.TimeoutError):
            second.wait_for(timeout=10_000)
    person.wait_for_question(1)
    person.page.keyboard.press("3")
    person.page.get_by_text("2 of 3").wait_for()
    votes = votes_frame(store)
    assert len(votes) == 2
    assert not votes.duplicated(["rater_id", "item_id", "question"]).any()


def test_a_phone_shows_both_sets_at_equal_size_and_enlarges(
    server: Any, store: Store, visit: Callable[..., Visitor]
) -> None:
    joined = store.join(simulated=True)
    phone = visit(viewport=PHONE, is_mobile=True, has_touch=True, device_scale_factor=2)
    phone.open(f"{server.url}/?rater={joined.token}")
    phone.wait_for_question(0)
    page = phone.page
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator(".thumb").first.wait_for()
    boxes = [box.bounding_box() for box in page.locator(".thumb").all()]
    assert len({(round(box["width"]), round(box["height"])) for box in boxes}) == 1
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"] for box in boxes)
    page.locator(".thumb").nth(2).tap()
    page.get_by_text("Set B, image 1").wait_for()
    page.get_by_role("button", name="Report this image").tap()
    page.get_by_label("What is wrong with it?").fill("blurred")
    page.get_by_role("button", name="Report", exact=True).tap()
    page.get_by_text("The image was reported").wait_for()
    page.get_by_role("button", name="I prefer set A").first.tap()
    phone.wait_for_question(1)


@pytest.mark.slow
def test_ten_browsers_at_once_fill_their_places(
    server: Any, store: Store, visit: Callable[..., Visitor]
) -> None:
    panel = SimulatedPanel(strengths=dict.fromkeys(MODELS, 0.0))
    people = [(visit(), store.join(simulated=True)) for _ in range(10)]
    for person, joined in people:
        person.open(f"{server.url}/?rater={joined.token}")
    for _ in range(4):
        for person, joined in people:
            person.wait_for_question(0)
            place = next(p for p in store.hand(joined.rater.id) if not p.done)
            said = panel.answer(
                rater_id=joined.rater.name,
                prompt_id=place.item.prompt_id,
                category=place.item.category,
                model_a=MODELS[0],
                model_b=MODELS[1],
                question="quality",
            ).answer
            shown = "first" if (said == "a") == place.a_first else "second"
            shown = "tie" if said == "tie" else shown
            person.answer_page(KEYS[shown], KEYS[shown])
    assert set(raters_frame(store)["state"]) == {"finished"}
    assert set(quota_frame(store)["done"]) == {10}
    assert len(votes_frame(store)) == 10 * 3 * 2
