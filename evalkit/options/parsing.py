"""Parse option values that are more than one word or number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evalkit.core.errors import ConfigError


def named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """Parse the `NAME=PATH` arguments of --weights.

    >>> named_paths(["clip=a.pt"])["clip"].name
    'a.pt'

    Raises:
        ConfigError: An argument has another form, or repeats a name.
    """
    pairs: dict[str, Path] = {}
    for text in texts:
        name, eq, path = text.partition("=")
        if not (name and eq and path):
            raise ConfigError(f"--weights expects NAME=PATH, got {text!r}.")
        if name in pairs:
            raise ConfigError(f"--weights gives {name} twice, {pairs[name]} and {path}. Give one.")
        pairs[name] = Path(path)
    return pairs


AUTO_BATCH = 0
"""What `batch_size` returns for the largest batch that fits."""


def batch_size(text: str) -> int:
    """Parse the argument of --batch-size.

    >>> batch_size("16"), batch_size("auto")
    (16, 0)

    Raises:
        ConfigError: It is neither a positive whole number nor `auto`.
    """
    if text == "auto":
        return AUTO_BATCH
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ConfigError(f"--batch-size must be auto or at least 1, got {text!r}.")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    """Split a text into its comma-separated names.

    >>> names("fid, kid,")
    ('fid', 'kid')
    """
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def whole_numbers(text: str, flag: str) -> tuple[int, ...]:
    """Parse comma-separated whole numbers.

    Raises:
        ConfigError: An entry is not a whole number.

    >>> whole_numbers("3,5", "--neighbours")
    (3, 5)
    """
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{flag} expects whole numbers such as 3,5, got {text!r}.") from None
