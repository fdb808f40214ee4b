"""The script that serves the rating page; what raters see is in `rating_page.py`.

Streamlit looks for the assignment of an `st.App` in the script that it runs, so this file and
`app/rate.py` each hold one.
"""

import streamlit as st

from drawbench.pages.web import MIDDLEWARE, RATING_PAGE, ROUTES

app = st.App(RATING_PAGE, routes=ROUTES, middleware=MIDDLEWARE)
