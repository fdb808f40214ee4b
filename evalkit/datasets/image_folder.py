"""A plain folder or archive of images, with or without captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.core.errors import MissingDataError
from evalkit.core.image_files import ImageFiles, scan, scan_folder
from evalkit.datasets.base import Caption, CaptionedFiles
from evalkit.datasets.caption_tables import find_tables, read_captions, read_captions_of


@dataclass(frozen=True)
class CaptionedSet:
    """The images of a folder or an archive, each once, and the captions of its tables."""

    files: ImageFiles
    tables: tuple[str, ...]
    captions: tuple[Caption, ...]
    """Any number per image; `image_id` is the image's name among `files.images`."""

    @property
    def num_without_caption(self) -> int:
        """Number of images that no table names; 0 without a table."""
        named = {caption.image_id for caption in self.captions}
        return len(self.files.images) - len(named) if self.tables else 0


def open_captioned_set(path: Path | str) -> CaptionedSet:
    """Open a folder, a zip or a tar with the captions that it holds.

    Raises:
        MissingDataError: There is nothing at the path.
        DataError: It has no image, or a table doesn't fit the images.
        ConfigError: A folder has several tables.
    """
    files = scan(path)
    files.require_images()
    tables = find_tables(files)
    return CaptionedSet(files, tuple(tables), read_captions(files, tables))


def load_image_folder(
    root: Path | str, *, captions: Path | str | None = None, name: str | None = None
) -> CaptionedFiles:
    """Load all images below a folder; an image's id is its relative path with forward slashes.

    See `evalkit.core.image_files` for what counts as an image, `evalkit.datasets.caption_tables`
    for the tables.

    Args:
        root: The folder.
        captions: A table whose file names are relative to the folder; by default the tables that
            the folder holds are left alone.
        name: Name of the data set in reports; by default the folder's name.

    Raises:
        MissingDataError: There is no such folder or captions file.
        DataError: The folder has no images, or the captions don't fit it.
    """
    root = Path(root)
    if not root.is_dir():
        raise MissingDataError(f"{root}: no such folder. Give a folder of images.")
    files = scan_folder(root)
    files.require_images()
    read: tuple[Caption, ...] = ()
    if captions:
        if not Path(captions).is_file():
            raise MissingDataError(f"{captions}: no such captions file.")
        read = read_captions_of(Path(captions), files.images)
    return _as_data_set(files, read, name)


def load_captioned_folder(root: Path | str, *, name: str | None = None) -> CaptionedFiles:
    """Load all images below a folder with the captions of its own tables.

    Raises:
        DataError: The folder has no images, or a table doesn't fit the images.
        ConfigError: A folder has several tables.
    """
    found = open_captioned_set(root)
    return _as_data_set(found.files, found.captions, name)


def _as_data_set(
    files: ImageFiles, captions: tuple[Caption, ...], name: str | None
) -> CaptionedFiles:
    images = {image: image for image in files.images}
    return CaptionedFiles(name or files.root.resolve().name, files.root, captions, images)
