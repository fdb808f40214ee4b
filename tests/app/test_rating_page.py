"""The rating page run without a browser: what it shows, stores and refuses to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient

from drawbench.exchange.exports import raters_frame, votes_frame
from drawbench.pages.look import plain_markdown
from drawbench.pages.opening import shared_store
from drawbench.pages.sets_view import sets_data
from drawbench.pages.web import PrivacyHeaders, serve_picture
from drawbench.rating.session import ItemScreen, screen_for
from drawbench.store import Store

pytestmark = [
    # Streamlit's test runner leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Open = Callable[..., Any]
MODELS = ("Zephyrine-XL", "Quokkalith")


def _texts(page: Any) -> str:
    """Everything that the page sends as text."""
    parts = [element.proto.body for element in page.get("html")]
    parts += [element.value for element in page.markdown]
    parts += [button.label for button in page.button]
    return "\n".join(parts)


def test_consent_comes_first_then_practice_then_pages(
    in_process: Open, store: Store, press: Open
) -> None:
    page = in_process("rating_page.py")
    assert not page.exception
    assert "Taking part is voluntary" in _texts(page)
    assert "disturbing, offensive" in _texts(page)
    assert page.button(key="start").disabled
    assert raters_frame(store).empty, "nobody is stored before they agree"
    page.checkbox[0].check().run()
    page.button(key="start").click().run()
    assert "Practice: answers on this page do not count" in _texts(page)
    assert len(page.query_params["rater"]) == 32
    press(press(page, 0, 1), 1, 3)
    assert "1 of 3" in _texts(page)


def test_a_rater_reaches_the_code_and_may_take_the_last_answer_back(
    in_process: Open, store: Store, press: Open
) -> None:
    joined = store.join()
    page = in_process("rating_page.py", rater=joined.token)
    for _ in range(4):
        press(press(page, 0, 1), 1, 2)
    assert page.code[0].value == joined.rater.completion_code
    assert len(votes_frame(store)) == 6
    page.button(key="undo").click().run()
    assert len(votes_frame(store)) == 5
    press(page, 1, 3)
    assert page.code[0].value == joined.rater.completion_code


def test_questions_have_the_papers_words_and_captions_stay_text(
    in_process: Open, store: Store, press: Open
) -> None:
    joined = store.join()
    page = in_process("rating_page.py", rater=joined.token)
    press(press(page, 0, 1), 1, 1)
    seen = ""
    for _ in range(3):
        seen += _texts(page)
        press(press(page, 0, 2), 1, 2)
    assert "Which set of images is of higher quality?" in seen
    isolated = '<bdi class="caption" dir="auto">a green cup</bdi>'
    assert f"Which set of images better represents the text caption : {isolated}?" in seen
    assert seen.count("a green cup") == 1, "a caption that is in a question is shown once"
    assert "a &lt;b&gt;red&lt;/b&gt; car &amp; &quot;two&quot; dogs" in seen
    assert "<b>" not in seen
    assert "**four** :red[cups] $x^2$" in seen


def test_no_model_or_file_name_is_in_what_the_page_sends(
    in_process: Open, store: Store, press: Open
) -> None:
    joined = store.join()
    page = in_process("rating_page.py", rater=joined.token)
    for _ in range(4):
        screen = screen_for(store, joined.token)
        assert isinstance(screen, ItemScreen)
        sent = (
            _texts(page)
            + repr(sets_data(screen, "Set", store.study.texts))
            + str(page.query_params)
        )
        for word in (*MODELS, "hostile-00", ".png", str(store.study.path), screen.rater.name):
            assert word not in sent, word
        press(press(page, 0, 1), 1, 1)


def test_pausing_shows_the_link_and_withdrawing_deletes(
    in_process: Open, store: Store, press: Open
) -> None:
    joined = store.join()
    page = in_process("rating_page.py", rater=joined.token)
    press(page, 0, 1)
    page.button(key="pause").click().run()
    assert page.code[0].value.endswith(f"?rater={joined.token}")
    page.button(key="go-on").click().run()
    assert "Practice" in _texts(page)
    page.button(key="pause").click().run()
    assert page.button(key="withdraw").disabled
    page.checkbox(key="withdraw-sure").check().run()
    page.button(key="withdraw").click().run()
    assert raters_frame(store).empty
    assert page.query_params == {}
    assert "All your answers were deleted" in page.warning[0].value


def test_unknown_links_and_full_studies_are_told_so(in_process: Open, store: Store) -> None:
    assert "link does not exist" in _texts(in_process("rating_page.py", rater="ab" * 16))
    for _ in range(12):
        store.join()
    page = in_process("rating_page.py")
    page.checkbox[0].check().run()
    page.button(key="start").click().run()
    assert "This study is full" in page.warning[0].value


def test_a_study_that_is_away_shows_no_traceback(
    in_process: Open, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_STUDY", "/nowhere/Zephyrine-XL")
    shared_store.cache_clear()
    page = in_process("rating_page.py")
    assert not page.exception
    assert "can't be reached" in page.error[0].value
    assert "Zephyrine" not in page.error[0].value
    monkeypatch.setenv("EVALKIT_STUDY", str(store.study.path))
    shared_store.cache_clear()


# Pictures


def test_pictures_are_served_blind_and_only_those_of_the_study(
    in_process: Open, store: Store
) -> None:
    in_process("rating_page.py")
    server = Starlette(
        routes=[Route("/picture/{key}", serve_picture)], middleware=[Middleware(PrivacyHeaders)]
    )
    (store.study.path / "images" / ("e" * 32 + ".png")).write_bytes(b"not of the study")
    with TestClient(server) as client:
        good = client.get(f"/picture/{store.study.images[0].key}")
        assert (good.status_code, good.headers["content-type"]) == (200, "image/png")
        assert good.headers["referrer-policy"] == "no-referrer"
        assert not {"last-modified", "etag", "content-disposition"} & set(good.headers)
        for key in ("e" * 32, "..%2Fstudy.json", "%2e%2e%2fstudy.sqlite", "0" * 32, "x"):
            assert client.get(f"/picture/{key}").status_code == 404, key


def test_markdown_is_taken_off_labels() -> None:
    assert plain_markdown("**b** <i> [x](y) `z`") == r"\*\*b\*\* \<i\> \[x\]\(y\) \`z\`"
