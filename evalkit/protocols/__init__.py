"""Measurement protocols: what a number stands for, as files with a name."""
