"""The look of the pages, and text that Markdown leaves alone."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=])")
STYLE_SHEET = Path(__file__).with_name("assets") / "page.css"


def apply_style() -> None:
    """Apply our style sheet to the page."""
    st.html(_style())


@cache
def _style() -> str:
    return f"<style>\n{STYLE_SHEET.read_text('utf-8')}</style>"


def reading_card(width_px: int = 760) -> DeltaGenerator:
    """Return a card in the middle of the page, for text."""
    return st.container(horizontal_alignment="center").container(width=width_px, key="reading")


def plain_markdown(text: str) -> str:
    r"""Escape a text so that Streamlit's Markdown shows it as it is.

    >>> plain_markdown("*a* :red[b]")
    '\\*a\\* \\:red\\[b\\]'
    """
    return _MARKUP.sub(r"\\\1", text)
