"""The one scan of a set of images: a folder, a zip or a tar.

- Every level is read. Hidden files and folders (`.ipynb_checkpoints`, macOS's `._NAME`) and
  `__MACOSX` are passed over.
- Links are followed. A folder that is reached twice, or contains itself, counts once; so does a
  linked file that lies in the set itself.
- Every format that Pillow decodes counts as an image, by its ending. What is left out is counted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from evalkit.core.archives import Archive, is_archive
from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pixels import image_suffixes
from evalkit.core.tables import ByteSource

BROKEN_LINK = "broken links"
_MOST_NAMED = 6
_OF_THE_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "icon\r"})


@dataclass(frozen=True)
class ImageFiles:
    """The images of a folder or an archive, and the files that are none."""

    root: Path
    images: Mapping[str, ByteSource]
    """Images by their path below the root, with forward slashes, in order."""
    others: Mapping[str, ByteSource]
    """All other visible files, in the same form; links that lead nowhere are among them."""

    def left_out(self, used: Iterable[str] = ()) -> str:
        """Count the files that are no images in one sentence; empty if there are none.

        Args:
            used: Files that serve another purpose, such as tables of captions.
        """
        return said_of_left_out(self._kind(name) for name in sorted({*self.others} - {*used}))

    def require_images(self) -> None:
        """Check that there is an image.

        Raises:
            DataError: There is none; the message counts what there is instead.
        """
        if self.images:
            return
        found = self.left_out()
        raise DataError(
            f"{self.root}: contains no images; expected files that Pillow reads, such as .png, "
            f".jpg or .webp. {found[:1].upper()}{found[1:]}{'.' if found else ''}".rstrip()
        )

    def _kind(self, name: str) -> str:
        source = self.others[name]
        if isinstance(source, Path) and source.is_symlink() and not source.exists():
            return BROKEN_LINK
        return PurePosixPath(name).suffix.lower() or "(no ending)"


def said_of_left_out(kinds: Iterable[str]) -> str:
    """Say how many files of which endings were left out; empty for none.

    >>> said_of_left_out([".xyz"] * 2), said_of_left_out([".json", ".txt", ".txt"])
    ('2 files left out: .xyz', '3 files left out: 2 .txt, 1 .json')
    """
    counts = Counter(kinds).most_common()
    total = sum(count for _, count in counts)
    if not total:
        return ""
    files = f"{total:,} {'file' if total == 1 else 'files'} left out"
    if len(counts) == 1:
        return f"{files}: {counts[0][0]}"
    named = ", ".join(f"{count:,} {kind}" for kind, count in counts[:_MOST_NAMED])
    rest = sum(count for _, count in counts[_MOST_NAMED:])
    return f"{files}: {named}" + (f" and {rest:,} others" if rest else "")


def scan(path: Path | str) -> ImageFiles:
    """Find the images of a folder, a zip or a tar.

    Raises:
        MissingDataError: There is nothing at the path.
        DataError: It is another kind of file, damaged, or an archive with two images of one name.
    """
    path = Path(path)
    if path.is_dir():
        return scan_folder(path)
    if not path.exists():
        raise MissingDataError(
            f"{path}: no such file or folder. Give a folder or an archive of images."
        )
    if not is_archive(path):
        raise DataError(f"{path}: expected a folder, .zip, .tar or .npz of images.")
    archive = Archive(path)
    names = [name for name in archive.names() if not _is_hidden(name)]
    found = _sorted_out(path, {name: archive.member(name) for name in names})
    repeated = sorted(archive.repeated & found.images.keys())
    if repeated:
        raise DataError(
            f"{path}: the file name {repeated[0]!r} occurs twice, so one image hides another. "
            "Write the archive again with names of their own."
        )
    return found


def scan_folder(root: Path) -> ImageFiles:
    """Find the images of a folder.

    Raises:
        DataError: It can't be read.
    """
    try:
        return _sorted_out(root, {file.relative_to(root).as_posix(): file for file in _walk(root)})
    except OSError as error:
        raise DataError(
            f"{error.filename or root} can't be read ({error.strerror}). Check its permissions."
        ) from error


def _sorted_out(root: Path, files: Mapping[str, ByteSource]) -> ImageFiles:
    images: dict[str, ByteSource] = {}
    others: dict[str, ByteSource] = {}
    suffixes = image_suffixes()
    for name in sorted(files, key=lambda name: name.split("/")):
        source = files[name]
        is_image = PurePosixPath(name).suffix.lower() in suffixes
        broken = isinstance(source, Path) and not source.exists()
        (images if is_image and not broken else others)[name] = source
    return ImageFiles(root, images, others)


def _walk(root: Path) -> Iterator[Path]:
    """Yield the visible files of all levels, each once: first without links, then through them."""
    folders, links = [root], list[Path]()
    seen: set[tuple[int, int]] = set()
    files: set[str] = set()
    linked: list[Path] = []
    while folders or links:
        folder = folders.pop() if folders else links.pop()
        identity = _identity(folder)
        if identity in seen:
            continue
        seen.add(identity)
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if _is_hidden(entry.name):
                continue
            here = folder / entry.name
            if here.is_dir():  # unlike that of `entry`, False for a link to itself
                (links if entry.is_symlink() else folders).append(here)
            elif entry.is_symlink():
                linked.append(here)
            elif entry.is_file():
                files.add(os.path.realpath(here))
                yield here
    for link in linked:
        # Two links to one file outside are two images: a cache stores equal files once.
        if os.path.realpath(link) not in files and (link.is_file() or not link.exists()):
            yield link


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino


def _is_hidden(name: str) -> bool:
    *folders, own = ("", *PurePosixPath(name).parts)
    hidden = any(part.startswith(".") and part != ".." for part in (*folders, own))
    return hidden or "__MACOSX" in (*folders, own) or own.lower() in _OF_THE_SYSTEM
