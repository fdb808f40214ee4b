"""Hashes of files that nobody published one for: recorded at first use, and pinned from then on."""

from __future__ import annotations

import json
from pathlib import Path

from evalkit.core.downloads import cache_root
from evalkit.core.errors import DataError
from evalkit.core.results import write_atomically


def pins_file() -> Path:
    """Return the file of recorded hashes, in the cache."""
    return cache_root() / "pins.json"


def pinned(name: str) -> str | None:
    """Return the recorded hash of a name; None if there is none yet."""
    return _read().get(name)


def check_pin(name: str, sha256: str, *, where: Path | str) -> bool:
    """Record the hash of a file at its first use; later, check that it is still the same.

    Args:
        name: What the file is known as, such as `reference/coco-val2014@t2i-benchmark`.
        sha256: Hash of the file as it is now.
        where: The file, for the error.

    Returns:
        Whether this was the first use.

    Raises:
        DataError: Another hash was recorded.
    """
    pins = _read()
    if name in pins:
        if pins[name] != sha256:
            raise DataError(
                f"{where}: sha256 is {sha256[:12]}..., but {name} was {pins[name][:12]}... at its "
                f"first use on this machine. Restore that file, or remove its line from "
                f"{pins_file()}."
            )
        return False
    pins[name] = sha256
    text = json.dumps(pins, indent=2, sort_keys=True) + "\n"
    write_atomically(pins_file(), text.encode())
    return True


def _read() -> dict[str, str]:
    path = pins_file()
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: can't be read as JSON ({error}). Remove or repair it.") from error
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected an object of hashes. Remove or repair it.")
    return {str(name): str(value) for name, value in found.items()}
