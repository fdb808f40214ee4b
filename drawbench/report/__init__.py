"""The report of a study: one HTML page that opens offline, and the tables behind it as CSV."""
