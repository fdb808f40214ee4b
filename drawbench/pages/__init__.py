"""The two web pages: `rate.py` for raters, `results.py` for researchers. Needs Streamlit."""
