"""Files of the caller's world: what can't be written, and what is not what its name says."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.core.errors import EvalkitError, OutputError, WeightsError
from evalkit.core.places import AnyPath, is_remote, probe_remote

ADVICE = "Choose another place, or free some space"
_PROBE = b"\0" * 4096
"""A block: a full disk still creates empty files."""
_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html", b"<?xml")


@contextmanager
def writing(
    path: AnyPath, advice: str = "Choose another place, or free some space."
) -> Iterator[None]:
    """Turn a failure to write into a one-line error.

    Args:
        path: The file or folder that is written, for the message.
        advice: What to do; a sentence without its full stop.

    Raises:
        OutputError: The file system refuses.
    """
    try:
        yield
    except EvalkitError:  # some are an OSError too
        raise
    except OSError as error:
        raise unwritable(path, error, advice) from error


def unwritable(path: AnyPath, error: OSError, advice: str) -> OutputError:
    """Build the error of a path that can't be written."""
    return OutputError(f"{path} can't be written ({error.strerror or error}). {advice}.")


def check_output(path: Path | None, option: str) -> None:
    """Check that a file can be written, before the work that fills it; create nothing.

    Args:
        path: The file; None: nothing is to be written.
        option: What named it, such as `--json`.

    Raises:
        OutputError: It is a folder, or its folder can't be written.
    """
    if path is None:
        return
    advice = f"Name another file with {option}"
    if path.is_dir():
        raise OutputError(f"{path} is a folder, but {option} takes a file. {advice}.")
    _probe(path, path.parent, advice)


def check_folder(path: AnyPath, option: str) -> None:
    """Check that a folder can be created or written; create nothing.

    Raises:
        OutputError: It is a file, or it can't be written.
    """
    advice = f"Name another folder with {option}"
    if is_remote(path):
        probe_remote(path)
        return
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file, but {option} takes a folder. {advice}.")
    _probe(path, path, advice)


def _probe(path: Path, folder: Path, advice: str) -> None:
    """Write a block into the nearest existing folder above."""
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        with tempfile.NamedTemporaryFile(prefix=".evalkit-", dir=folder) as probe:
            probe.write(_PROBE)
    except OSError as error:
        raise unwritable(path, error, advice) from error
    except ValueError as error:  # a null byte in the name
        raise OutputError(f"{str(path)!r} is no file name ({error}). {advice}.") from error


def foreign_kind(path: Path) -> str | None:
    """Say what a file is that was saved in place of weights; None: nothing that is known.

    Examples are the pointer that Git leaves without LFS, and the page of a failed download.
    """
    with path.open("rb") as handle:
        start = handle.read(64).lstrip().lower()
    if not start:
        return "an empty file: download it again"
    if start.startswith(_POINTER):
        return "a Git LFS pointer, not the weights: run git lfs pull"
    if start.startswith(_PAGES):
        return "a web page, not the weights: download the file itself"
    return None


def refuse_foreign_weights(path: Path) -> None:
    """Refuse a weights file that is obviously something else.

    Raises:
        WeightsError: It is empty, a pointer of Git LFS or a web page, or can't be read.
    """
    try:
        kind = foreign_kind(path)
    except OSError as error:
        raise WeightsError(f"{path} can't be read ({error.strerror}). Give a readable file.") from (
            error
        )
    if kind is not None:
        raise WeightsError(f"{path} is {kind}.")
