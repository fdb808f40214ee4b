"""Metrics: speed, precision and the coverage of their intervals."""
