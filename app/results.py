"""The researchers' page: `streamlit run app/results.py`, or `evalkit drawbench rate --results`."""

from drawbench.pages.results import main

main()
