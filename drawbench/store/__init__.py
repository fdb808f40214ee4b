"""The votes of a study in SQLite or PostgreSQL."""

from drawbench.store.store import Rater, Store, open_store

__all__ = ["Rater", "Store", "open_store"]
