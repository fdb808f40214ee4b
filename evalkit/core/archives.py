"""Zip and tar archives as sets of files: opened once, read under a lock."""

from __future__ import annotations

import errno
import io
import lzma
import posixpath
import shutil
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evalkit.core.errors import DataError

_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    RuntimeError,  # zipfile: encrypted; NotImplementedError: an unknown compression
    OverflowError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)
"""What zipfile and tarfile raise for damaged, encrypted or unknown archives."""


class ArchiveMember:
    """One member of a zip or tar."""

    def __init__(self, archive: Archive, member: str) -> None:
        self._archive = archive
        self._member = member

    def __str__(self) -> str:
        return f"{self._archive.path}:{self._member}"

    def read_bytes(self) -> bytes:
        """Read the member's bytes.

        Raises:
            DataError: The archive is damaged, or encrypted.
        """
        return self._archive.read(self._member)


class Archive:
    """An open zip or tar, shared by its members.

    A compressed tar can only be read from its start, so it is unpacked once to a temporary file
    that is deleted with the archive: reading its members in another order than they are stored in
    would otherwise decompress it anew for each of them.

    Args:
        path: The file.
        unpacked: A copy of a compressed tar without compression, if there is one already.

    Raises:
        DataError: It is neither, or damaged.
    """

    def __init__(self, path: Path, *, unpacked: Path | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._owned: Path | None = None
        self._unpacked = unpacked
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        try:
            if zipfile.is_zipfile(path):
                self._zip = zipfile.ZipFile(path)
                files = [info for info in self._zip.infolist() if not info.is_dir()]
                names = [posixpath.normpath(info.filename) for info in files]
                self._members: Mapping[str, zipfile.ZipInfo | tarfile.TarInfo] = dict(
                    zip(names, files, strict=True)
                )
            else:
                self._tar = self._open_tar()
                names = [posixpath.normpath(info.name) for info in self._tar.getmembers()]
                self._members = _files_of_tar(self._tar)
            self.repeated = frozenset(
                name
                for name, count in Counter(names).items()
                if count > 1 and name in self._members
            )
            """Names of files that occur more than once."""
        except DataError:
            raise
        except _DAMAGED as error:
            raise DataError(
                f"{path}: can't be read as a zip or tar ({_reason(error)}). Make the archive again."
            ) from error

    def names(self) -> list[str]:
        """List the names of its files; of two members with one name, the later one counts."""
        return sorted(self._members)

    def member(self, name: str) -> ArchiveMember:
        """Return one of its files."""
        return ArchiveMember(self, name)

    def read(self, name: str) -> bytes:
        """Read one of its files.

        Raises:
            DataError: The archive is damaged, or encrypted.
        """
        try:
            member = self._members[name]
            with self._lock:
                if isinstance(member, zipfile.ZipInfo):
                    assert self._zip is not None
                    return self._zip.read(member)
                assert self._tar is not None
                handle = self._tar.extractfile(member)
                assert handle is not None
                return handle.read()
        except _DAMAGED as error:
            raise DataError(
                f"{self.path}:{name}: can't be read ({_reason(error)}). Make the archive again."
            ) from error

    def _open_tar(self) -> tarfile.TarFile:
        if self._unpacked is not None:
            return tarfile.open(self._unpacked)
        found = tarfile.open(self.path)  # noqa: SIM115 (kept open on purpose)
        stream = found.fileobj
        if isinstance(stream, io.BufferedReader):
            return found
        assert stream is not None
        with (
            found,
            tempfile.NamedTemporaryFile(prefix="evalkit-", suffix=".tar", delete=False) as file,
        ):
            self._owned = self._unpacked = Path(file.name)
            stream.seek(0)
            _copy(stream, file, self.path)
        return tarfile.open(self._unpacked)

    def __reduce__(self) -> tuple[object, tuple[Path, Path | None]]:
        """Pickle as the path: another process opens the archive itself, once."""
        return _opened, (self.path, self._unpacked)

    def __del__(self) -> None:
        for archive in (self.__dict__.get("_zip"), self.__dict__.get("_tar")):
            if archive is not None:
                archive.close()
        owned = self.__dict__.get("_owned")
        if owned is not None:
            owned.unlink(missing_ok=True)


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip or a tar.

    Raises:
        DataError: It can't be read.
    """
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except (EOFError, zlib.error, lzma.LZMAError):
        return False  # a truncated compressed file
    except OSError as error:
        raise DataError(f"{path}: can't be read ({_reason(error)}). Check permissions.") from error


@lru_cache(maxsize=8)
def _opened(path: Path, unpacked: Path | None) -> Archive:
    return Archive(path, unpacked=unpacked)


def _files_of_tar(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    """Map the names of a tar's files, and of links to files in it, to the files."""
    by_name = {posixpath.normpath(info.name): info for info in archive.getmembers()}
    found = {}
    for name, info in by_name.items():
        target = _target(info, by_name)
        if target is not None:
            found[name] = target
    return found


def _target(
    info: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo]
) -> tarfile.TarInfo | None:
    """Follow links to a file of the same archive; None where they lead nowhere or in a circle."""
    seen: set[str] = set()
    here: tarfile.TarInfo | None = info
    while here is not None and (here.islnk() or here.issym()):
        if here.name in seen:
            return None
        seen.add(here.name)
        folder = "" if here.islnk() else posixpath.dirname(here.name)
        here = by_name.get(posixpath.normpath(posixpath.join(folder, here.linkname)))
    return here if here is not None and here.isfile() else None


def _copy(stream: Any, file: Any, path: Path) -> None:
    try:
        shutil.copyfileobj(stream, file, 1 << 20)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise DataError(
            f"{path}: no space to unpack it in {tempfile.gettempdir()}. Unpack it yourself, or "
            "choose another folder with TMPDIR."
        ) from error


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:160].rstrip(".")
