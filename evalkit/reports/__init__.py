"""Reports: records as CSV, terminal tables and HTML pages that open offline.

They render and compute nothing. `tables` writes `results.csv` and prints to the terminal, `html`
writes `report.html`. Both take any `ResultRecord`s; the state, the reason and the fingerprint of a
record are always shown.
"""
