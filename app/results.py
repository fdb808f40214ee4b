"""The researchers' page: `streamlit run app/results.py`, or `evalkit drawbench rate --results`."""

import streamlit as st

from drawbench.pages.web import MIDDLEWARE, RESULTS_PAGE

app = st.App(RESULTS_PAGE, middleware=MIDDLEWARE)
