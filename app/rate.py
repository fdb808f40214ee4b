"""The rating page: `streamlit run app/rate.py`, or `evalkit drawbench rate STUDY`.

This file is the web server's part: it serves the pictures under their blind names and says what
browsers may do with the pages. What raters see is in `rating_page.py`.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import Route

from app.pictures import PrivacyHeaders, serve_picture

app = st.App(
    Path(__file__).with_name("rating_page.py"),
    routes=[Route("/picture/{key}", serve_picture)],
    middleware=[Middleware(PrivacyHeaders)],
)
