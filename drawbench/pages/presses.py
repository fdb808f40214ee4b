"""Buttons whose press counts even if it is the first thing that a new session hears.

After a restart of the server, the browser keeps showing the page, and the next press opens a new
session. Streamlit calls callbacks only of widgets that the session has drawn before, so there the
press is known by the button's return value alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import streamlit as st

_HEARD = "heard"


@contextmanager
def one_run() -> Iterator[None]:
    """Surround one run of the script: a press that its callbacks heard is forgotten at its end."""
    try:
        yield
    finally:
        st.session_state.pop(_HEARD, None)


def press_button(
    label: str,
    on_press: Callable[[], object],
    *,
    key: str,
    draw: Callable[..., bool] = st.button,
    on_first: Callable[[], object] | None = None,
    **options: Any,
) -> None:
    """Draw a button.

    Args:
        label: Markdown.
        on_press: What a press does.
        key: Name of the widget, which stays the same for the same effect.
        draw: `st.button`, or `st.form_submit_button` in a form.
        on_first: What to do instead if the session hears the press before it has drawn the page.
        options: Of `draw`.
    """

    def hear() -> None:
        st.session_state[_HEARD] = key
        on_press()

    if draw(label, key=key, on_click=hear, **options) and st.session_state.get(_HEARD) != key:
        (on_first or on_press)()
        st.rerun()
