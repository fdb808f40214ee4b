"""Errors of too little memory, which torch raises in several forms."""

from __future__ import annotations

import sys

from evalkit.core.errors import OutOfMemoryError

_ALLOCATORS = ("not enough memory", "can't allocate memory", "out of memory")


def is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out, on the CPU or on a GPU; torch need not be imported."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _ALLOCATORS)


def out_of_memory(error: Exception) -> OutOfMemoryError:
    """Build the one-line error of it."""
    said = (str(error).strip().splitlines() or ["no memory left"])[0]
    return OutOfMemoryError(
        f"Out of memory ({said[:200].rstrip('.')}). Choose a smaller --batch-size, or fewer "
        "--workers; what is finished is kept."
    )
