"""The rating page as raters see it; `drawbench.rating.session` makes every decision."""

from __future__ import annotations

from functools import partial
from html import escape

import streamlit as st

from drawbench.errors import RefusedError
from drawbench.pages.look import apply_style, plain_markdown, reading_card
from drawbench.pages.opening import shared_store, texts_without_store
from drawbench.pages.sets_view import show_sets
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
from drawbench.store.store import MAX_REASON
from drawbench.study.design import question_text
from drawbench.study.texts import RatingTexts, Texts, fill
from evalkit.core.errors import EvalkitError

SETS_KEY = "sets"


def main() -> None:
    """Draw the page once."""
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
    apply_style()


def _unreachable(texts: Texts) -> None:
    _set_up(texts)
    st.error(plain_markdown(texts.errors.unreachable))
    st.button(plain_markdown(texts.errors.try_again))


def _welcome_page(store: Store) -> None:
    config, wording = store.study.config, store.study.texts.welcome
    with reading_card():
        st.html(f"<h1>{escape(config.title)}</h1>")
        _paragraphs(wording.instructions_heading, config.instructions)
        _paragraphs(wording.warning_heading, config.content_warning)
        _paragraphs(wording.consent_heading, config.consent)
        if config.contact:
            _paragraphs(wording.contact_heading, fill(wording.contact, contact=config.contact))
        agreed = st.checkbox(plain_markdown(wording.agreement))
        st.button(
            plain_markdown(wording.start),
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
        visit.message = fill(store.study.texts.errors.cannot_start, reason=error)
    except EvalkitError:
        visit.message = store.study.texts.errors.start_failed
    else:
        st.query_params.from_dict({"rater": token})


def _item_page(store: Store, screen: ItemScreen, visit: Visit) -> None:
    place, rater = screen.place, screen.rater
    config, texts = store.study.config, store.study.texts
    st.html(_heading(screen, texts.rating))
    show_sets(screen, config.side_name, texts, partial(_note_report, place), key=SETS_KEY)
    note_shown(visit, place)
    _questions(store, screen, visit)
    _footer(store, screen, visit)
    if "reporting" in st.session_state:
        show_dialog = st.dialog(plain_markdown(texts.report.title), on_dismiss=_end_report)
        show_dialog(_report_dialog)(store, visit, rater, place)


def _heading(screen: ItemScreen, wording: RatingTexts) -> str:
    """Return progress and caption as HTML; the caption is untrusted text."""
    share = 100 * screen.num_done / screen.num_pages if screen.num_pages else 0.0
    where = fill(wording.progress, page=screen.num_done + 1, pages=screen.num_pages)
    if screen.is_practice:
        where = wording.practice
    return (
        f'<div class="{"practice" if screen.is_practice else "rated"}">'
        f'<div class="progress" role="progressbar" aria-label="{escape(wording.progress_label)}" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<span style="width:{share:.1f}%"></span></div><p class="where">{escape(where)}</p>'
        f'<div class="caption-card"><span class="eyebrow">{escape(wording.caption)}</span>'
        f'<p class="caption">{escape(screen.place.item.prompt)}</p></div></div>'
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
    wording = store.study.texts.rating
    with st.container(horizontal=True, horizontal_alignment="center", key="footer"):
        _undo_button(store, screen.rater, visit, disabled=not screen.can_undo)
        st.button(
            plain_markdown(wording.pause),
            key="pause",
            type="tertiary",
            on_click=_set_paused,
            args=(True,),
        )
        with st.popover(plain_markdown(wording.instructions), type="tertiary"):
            _paragraphs("", store.study.config.instructions)
            _paragraphs("", wording.keys)


def _undo_button(store: Store, rater: Rater, visit: Visit, *, disabled: bool = False) -> None:
    st.button(
        plain_markdown(store.study.texts.rating.undo),
        key="undo",
        type="tertiary",
        shortcut="u",
        disabled=disabled,
        on_click=undo,
        args=(store, visit, rater),
    )


def _set_paused(paused: bool) -> None:
    st.session_state.paused = paused


def _note_report(place: Place) -> None:
    key = reported_image(place, st.session_state[SETS_KEY].report)
    if key is not None:
        st.session_state.reporting = (place.cell_id, key)


def _report_dialog(store: Store, visit: Visit, rater: Rater, place: Place) -> None:
    wording = store.study.texts.report
    cell_id, key = st.session_state.reporting
    reason = st.text_area(plain_markdown(wording.reason), max_chars=MAX_REASON)
    if st.button(plain_markdown(wording.send), type="primary", key="report"):
        _end_report()
        if cell_id == place.cell_id:
            report(store, visit, rater, place, key, reason)
        st.rerun()


def _end_report() -> None:
    st.session_state.pop("reporting", None)


def _pause_page(store: Store, screen: Screen) -> None:
    assert screen.rater is not None
    wording, hours = store.study.texts.pause, store.study.config.lease_minutes / 60
    text = fill(
        wording.explanation, done=screen.num_done, pages=screen.num_pages, hours=f"{hours:g}"
    )
    with reading_card():
        st.html(f"<h1>{escape(wording.heading)}</h1>")
        _paragraphs("", text)
        st.code(_personal_link(), language=None, wrap_lines=True)
        st.button(
            plain_markdown(wording.resume),
            type="primary",
            key="go-on",
            on_click=_set_paused,
            args=(False,),
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
        st.button(
            plain_markdown(wording.delete),
            key="withdraw",
            disabled=not sure,
            on_click=_withdraw,
            args=(store, rater),
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
        st.html(f"<h1>{escape(heading)}</h1>")
        _paragraphs("", fill(text, done=screen.num_done, pages=screen.num_pages))
        if screen.kind == "finished":
            assert screen.rater is not None
            st.code(screen.rater.completion_code, language=None)
            _undo_button(store, screen.rater, visit)
            _withdrawal(store, screen.rater)


def _paragraphs(heading: str, text: str) -> None:
    parts = [f"<p>{escape(part.strip())}</p>" for part in text.split("\n\n")]
    st.html((f"<h2>{escape(heading)}</h2>" if heading else "") + "".join(parts))


if __name__ == "__main__":
    main()
