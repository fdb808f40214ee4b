"""The rating page as raters see it; `drawbench.rating.session` makes every decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any

import streamlit as st

from drawbench.errors import RefusedError
from drawbench.pages.look import apply_style, client_address, plain_markdown, reading_card
from drawbench.pages.opening import shared_join_limit, shared_store, texts_without_store
from drawbench.pages.presses import one_run, press_button
from drawbench.pages.sets_view import sets_data, show_sets
from drawbench.rating.session import (
    PLATFORM_ID_KEYS,
    ItemScreen,
    Notice,
    Screen,
    Visit,
    answer,
    begin,
    images_seen,
    note_shown,
    report,
    screen_for,
    undo,
)
from drawbench.store import Rater, Store
from drawbench.store.pages import Place
from drawbench.study.design import CAPTION, Question
from drawbench.study.texts import RatingTexts, Texts, fill
from evalkit.core.errors import EvalkitError

SETS_KEY = "sets"


def main() -> None:
    """Draw the page once."""
    with one_run():
        _draw()


def _draw() -> None:
    try:
        store = shared_store()
        screen = screen_for(store, st.query_params.get("rater", ""))
    except EvalkitError:
        _unreachable(texts_without_store())
        return
    _set_up(store.study.texts)
    if "visit" not in st.session_state:
        st.session_state.visit = Visit()
    visit: Visit = st.session_state.visit
    # Always there, so that a message does not move the page below it to another place in the tree,
    # where the browser would build it anew.
    with st.container(key="message"):
        if visit.message:
            st.warning(plain_markdown(visit.message))
            visit.message = ""
    if st.session_state.get("paused") and screen.rater is not None:
        _pause_page(store, screen)
    elif isinstance(screen, ItemScreen):
        _item_page(store, screen, visit)
    elif screen.kind == "welcome":
        _welcome_page(store)
    else:
        _closing_page(store, screen, visit)


def _set_up(texts: Texts) -> None:
    st.set_page_config(page_title=texts.study.title, layout="wide")
    apply_style(texts.rating.translated)


def _unreachable(texts: Texts) -> None:
    _set_up(texts)
    st.error(plain_markdown(texts.errors.unreachable))
    st.button(plain_markdown(texts.errors.try_again))


def _welcome_page(store: Store) -> None:
    config, wording = store.study.config, store.study.texts.welcome
    with reading_card():
        st.html(f'<h1 translate="yes">{escape(config.title)}</h1>')
        _paragraphs(wording.instructions_heading, config.instructions)
        _paragraphs(wording.warning_heading, config.content_warning)
        _paragraphs(wording.consent_heading, config.consent)
        if config.contact:
            _paragraphs(wording.contact_heading, fill(wording.contact, contact=config.contact))
        agreed = st.checkbox(plain_markdown(wording.agreement))
        press_button(
            plain_markdown(wording.start),
            partial(_begin, store),
            type="primary",
            disabled=not agreed,
            key="start",
        )


def _begin(store: Store) -> None:
    platform_ids = {key: st.query_params.get(key, "") for key in PLATFORM_ID_KEYS}
    visit: Visit = st.session_state.visit
    try:
        token = begin(
            store,
            st.query_params.get("rater", ""),
            platform_ids,
            client=client_address(),
            limit=shared_join_limit(),
        )
    except RefusedError as error:
        visit.message = fill(store.study.texts.errors.cannot_start, reason=error)
    except EvalkitError:
        visit.message = store.study.texts.errors.start_failed
    else:
        st.query_params.from_dict({"rater": token})


def _item_page(store: Store, screen: ItemScreen, visit: Visit) -> None:
    config, texts = store.study.config, store.study.texts
    st.html(_heading(screen, texts.rating))
    # In a form, what the component says travels with the next answer instead of on its own.
    with st.form("page", border=False, enter_to_submit=False):
        show_sets(sets_data(screen, config.side_name, texts, visit.report), key=SETS_KEY)
        _questions(store, screen, visit)
        press_button(
            plain_markdown(texts.report.send),
            partial(_report, store, visit, screen.rater),
            key="send-report",
            draw=st.form_submit_button,
        )
    note_shown(visit, screen.place)
    _footer(store, screen, visit)


def _heading(screen: ItemScreen, wording: RatingTexts) -> str:
    """Return progress and caption as HTML; the caption is untrusted text.

    A caption that a question repeats is shown in the question only.
    """
    share = 100 * screen.num_done / screen.num_pages if screen.num_pages else 0.0
    where = fill(wording.progress, page=screen.num_done + 1, pages=screen.num_pages)
    if screen.is_practice:
        where = wording.practice
    caption = (
        f'<div class="caption-card"><span class="eyebrow">{escape(wording.caption)}</span>'
        f'<p class="caption" dir="auto" translate="no">{escape(screen.place.item.prompt)}</p></div>'
    )
    if any(CAPTION in question.text for question in screen.questions):
        caption = ""
    return (
        f'<div class="{"practice" if screen.is_practice else "rated"}">'
        f'<div class="progress" role="progressbar" aria-label="{escape(wording.progress_label)}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<span style="width:{share:.1f}%"></span></div>'
        f'<p class="where" translate="yes">{escape(where)}</p>{caption}</div>'
    )


def _question(question: Question, caption: str) -> str:
    """Return a question as HTML; its caption is untrusted and may run the other way."""
    isolated = f'<bdi class="caption" dir="auto">{escape(caption)}</bdi>'
    text = isolated.join(map(escape, question.text.split(CAPTION)))
    return f'<p class="question" translate="no">{text}</p>'


def _questions(store: Store, screen: ItemScreen, visit: Visit) -> None:
    place, rater = screen.place, screen.rater
    with st.container(horizontal=True, key="questions"):
        for index, question in enumerate(screen.questions):
            is_current = index == screen.current_question
            with st.container(key=f"question-{'current' if is_current else 'other'}-{index}"):
                st.html(_question(question, place.item.prompt))
                with st.container(horizontal=True, key=f"answers-{index}"):
                    for number, offered in enumerate(question.answers, start=1):
                        chosen = place.answers.get(question.id) == offered.value
                        press = partial(
                            _answer, store, visit, rater, place, question.id, offered.value
                        )
                        press_button(
                            plain_markdown(offered.label),
                            press,
                            key=f"answer-{place.cell_id}-{index}-{number}",
                            draw=st.form_submit_button,
                            on_first=partial(_answer_first, visit, place, press),
                            type="primary" if chosen else "secondary",
                            shortcut=str(number) if is_current else None,
                            width="stretch",
                            wrap=True,
                        )


def _answer(
    store: Store, visit: Visit, rater: Rater, place: Place, question_id: str, value: str
) -> None:
    seen = images_seen(place, _told("seen"))
    if seen is not None:
        visit.seen[place.cell_id] = seen
    answer(store, visit, rater, place, question_id, value)


def _answer_first(visit: Visit, place: Place, press: Callable[[], None]) -> None:
    """Store an answer to a page that a session before this one has shown."""
    visit.shown_at.pop(place.cell_id, None)  # nobody knows when
    visit.last_change = float("-inf")
    press()


def _told(what: str) -> Any:
    """Return what the browser last said about the images: `seen` or `report`."""
    said = st.session_state.get(SETS_KEY)
    return said.get(what) if isinstance(said, Mapping) else getattr(said, what, None)


def _footer(store: Store, screen: ItemScreen, visit: Visit) -> None:
    wording = store.study.texts.rating
    with st.container(horizontal=True, horizontal_alignment="center", key="footer"):
        _undo_button(store, screen.rater, visit, disabled=not screen.can_undo)
        press_button(
            plain_markdown(wording.pause), partial(_set_paused, True), key="pause", type="tertiary"
        )
        with st.popover(plain_markdown(wording.instructions), type="tertiary"):
            _paragraphs("", store.study.config.instructions)
            _paragraphs("", wording.keys)


def _undo_button(store: Store, rater: Rater, visit: Visit, *, disabled: bool = False) -> None:
    press_button(
        plain_markdown(store.study.texts.rating.undo),
        partial(undo, store, visit, rater),
        key="undo",
        type="tertiary",
        shortcut="u",
        disabled=disabled,
    )


def _set_paused(paused: bool) -> None:
    st.session_state.paused = paused


def _report(store: Store, visit: Visit, rater: Rater) -> None:
    report(store, visit, rater, _told("report"))


def _pause_page(store: Store, screen: Screen) -> None:
    assert screen.rater is not None
    wording, hours = store.study.texts.pause, store.study.config.lease_minutes / 60
    text = fill(
        wording.explanation, done=screen.num_done, pages=screen.num_pages, hours=f"{hours:g}"
    )
    with reading_card():
        st.html(f'<h1 translate="yes">{escape(wording.heading)}</h1>')
        _paragraphs("", text)
        st.code(_personal_link(), language=None, wrap_lines=True)
        press_button(
            plain_markdown(wording.resume), partial(_set_paused, False), type="primary", key="go-on"
        )
        _withdrawal(store, screen.rater)


def _personal_link() -> str:
    address = str(st.context.url or "").partition("?")[0]
    return f"{address}?rater={st.query_params.get('rater', '')}"


def _withdrawal(store: Store, rater: Rater) -> None:
    wording = store.study.texts.withdrawal
    with st.expander(plain_markdown(wording.heading)):
        _paragraphs("", wording.explanation)
        sure = st.checkbox(plain_markdown(wording.confirm), key="withdraw-sure")
        press_button(
            plain_markdown(wording.delete),
            partial(_withdraw, store, rater),
            key="withdraw",
            disabled=not sure,
        )


def _withdraw(store: Store, rater: Rater) -> None:
    wording = store.study.texts.withdrawal
    visit: Visit = st.session_state.visit
    try:
        store.withdraw(rater.id)
    except EvalkitError:
        visit.message = wording.failed
        return
    st.query_params.clear()
    st.session_state.paused = False
    visit.message = wording.done


def _closing_page(store: Store, screen: Notice, visit: Visit) -> None:
    wording = store.study.texts.closing
    heading, text = {
        "finished": (wording.finished_heading, wording.finished),
        "taken_over": (wording.taken_over_heading, wording.taken_over),
        "members_only": (wording.members_only_heading, wording.members_only),
        "unknown_link": (wording.unknown_link_heading, wording.unknown_link),
    }[screen.kind]
    with reading_card():
        st.html(f'<h1 translate="yes">{escape(heading)}</h1>')
        _paragraphs("", fill(text, done=screen.num_done, pages=screen.num_pages))
        if screen.kind == "finished":
            assert screen.rater is not None
            st.code(screen.rater.completion_code, language=None)
            _undo_button(store, screen.rater, visit)
            _withdrawal(store, screen.rater)


def _paragraphs(heading: str, text: str) -> None:
    title = f"<h2>{escape(heading)}</h2>" if heading else ""
    parts = [f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n")]
    # React does not look into this text, so the browser may translate it.
    st.html(f'<div translate="yes">{title}{"".join(parts)}</div>')


if __name__ == "__main__":
    main()
