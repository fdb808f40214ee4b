"""Sampling: speed, number of steps, guidance and caches."""
