"""A study in a made-up language: no English word of ours is left on any page."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drawbench.errors import StoreError
from drawbench.pages.opening import shared_store
from drawbench.pages.sets_view import ASSETS, sets_data
from drawbench.rating.session import ItemScreen, screen_for
from drawbench.store import Store
from drawbench.study import Study
from drawbench.study.design import load_preset, make_config
from drawbench.study.making import make_study
from drawbench.study.sources import open_source
from drawbench.study.texts import english_file, read_texts
from drawbench.suites import make_suite

pytestmark = [
    # Streamlit's test runner leaves an event loop open.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

Open = Callable[..., Any]
MODELS = ("Zephyrine-XL", "Quokkalith")
ALPHABET = {
    ord(a): b
    for a, b in zip("abcdefghijklmnopqrstuvwxyz", "абцдефгхийклмнопьрстувжыюз", strict=True)
}
ALPHABET |= {ord(chr(a).upper()): b.upper() for a, b in ALPHABET.items()}
CODE = ("style", "scrip")
"""How the tags of our own style sheet and script begin."""
LATIN = re.compile(r"[A-Za-z]{2,}")


def made_up(english: str) -> str:
    """The English file with every letter of its texts in another alphabet, placeholders kept."""

    def speak(found: re.Match[str]) -> str:
        parts = re.split(r"(\{\w+\}|\\n)", found.group(0))
        return "".join(p if p.startswith(("{", "\\n")) else p.translate(ALPHABET) for p in parts)

    lines = re.sub(r"^#.*\n|(?<=[\"\]]) #.*$", "", english, flags=re.MULTILINE)
    return re.sub(r'"""(?:.|\n)*?"""|"(?:[^"\\\n]|\\.)*"', speak, lines)


@pytest.fixture
def study(tmp_path: Path, make_folders: Callable[[Any], dict[str, Path]]) -> Study:
    """Two prompts without a Latin letter, in a language that nobody speaks."""
    path = tmp_path / "made-up.toml"
    path.write_text(made_up(english_file()), "utf-8")
    texts = read_texts(path)
    suite = make_suite("hostile", [("кот", "Colors"), ("дом", "Colors")], source="test")
    sources = [
        open_source(name, folder, suite.prompts, per_prompt=2)
        for name, folder in make_folders(suite).items()
    ]
    settings = {
        **load_preset("imagen-drawbench", texts),
        "models": list(MODELS),
        "images_per_side": 2,
        "raters_per_item": 2,
        "contact": "1234",
    }
    return make_study(tmp_path / "study", make_config(settings), suite, sources, texts=texts)


@pytest.fixture
def seen(in_process: Open) -> Iterator[list[str]]:
    """What each page said; none of it may hold a Latin word."""
    said: list[str] = []
    yield said
    assert said
    for text in said:
        assert not LATIN.search(text), text


def words(page: Any) -> list[str]:
    """Everything on a page that a rater can read, without tags, style sheet and script."""
    assert not page.exception
    bodies = [element.proto.body for element in page.get("html")]
    found = [html.unescape(re.sub(r"<[^>]*>", " ", b)) for b in bodies if b[1:6] not in CODE]
    found += [label for b in bodies for label in re.findall(r'aria-label="([^"]*)"', b)]
    for kind in ("markdown", "warning", "error"):
        found += [element.value for element in getattr(page, kind)]
    for kind in ("button", "checkbox", "text_area", "expander"):
        found += [element.label for element in getattr(page, kind)]
    found += [block.proto.popover.label for block in page.get("popover")]
    found += [block.proto.dialog.title for block in page.get("dialog")]
    return found


def test_the_whole_way_through_the_study(
    in_process: Open, store: Store, seen: list[str], press: Open
) -> None:
    page = in_process("rating_page.py")
    seen += words(page)
    page.checkbox[0].check().run()
    page.button(key="start").click().run()
    seen += words(page)
    page.button(key="pause").click().run()
    seen += words(page)
    page.button(key="go-on").click().run()
    for _ in range(3):
        press(page, 0, 1)
        seen += words(press(page, 1, 3))
    assert page.code[0].value, "the completion code"
    page.checkbox(key="withdraw-sure").check().run()
    page.button(key="withdraw").click().run()
    seen += words(page)
    assert page.warning[0].value


def test_refusals_and_closed_doors(
    in_process: Open,
    store: Store,
    seen: list[str],
    press: Open,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen += words(in_process("rating_page.py", rater="ab" * 16))
    first = store.join()
    away = in_process("rating_page.py", rater=first.token)
    store.join()
    full = in_process("rating_page.py")
    full.checkbox[0].check().run()
    seen += words(full.button(key="start").click().run())
    assert full.warning
    monkeypatch.setattr(Store, "submit", broken)
    seen += words(press(away, 0, 1))
    assert away.warning
    monkeypatch.undo()
    store.withdraw(first.rater.id)
    seen += words(away.run())


def broken(*_args: object, **_options: object) -> None:
    raise StoreError("gone")


def test_a_study_without_its_votes_still_speaks(
    in_process: Open, store: Store, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_DATABASE", "sqlite:////nowhere/votes.sqlite")
    shared_store.cache_clear()
    page = in_process("rating_page.py")
    assert page.error
    seen += words(page)


def test_the_images_of_a_page_have_no_words_of_their_own(study: Study, store: Store) -> None:
    screen = screen_for(store, store.join().token)
    assert isinstance(screen, ItemScreen)
    data = sets_data(screen, study.config.side_name, study.texts)
    shown = [*data["texts"].values()]
    for side in data["sets"]:
        shown += [side["title"], *side["labels"]]
    assert len(shown) == 18 + 2 * (1 + 2)
    for text in shown:
        assert not LATIN.search(re.sub(r"{\w+}", "", text)), text
    body = re.sub(r"<[^>]*>", "", (ASSETS / "sets.html").read_text("utf-8"))
    assert not LATIN.search(html.unescape(body))
    assert 'content: "' not in (ASSETS / "sets.css").read_text("utf-8")
    assert "aria-label=" not in (ASSETS / "sets.html").read_text("utf-8")
    assert not re.findall(r'textContent = "', (ASSETS / "sets.js").read_text("utf-8"))


def test_the_check_would_notice_an_english_word() -> None:
    assert LATIN.search("Undo")
    assert not LATIN.search(made_up('x = "Undo {page}"').removeprefix("x = ").replace("{page}", ""))
