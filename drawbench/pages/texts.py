"""The look of the pages, and text that stays text."""

from __future__ import annotations

import re

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

_MARKUP = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$:&^=])")

STYLE = """<style>
[data-testid="stHeader"], [data-testid="stDecoration"] { display: none; }
[data-testid="stMainBlockContainer"] { padding: 0.9rem 1.5rem 2rem; max-width: 1560px; }
[data-testid="stMainBlockContainer"] > div > [data-testid="stVerticalBlock"] { gap: 0.7rem; }
.st-key-reading { margin-top: 4vh; background: #fff; border: 1px solid #dcdcd8;
  border-radius: 0.9rem; padding: 1.8rem 2.2rem 1.6rem; gap: 0.9rem; }
.st-key-reading h1 { font-size: 1.9rem; font-weight: 650; margin: 0 0 0.5rem; padding: 0; }
.st-key-reading h2 { font-size: 1.05rem; font-weight: 650; margin: 0.6rem 0 0.2rem; padding: 0; }
.st-key-reading p { font-size: 1rem; line-height: 1.55; margin: 0 0 0.4rem; }
.progress { height: 5px; border-radius: 3px; background: #e0e0dc; overflow: hidden; }
.progress span { display: block; height: 100%; background: #2f6f73; }
.where { margin: 0.35rem 0 0; font-size: 0.82rem; color: #5c6366; text-align: right; }
.caption-card { text-align: center; margin: -0.9rem 6.5rem 0; }
.practice .caption-card { margin-top: 0; }
.eyebrow { font-size: 0.72rem; letter-spacing: 0.12em; text-transform: uppercase; color: #6b7275; }
.caption { margin: 0.1rem auto 0; max-width: 62rem; font-size: 1.3rem; line-height: 1.35;
  font-weight: 550; color: #22282b; overflow-wrap: anywhere; }
.question { margin: 0; font-size: 0.98rem; line-height: 1.35; font-weight: 550; text-align: center;
  overflow-wrap: anywhere; }
.st-key-questions { align-items: stretch; gap: 1.25rem; }
[class*="st-key-question-"] { flex: 1 1 0; min-width: 20rem; background: #fff; padding: 0.7rem
0.9rem 0.8rem;
  border: 1px solid #dcdcd8; border-radius: 0.75rem; gap: 0.55rem; justify-content: space-between; }
[class*="st-key-question-current-"] { border-color: #2f6f73; box-shadow: 0 0 0 1px #2f6f73; }
[class*="st-key-question-other-"] { opacity: 0.8; }
[class*="st-key-answers-"] { gap: 0.45rem; flex-wrap: nowrap; }
[class*="st-key-answers-"] > * { flex: 1 1 0; min-width: 0; }
[class*="st-key-answers-"] button { min-height: 2.9rem; height: 100%; padding: 0.3rem 0.4rem; }
[class*="st-key-answers-"] button p { font-size: 0.95rem; line-height: 1.2; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 0.5rem 0.5rem 1.5rem; }
  [data-testid="stMainBlockContainer"] > div > [data-testid="stVerticalBlock"] { gap: 0.45rem; }
  .caption { font-size: 1.02rem; }
  .question { font-size: 0.9rem; }
  .st-key-questions { flex-direction: column; gap: 0.45rem; }
  .st-key-questions > [data-testid="stLayoutWrapper"] { flex: 0 0 auto; }
  [class*="st-key-question-"] { flex: 0 0 auto; min-width: 0; width: 100%;
    padding: 0.45rem 0.5rem 0.5rem; }
  .caption-card { margin: 0; }
  .where { margin-bottom: -1.1rem; }
  .practice .where { margin-bottom: 0; text-align: center; }
  .st-key-reading { margin-top: 0; padding: 1.1rem 1.1rem 1.2rem; }
  [class*="st-key-answers-"] button p { font-size: 0.86rem; }
  [class*="st-key-answers-"] kbd, [class*="st-key-footer"] kbd { display: none; }
}
</style>"""


def reading_card(width_px: int = 760) -> DeltaGenerator:
    """A card in the middle of the page, for text."""
    return st.container(horizontal_alignment="center").container(width=width_px, key="reading")


def plain_markdown(text: str) -> str:
    r"""Text that Streamlit's Markdown shows as it is.

    >>> plain_markdown("*a* :red[b]")
    '\\*a\\* \\:red\\[b\\]'
    """
    return _MARKUP.sub(r"\\\1", text)
