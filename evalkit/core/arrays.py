"""Arrays from elsewhere: tensors of any kind, and numpy archives (`.npz`) of any origin."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evalkit.core.errors import DataError, MissingDataError

_DAMAGED = (
    OSError,
    EOFError,
    ValueError,  # among them: pickled objects, which are never loaded
    TypeError,
    SyntaxError,
    RuntimeError,  # zipfile: encrypted; NotImplementedError: an unknown compression
    OverflowError,
    MemoryError,  # a header that declares more than there is
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What numpy and zipfile raise for damaged or foreign files."""
DAMAGED_PICKLE = (
    RuntimeError,
    EOFError,
    ValueError,
    OSError,
    LookupError,
    AttributeError,
    TypeError,
    OverflowError,
    AssertionError,
    struct.error,
)
"""What `torch.load` raises for damaged files, beside `UnpicklingError`: it trusts their opcodes."""


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of an open `.npz`."""

    path: Path
    names: tuple[str, ...]
    _stored: Any

    def read(self, name: str) -> np.ndarray:
        """Read one array.

        Raises:
            DataError: It is damaged, or no array of numbers or text.
        """
        try:
            found = self._stored[name]
        except _DAMAGED as error:
            raise DataError(
                f"{self.path}: the array {name} can't be read ({_reason(error)}). Write the file "
                "again."
            ) from error
        if not isinstance(found, np.ndarray):
            raise DataError(f"{self.path}: {name} is no numpy array. Write the file with np.savez.")
        return found


@contextmanager
def open_npz(path: Path, *, what: str = "a numpy archive") -> Iterator[StoredArrays]:
    """Open an `.npz`; `what` it should be is named in errors.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is no such archive, or damaged.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: no such file. Give an existing .npz.")
    with ExitStack() as opened:
        try:
            # Opened here, since numpy leaves a file open that it can't read.
            stored = np.load(opened.enter_context(path.open("rb")), allow_pickle=False)
        except _DAMAGED as error:
            raise DataError(f"{path}: not {what} ({_reason(error)}); expected .npz.") from error
        if isinstance(stored, np.ndarray):
            raise DataError(f"{path}: a single array, not an archive of arrays; expected .npz.")
        with stored:
            yield StoredArrays(path, tuple(stored.files), stored)


def as_array(values: Any, dtype: Any = None) -> np.ndarray:
    """Return anything that holds numbers as an array.

    Tensors may be on any device, need a gradient, or have a precision that numpy lacks (bfloat16,
    which becomes float32), alone or in a list.

    >>> as_array([[1, 2]]).shape
    (1, 2)
    """
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        values = np.stack([as_array(value) for value in values])
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < 4:
            values = values.float()  # exact
    return np.asarray(values, dtype)


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:160].rstrip(".")
