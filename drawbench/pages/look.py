"""The look of the pages, and text that Markdown leaves alone."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=])")
ASSETS = Path(__file__).with_name("assets")


def apply_style(translated: str) -> None:
    """Apply our style sheet to the page, and let it survive the browser's translation.

    Args:
        translated: What a visitor reads whose browser translates the page.
    """
    st.html(_style())
    with st.container(key="script"):  # hidden by the style sheet
        st.html(_script(), unsafe_allow_javascript=True)
    with st.container(key="translated"):  # shown by the style sheet while a browser translates
        st.html(f'<p translate="yes">{escape(translated)}</p>')


@cache
def _style() -> str:
    return f"<style>\n{(ASSETS / 'page.css').read_text('utf-8')}</style>"


@cache
def _script() -> str:
    return f"<script>\n{(ASSETS / 'page.js').read_text('utf-8')}</script>"


def client_address() -> str:
    """Return the network address of the visitor; empty for this machine. It is stored nowhere."""
    return st.context.ip_address or ""


def reading_card(width_px: int = 760) -> DeltaGenerator:
    """Return a card in the middle of the page, for text."""
    return st.container(horizontal_alignment="center").container(width=width_px, key="reading")


def plain_markdown(text: str) -> str:
    r"""Escape a text so that Streamlit's Markdown shows it as it is.

    >>> plain_markdown("*a* :red[b]")
    '\\*a\\* \\:red\\[b\\]'
    """
    return _MARKUP.sub(r"\\\1", text)
