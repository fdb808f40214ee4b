"""Ids of people on crowd platforms, as they come from addresses, files and commands."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 200
PLACEHOLDER_CHARACTERS = frozenset("{}")
"""Characters of a placeholder that the platform did not fill in, which all raters would share."""


def clean_platform_id(text: str) -> str | None:
    r"""Return an id without the spaces around it, or None if it can't be one.

    Upper and lower case differ. Control characters, placeholders and ids of more than 200
    characters are refused: shortened, two people could have the same.

    >>> clean_platform_id(" 5F1a\n"), clean_platform_id("5\x00f"), clean_platform_id("{{%ID%}}")
    ('5F1a', None, None)
    """
    stripped = text.strip()
    if len(stripped) > MAX_LENGTH or PLACEHOLDER_CHARACTERS & set(stripped):
        return None
    if any(unicodedata.category(character).startswith("C") for character in stripped):
        return None
    return stripped
