"""The script that serves the results page; what researchers see is in `results_page.py`.

Streamlit looks for the assignment of an `st.App` in the script that it runs, so this file and
`app/results.py` each hold one.
"""

import streamlit as st

from drawbench.pages.web import MIDDLEWARE, RESULTS_PAGE

app = st.App(RESULTS_PAGE, middleware=MIDDLEWARE)
