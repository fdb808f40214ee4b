"""Reports: records as CSV, terminal tables and HTML pages that open offline.

It renders and computes nothing. `tables` writes `results.csv` and prints to the terminal, `html`
writes `report.html`. Both take `evalkit.results.ResultRecord`s as they come; what a record says of
itself (its state, its reason, its fingerprint) is always shown.
"""
