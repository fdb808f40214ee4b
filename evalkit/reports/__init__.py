"""Reports: records as CSV, terminal tables and HTML pages that open offline.

It renders and computes nothing. `tables` writes `results.csv` and prints to the terminal, `html`
writes `report.html`. Both take `ResultRecord`s as they come; the state, the reason and the
fingerprint of a record are always shown.
"""
