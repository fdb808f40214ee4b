"""Raters who come back, restarts, and a browser that translates; in Debian's Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from visitors import GATE_IS_OPEN, PATIENCE_MS, Visitor

import drawbench.pages
from drawbench.exchange.exports import raters_frame, reports_frame, votes_frame
from drawbench.rating.gate import MAX_WRONG_PASSWORDS
from drawbench.store import Store

pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install playwright")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    # The browser's driver leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Visit = Callable[..., Visitor]
TRANSLATE = """everything => {
  // What Chrome's translation does to the page: each text goes into two <font> elements of its own.
  const parts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (parts.nextNode()) texts.push(parts.currentNode);
  for (const text of texts) {
    const parent = text.parentElement;
    if (!text.data.trim() || parent.closest('script, style, font')) continue;
    const nearest = parent.closest('[translate]');
    if (!everything && nearest?.getAttribute('translate') === 'no') continue;
    const outer = document.createElement('font');
    const inner = document.createElement('font');
    outer.style.verticalAlign = inner.style.verticalAlign = 'inherit';
    text.replaceWith(outer);
    outer.append(inner);
    inner.append(text);
    text.data = text.data.toUpperCase();
  }
  document.documentElement.classList.add('translated-ltr');
}"""


def test_a_rater_who_opens_the_platforms_link_again_goes_on(
    server: Any, store: Store, visit: Visit
) -> None:
    link = f"{server.url}/?PROLIFIC_PID=5f1"
    first = visit()
    first.open(link)
    first.agree()
    first.answer_page()
    first.page.keyboard.press("2")
    first.wait_for_question(1)
    first.close()
    again = visit()
    again.open(link)
    again.agree(question=1)
    assert again.where() == "1 of 3"
    again.page.keyboard.press("3")
    again.page.get_by_text("2 of 3").wait_for()
    assert raters_frame(store)["external_id"].tolist() == ["5f1"]
    assert votes_frame(store)["answer"].tolist()[0] == "tie"
    assert len(votes_frame(store)) == 2


def test_a_network_that_took_its_places_is_told_so_and_links_still_work(
    store: Store, make_server: Callable[..., Any], visit: Visit
) -> None:
    script = str(Path(drawbench.pages.__path__[0]) / "rate.py")
    server = make_server(script, {"EVALKIT_JOIN_LIMIT": "1"})
    server.start()
    try:
        first, second, invited = visit(), visit(), visit()
        first.open(server.url)
        first.agree()
        second.open(server.url)
        second.page.get_by_text("I am an adult").click()
        second.page.get_by_role("button", name="Start").click()
        second.page.get_by_text("Too many people have joined from your network").wait_for()
        invited.open(f"{server.url}/?rater={store.invite().token}")
        invited.agree()
        assert len(raters_frame(store)) == 2
    finally:
        server.kill()


@pytest.mark.parametrize("press", ["answer", "undo", "pause", "report"])
def test_the_first_press_after_a_restart_counts(
    server: Any, store: Store, visit: Visit, press: str
) -> None:
    joined = store.join(simulated=True)
    person = visit()
    page = person.page
    person.open(f"{server.url}/?rater={joined.token}")
    person.wait_for_question(0)
    person.answer_page()
    person.page.keyboard.press("1")
    person.wait_for_question(1)
    if press == "report":
        page.locator(".thumb").first.click()
        page.get_by_role("button", name="Report this image").click()
    server.kill()
    server.start()
    page.locator("button:enabled", has_text="Pause").wait_for()  # the browser has found back
    if press == "answer":
        page.wait_for_function(GATE_IS_OPEN)
        page.locator(".st-key-answers-1 button").nth(2).click()
        page.get_by_text("2 of 3").wait_for()
        assert len(votes_frame(store)) == 2
    elif press == "undo":
        page.get_by_role("button", name="Undo").click()
        page.locator(".st-key-question-current-0").wait_for()
        assert votes_frame(store).empty
    elif press == "pause":
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("heading", name="Paused").wait_for()
    else:
        page.locator(".report-send").click()
        page.get_by_text("The image was reported").wait_for()
        assert len(reports_frame(store)) == 1


@pytest.mark.parametrize(
    "everything", [False, True], ids=["as Chrome does", "even what it may not"]
)
def test_the_page_survives_a_translation(
    server: Any, store: Store, visit: Visit, everything: bool
) -> None:
    person = visit()
    page = person.page
    broken: list[str] = []
    page.on("pageerror", lambda error: broken.append(str(error)))
    person.open(f"{server.url}/")
    page.get_by_text("I am an adult").wait_for()
    page.evaluate(TRANSLATE, everything)
    page.get_by_text("TAKING PART IS VOLUNTARY").wait_for()
    page.get_by_text("YOUR BROWSER IS TRANSLATING").wait_for()
    page.locator("[data-testid=stCheckbox] label").click()
    page.locator("button:enabled", has_text="start").click()
    for _ in range(4):
        person.wait_for_question(0)
        page.evaluate(TRANSLATE, everything)
        person.page.keyboard.press("1")
        person.wait_for_question(1)
        page.evaluate(TRANSLATE, everything)
        before = page.url
        page.locator(".st-key-answers-1 button").nth(1).click()
        page.wait_for_function(
            "() => document.querySelector('.st-key-question-current-0') || "
            "!document.querySelector('.where')"
        )
        assert page.url == before
    page.get_by_text(str(raters_frame(store)["completion_code"][0])).wait_for()
    assert broken == []
    assert votes_frame(store)["answer"].value_counts()["tie"] == 3
    assert len(votes_frame(store)) == 6


def test_what_react_writes_is_not_translated_and_our_own_text_is(
    server: Any, store: Store, visit: Visit
) -> None:
    person = visit()
    page = person.page
    person.open(f"{server.url}/?rater={store.join(simulated=True).token}")
    person.wait_for_question(0)
    translated = """selector => {
      const element = document.querySelector(selector);
      return element.closest('[translate]').getAttribute('translate');
    }"""
    for selector in ("[class*=st-key-answer-] button", ".caption", ".question", ".st-key-pause p"):
        assert page.evaluate(translated, selector) == "no", selector
    assert page.evaluate(translated, ".where") == "yes"
    assert page.get_by_text("Your browser is translating").is_hidden()


def test_a_caption_that_runs_the_other_way_leaves_the_question_alone(
    server: Any, store: Store, visit: Visit
) -> None:
    person = visit()
    page = person.page
    person.open(f"{server.url}/?rater={store.join(simulated=True).token}")
    person.wait_for_question(0)
    assert page.locator(".caption").count() == 1
    caption = page.locator(".caption")
    assert caption.get_attribute("dir") == "auto"
    direction = "element => getComputedStyle(element).direction"
    for text, expected in (("قطة حمراء", "rtl"), ("a red cat", "ltr")):
        caption.evaluate("(element, text) => { element.textContent = text; }", text)
        assert caption.evaluate(direction) == expected
        assert caption.evaluate("element => getComputedStyle(element).unicodeBidi") == "isolate"
        assert page.locator(".question").last.evaluate(direction) == "ltr"


@pytest.fixture
def results(store: Store, make_server: Callable[..., Any]) -> Iterator[Any]:
    """The results page of the study."""
    script = Path(drawbench.pages.__path__[0]) / "results.py"
    made = make_server(str(script), {"EVALKIT_RESULTS_PASSWORD": "open sesame"})
    made.start()
    yield made
    made.kill()


def _give(page: Any, password: str) -> None:
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Open").click()


def test_the_results_password_survives_a_reload_and_a_second_tab(
    results: Any, visit: Visit
) -> None:
    person = visit()
    page = person.page
    person.open(results.url)
    _give(page, "open sesame")
    page.get_by_text("Complete ratings").wait_for()
    page.wait_for_function("document.cookie.includes('evalkit_results=')")
    page.reload(timeout=PATIENCE_MS)
    page.get_by_text("Complete ratings").wait_for()
    tab = person.context.new_page()
    tab.goto(results.url, timeout=PATIENCE_MS)
    tab.get_by_text("Complete ratings").wait_for()
    stranger = visit()
    stranger.open(results.url)
    stranger.page.get_by_label("Password", exact=True).wait_for()
    assert "open sesame" not in str(person.context.cookies())


def test_a_client_that_guesses_results_passwords_is_turned_away(results: Any, visit: Visit) -> None:
    person = visit()
    page = person.page
    person.open(results.url)
    for number in range(MAX_WRONG_PASSWORDS - 1):
        _give(page, f"guess {number}")
        page.get_by_text("Wrong password").wait_for()
        page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    _give(page, "guess")
    page.get_by_text("Too many wrong passwords").wait_for()
    other = visit()
    other.open(results.url)
    _give(other.page, "open sesame")
    other.page.get_by_text("Too many wrong passwords").wait_for()
