"""Prompt suites: one row each, checked by count and hash."""

from drawbench.suites.suite import Prompt, Suite, load_suite, make_suite

__all__ = ["Prompt", "Suite", "load_suite", "make_suite"]
