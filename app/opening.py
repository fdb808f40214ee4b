"""Open the study once per server process."""

from __future__ import annotations

from functools import cache

from app.settings import read_settings
from drawbench.rating import open_for_rating
from drawbench.store import Store


@cache
def shared_store() -> Store:
    """The store that all visitors of this process share.

    Raises:
        EvalkitError: The study or its database can't be opened; the next call tries again.
    """
    settings = read_settings()
    return open_for_rating(settings.study, settings.database, sample_path=settings.sample_folder)
