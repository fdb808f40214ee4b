"""What raters see. Run by `rate.py`; every decision is made in `drawbench.rating.session`."""

from __future__ import annotations

from functools import partial
from html import escape

import streamlit as st

from drawbench.errors import RefusedError
from drawbench.pages.opening import shared_store
from drawbench.pages.sets_view import show_sets
from drawbench.pages.texts import STYLE, plain_markdown, reading_card
from drawbench.rating.session import (
    PLATFORM_ID_KEYS,
    ItemScreen,
    Notice,
    Screen,
    Visit,
    answer,
    begin,
    note_shown,
    report,
    reported_image,
    screen_for,
    undo,
)
from drawbench.store import Rater, Store
from drawbench.store.pages import Place
from drawbench.study.design import question_text
from evalkit.core.errors import EvalkitError

SETS_KEY = "sets"


def main() -> None:
    """Draw the page once."""
    st.set_page_config(page_title="Comparing images", layout="wide")
    st.html(STYLE)
    try:
        store = shared_store()
        screen = screen_for(store, st.query_params.get("rater", ""))
    except EvalkitError:
        _unreachable()
        return
    if "visit" not in st.session_state:
        st.session_state.visit = Visit()
    visit: Visit = st.session_state.visit
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


def _unreachable() -> None:
    st.error("The study can't be reached at the moment. Your stored answers are safe.")
    st.button("Try again")


def _welcome_page(store: Store) -> None:
    config = store.study.config
    with reading_card():
        st.html(f"<h1>{escape(config.title)}</h1>")
        _paragraphs("What to do", config.instructions)
        _paragraphs("Please note", config.content_warning)
        _paragraphs("Your data", config.consent)
        if config.contact:
            _paragraphs("Questions?", f"Write to {config.contact}.")
        agreed = st.checkbox("I am an adult, I have read this, and I agree to take part.")
        st.button(
            "Start",
            type="primary",
            disabled=not agreed,
            on_click=_begin,
            args=(store,),
            key="start",
        )


def _begin(store: Store) -> None:
    platform_ids = {key: st.query_params.get(key, "") for key in PLATFORM_ID_KEYS}
    visit: Visit = st.session_state.visit
    try:
        token = begin(store, st.query_params.get("rater", ""), platform_ids)
    except RefusedError as error:
        visit.message = f"You can't start now: {error}."
    except EvalkitError:
        visit.message = "The study can't be reached at the moment. Please try again."
    else:
        st.query_params.from_dict({"rater": token})


def _item_page(store: Store, screen: ItemScreen, visit: Visit) -> None:
    place, rater = screen.place, screen.rater
    config = store.study.config
    st.html(_heading(screen))
    show_sets(
        screen,
        config.side_name,
        partial(_note_report, place),
        key=SETS_KEY,
    )
    note_shown(visit, place)
    _questions(store, screen, visit)
    _footer(store, screen, visit)
    if "reporting" in st.session_state:
        _report_dialog(store, visit, rater, place)


def _heading(screen: ItemScreen) -> str:
    """Progress and caption as HTML; the caption is anybody's text."""
    share = 100 * screen.num_done / screen.num_pages if screen.num_pages else 0.0
    where = f"{screen.num_done + 1} of {screen.num_pages}"
    if screen.is_practice:
        where = "Practice: answers on this page do not count"
    return (
        f'<div class="{"practice" if screen.is_practice else "rated"}">'
        f'<div class="progress" role="progressbar" aria-label="Pages done" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{share:.0f}"><span style="width:{share:.1f}%"></span>'
        f'</div><p class="where">{where}</p><div class="caption-card"><span class="eyebrow">Caption'
        f'</span><p class="caption">{escape(screen.place.item.prompt)}</p></div></div>'
    )


def _questions(store: Store, screen: ItemScreen, visit: Visit) -> None:
    place, rater = screen.place, screen.rater
    with st.container(horizontal=True, key="questions"):
        for index, question in enumerate(screen.questions):
            is_current = index == screen.current_question
            with st.container(key=f"question-{'current' if is_current else 'other'}-{index}"):
                text = question_text(question, place.item.prompt)
                st.html(f'<p class="question">{escape(text)}</p>')
                with st.container(horizontal=True, key=f"answers-{index}"):
                    for number, offered in enumerate(question.answers, start=1):
                        chosen = place.answers.get(question.id) == offered.value
                        st.button(
                            plain_markdown(offered.label),
                            key=f"answer-{place.cell_id}-{index}-{number}",
                            type="primary" if chosen else "secondary",
                            shortcut=str(number) if is_current else None,
                            width="stretch",
                            wrap=True,
                            on_click=_answer,
                            args=(store, visit, rater, place, question.id, offered.value),
                        )


def _answer(
    store: Store, visit: Visit, rater: Rater, place: Place, question_id: str, value: str
) -> None:
    answer(store, visit, rater, place, question_id, value)


def _footer(store: Store, screen: ItemScreen, visit: Visit) -> None:
    with st.container(horizontal=True, horizontal_alignment="center", key="footer"):
        st.button(
            "Undo last answer",
            key="undo",
            type="tertiary",
            shortcut="u",
            disabled=not screen.can_undo,
            on_click=undo,
            args=(store, visit, screen.rater),
        )
        st.button("Pause", key="pause", type="tertiary", on_click=_set_paused, args=(True,))
        with st.popover("Instructions", type="tertiary"):
            st.html(f"<p>{escape(store.study.config.instructions)}</p>")
            st.html(
                "<p>Press an image to enlarge it. The keys 1, 2, 3 answer the highlighted "
                "question, U takes the last answer back. To report an image, enlarge it first.</p>"
            )


def _set_paused(paused: bool) -> None:
    st.session_state.paused = paused


def _note_report(place: Place) -> None:
    key = reported_image(place, st.session_state[SETS_KEY].report)
    if key is not None:
        st.session_state.reporting = (place.cell_id, key)


@st.dialog("Report this image", on_dismiss=lambda: _end_report())
def _report_dialog(store: Store, visit: Visit, rater: Rater, place: Place) -> None:
    cell_id, key = st.session_state.reporting
    reason = st.text_area("What is wrong with it? (You may leave this empty.)", max_chars=1000)
    if st.button("Report", type="primary", key="report"):
        _end_report()
        if cell_id == place.cell_id:
            report(store, visit, rater, place, key, reason)
        st.rerun()


def _end_report() -> None:
    st.session_state.pop("reporting", None)


def _pause_page(store: Store, screen: Screen) -> None:
    assert screen.rater is not None
    hours = store.study.config.lease_minutes / 60
    with reading_card():
        st.html("<h1>Paused</h1>")
        _paragraphs(
            "",
            f"All your answers are stored ({screen.num_done} of {screen.num_pages} pages). You can "
            "close this window and go on later, here or on another device, with your personal "
            f"link. Your place is kept for {hours:g} hours; after that, pages you have not rated "
            "may go to somebody else. Keep the link to yourself: whoever has it can answer in "
            "your place.",
        )
        st.code(_personal_link(), language=None, wrap_lines=True)
        st.button("Go on", type="primary", key="go-on", on_click=_set_paused, args=(False,))
        _withdrawal(store, screen.rater)


def _personal_link() -> str:
    address = str(st.context.url or "").partition("?")[0]
    return f"{address}?rater={st.query_params.get('rater', '')}"


def _withdrawal(store: Store, rater: Rater) -> None:
    with st.expander("Withdraw from the study"):
        st.html("<p>This deletes all your answers for good and ends your part in the study.</p>")
        sure = st.checkbox("Yes, delete everything.", key="withdraw-sure")
        st.button(
            "Delete my answers",
            key="withdraw",
            disabled=not sure,
            on_click=_withdraw,
            args=(store, rater),
        )


def _withdraw(store: Store, rater: Rater) -> None:
    visit: Visit = st.session_state.visit
    try:
        store.withdraw(rater.id)
    except EvalkitError:
        visit.message = "Nothing was deleted: the study can't be reached. Please try again."
        return
    st.query_params.clear()
    st.session_state.paused = False
    visit.message = "All your answers were deleted. Thank you for your time."


def _closing_page(store: Store, screen: Notice, visit: Visit) -> None:
    with reading_card():
        if screen.kind == "finished":
            _finished(store, screen, visit)
        elif screen.kind == "taken_over":
            st.html("<h1>Thank you</h1>")
            _paragraphs(
                "",
                f"You were away for a while, so your remaining pages went to other people. The "
                f"{screen.num_done} pages that you rated are stored.",
            )
        elif screen.kind == "members_only":
            st.html("<h1>By invitation</h1>")
            _paragraphs("", "This study is open to invited people. Please use your personal link.")
        else:
            st.html("<h1>Unknown link</h1>")
            _paragraphs(
                "", "This personal link is not known here. Please check that it is complete."
            )


def _finished(store: Store, screen: Notice, visit: Visit) -> None:
    assert screen.rater is not None
    st.html("<h1>Done. Thank you!</h1>")
    _paragraphs("", f"All {screen.num_pages} pages are rated and stored. Your completion code is")
    st.code(screen.rater.completion_code, language=None)
    st.button(
        "Undo last answer",
        key="undo",
        type="tertiary",
        shortcut="u",
        on_click=undo,
        args=(store, visit, screen.rater),
    )
    _withdrawal(store, screen.rater)


def _paragraphs(heading: str, text: str) -> None:
    parts = [f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n")]
    st.html((f"<h2>{escape(heading)}</h2>" if heading else "") + "".join(parts))


if __name__ == "__main__":
    main()
