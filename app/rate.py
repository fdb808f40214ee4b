"""The rating page: `streamlit run app/rate.py`, or `evalkit drawbench rate STUDY`."""

import streamlit as st

from drawbench.pages.web import MIDDLEWARE, RATING_PAGE, ROUTES

app = st.App(RATING_PAGE, routes=ROUTES, middleware=MIDDLEWARE)
