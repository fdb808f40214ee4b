"""Folders on this machine or at a URL: object stores and file systems that fsspec reaches.

A local folder is a `pathlib.Path`. A URL, such as `s3://bucket/run`, is a path of
universal_pathlib with the same methods. An object store has no append, no rename and no locks, but
it writes an object whole or not at all, so writing there needs no temporary name.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.core.errors import ConfigError, EvalkitError, MissingExtraError, OutputError

if TYPE_CHECKING:
    AnyPath = Path
else:  # beartype, which checks calls in tests, knows only what is a Path
    AnyPath = Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_TRIES = 3
"""Of one request that the store refused, beside the tries of its own client."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL and not a path.

    >>> is_url("s3://bucket/run"), is_url("C:/run"), is_url("runs/demo")
    (True, False, False)
    """
    return _URL.match(text) is not None


def place(text: str | AnyPath) -> AnyPath:
    """Return the path behind a text, which may be a URL.

    Raises:
        ConfigError: No file system has the URL's scheme.
        MissingExtraError: The client of the file system is not installed.
    """
    if isinstance(text, Path) or not is_url(str(text)):
        return Path(text)
    text = str(text)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    try:
        from upath import UPath
    except ImportError:
        what = f"{text}: a run at a URL"
        raise MissingExtraError(what, "remote") from None
    try:
        found: Any = UPath(text)
        with reaching(found):
            _ = found.fs  # imports and opens the client
    except ImportError as error:  # fsspec names the package
        raise ConfigError(f"{text}: {str(error).rstrip('.')}.") from error
    except ValueError as error:
        raise ConfigError(f"{text}: {error}. Give a folder, or a URL such as s3://...") from error
    return found  # type: ignore[no-any-return]


def is_remote(path: AnyPath) -> bool:
    """Return whether a path is a URL's."""
    return not isinstance(path, Path)


@contextmanager
def reaching(path: AnyPath) -> Iterator[None]:
    """Turn what a store's client raises into a one-line error.

    Raises:
        OutputError: The store is unreachable, or refuses.
    """
    try:
        yield
    except (EvalkitError, FileNotFoundError):
        raise
    except _refusals() as error:
        raise OutputError(_refused(path, error)) from error


def write_object(path: AnyPath, content: bytes) -> None:
    """Write an object whole, and try again where the store refuses for a moment.

    Raises:
        OutputError: It refuses.
    """
    with reaching(path):
        for left in reversed(range(_TRIES)):
            try:
                path.write_bytes(content)
            except OSError as error:
                if not left or isinstance(error, PermissionError | FileNotFoundError):
                    raise
            else:
                return


def read_all(paths: Sequence[AnyPath]) -> list[bytes | None]:
    """Read several files, those of a store at once; None for what is missing."""
    if not paths or not is_remote(paths[0]):
        return [_read(path) for path in paths]
    fs: Any = paths[0].fs  # type: ignore[attr-defined]
    names = [str(path.path) for path in paths]  # type: ignore[attr-defined]
    with reaching(paths[0]):
        for _ in range(_TRIES):
            found = fs.cat(names, on_error="return")
            failed = [one for one in found.values() if _is_momentary(one)]
            if not failed:
                break
        else:
            raise failed[0]
    contents = [found.get(name) for name in names]
    return [one if isinstance(one, bytes) else None for one in contents]


def has_file(path: AnyPath) -> bool:
    """Return whether there is a small file; a store that can't be asked is an error.

    Raises:
        OutputError: The store is unreachable, or refuses.
    """
    return read_all([path])[0] is not None


def names_in(folder: AnyPath) -> list[str]:
    """Return the names in a folder, sorted; none where there is no folder."""
    if not is_remote(folder):
        try:
            return sorted(entry.name for entry in os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []
    fs: Any = folder.fs  # type: ignore[attr-defined]
    with reaching(folder):
        fs.invalidate_cache()
        try:
            found = fs.ls(str(folder.path), detail=False)  # type: ignore[attr-defined]
        except FileNotFoundError:
            return []
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found)


def remove(paths: Sequence[AnyPath]) -> None:
    """Delete files; one that is missing is none to delete."""
    if paths and is_remote(paths[0]):
        fs: Any = paths[0].fs  # type: ignore[attr-defined]
        with reaching(paths[0]), suppress(FileNotFoundError):
            fs.rm([str(path.path) for path in paths])  # type: ignore[attr-defined]
        return
    for path in paths:
        path.unlink(missing_ok=True)


def probe_remote(folder: AnyPath) -> None:
    """Write an object into a remote folder, and delete it.

    Raises:
        OutputError: There are no credentials, no bucket or no right to write.
    """
    probe = folder / f".evalkit-{uuid.uuid4().hex[:12]}"
    with reaching(folder):
        try:
            probe.write_bytes(b"\0")
        except FileNotFoundError as error:
            raise OutputError(_refused(folder, error)) from error
    remove([probe])


def _read(path: AnyPath) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _is_momentary(found: object) -> bool:
    return isinstance(found, Exception) and not isinstance(found, FileNotFoundError)


def _refusals() -> tuple[type[Exception], ...]:
    """Return OSError and the errors of the clients that are loaded, such as botocore's."""
    named = (
        ("botocore.exceptions", ("BotoCoreError", "ClientError")),
        ("aiohttp", ("ClientError",)),
        ("gcsfs.retry", ("HttpError",)),
        ("azure.core.exceptions", ("AzureError",)),
    )
    loaded = [(sys.modules[module], names) for module, names in named if module in sys.modules]
    return (OSError, *(getattr(module, name) for module, names in loaded for name in names))


def _refused(path: AnyPath, error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return (
        f"{path} can't be reached or written ({said[:200].rstrip('.')}). Check the address, the "
        "credentials and the right to write."
    )
