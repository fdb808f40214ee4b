"""A study: its design, its folder, how it is made, and who is assigned to what."""

from drawbench.study.folder import Study, load_study

__all__ = ["Study", "load_study"]
