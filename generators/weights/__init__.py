"""Weights: where they are published, how they are read, and which network they belong to."""
