"""The interface of captioned data sets, and how captions are drawn from one."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol, runtime_checkable

from evalkit.core.errors import ConfigError, DataError


@dataclass(frozen=True)
class Caption:
    """One caption of a data set; as a prompt, it is what a model is given."""

    id: str
    """Unique within the data set; seeds are derived from it."""
    image_id: str
    """The reference image that it describes."""
    text: str
    label: int | None = None
    """Class for class-conditional models, if there is one."""
    scene: Mapping[str, Any] | None = None
    """Ground truth for `composition`, if there is one (`shapes.scene.Scene.to_json`)."""
    kind: str | None = None
    """Category from a table of captions, if it has one."""

    @property
    def category(self) -> str | None:
        """Category of the caption: its own, else the kind of its scene, else None."""
        return self.kind or (self.scene or {}).get("kind")


@runtime_checkable
class CaptionedImages(Protocol):
    """Captions and the images they describe."""

    @property
    def name(self) -> str:
        """Name for reports, such as `coco`."""

    @property
    def captions(self) -> Sequence[Caption]:
        """All captions, ordered by id."""

    @property
    def image_ids(self) -> Sequence[str]:
        """All images, also those without a caption, ordered by id."""

    @property
    def captions_sha256(self) -> str:
        """Hash of all captions: their ids, images and texts."""

    def image_path(self, image_id: str) -> Path:
        """Return the file of an image."""


@dataclass(frozen=True)
class FileOrder:
    """The order in which a file of annotations lists captions and images."""

    captions: Sequence[str]
    """Caption ids."""
    images: Sequence[str]
    """Image ids."""


@dataclass(frozen=True)
class CaptionedFiles:
    """Captions and image files: evalkit's implementation of `CaptionedImages`."""

    name: str
    root: Path
    """Folder that contains the images."""
    captions: Sequence[Caption]
    image_files: Mapping[str, str]
    """Path below `root` for each image id."""
    copy_of: str = ""
    """The catalog's data set that a folder with another name holds a copy of."""
    file_order: FileOrder | None = None
    """Order of the original annotations; None where a copy lost it."""

    @cached_property
    def image_ids(self) -> Sequence[str]:
        """All images, ordered by id."""
        return tuple(sorted(self.image_files, key=id_order))

    @cached_property
    def captions_sha256(self) -> str:
        """Hash of all captions, in order of their ids."""
        return hash_captions(self.captions)

    def image_path(self, image_id: str) -> Path:
        """Return the file of an image.

        Raises:
            DataError: No image has this id.
        """
        try:
            return self.root / self.image_files[image_id]
        except KeyError:
            raise DataError(f"{self.root}: no image has the id {image_id!r}.") from None


def known_as(dataset: CaptionedImages) -> str:
    """Return the name that decides protocol and training relation: the catalog's, else its own."""
    return copy_of(dataset) or dataset.name


def copy_of(dataset: CaptionedImages) -> str:
    """Return the catalog's data set that a renamed folder is a copy of, else an empty string."""
    return str(getattr(dataset, "copy_of", ""))


def id_order(identifier: str) -> tuple[int, int, str]:
    """Return the sorting key of an id: numbers first and by value, then other strings.

    >>> sorted(["10", "9", "b", "a10"], key=id_order)
    ['9', '10', 'a10', 'b']
    """
    if identifier.isascii() and identifier.isdigit():
        return (0, int(identifier), identifier)
    return (1, 0, identifier)


def hash_captions(captions: Iterable[Caption]) -> str:
    """Compute the SHA-256 of ids, image ids and texts of the captions, in order of their ids."""
    digest = hashlib.sha256()
    for caption in sorted(captions, key=lambda c: id_order(c.id)):
        line = json.dumps([caption.id, caption.image_id, caption.text], ensure_ascii=False)
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


SELECTION_RULE = "n smallest sha256(seed/caption id)"


def select_captions(dataset: CaptionedImages, n: int, seed: int) -> list[Caption]:
    """Draw `n` captions without replacement, each equally likely.

    Captions are ranked by the hash of (seed, caption id) and the first `n` taken, in that order.
    The draw is therefore the same on every machine and library version, does not depend on the
    order in the file, and a smaller `n` gives a prefix of a larger draw. Several captions of one
    image may be drawn, as in the zero-shot COCO protocol: 30,000 of all captions of val2014.

    Raises:
        ConfigError: `n` is less than 1 or more than there are captions.
    """
    available = len(dataset.captions)
    if not 1 <= n <= available:
        raise ConfigError(
            f"Can't draw {n} captions from {dataset.name}, which has {available}. "
            f"Choose n from 1 to {available}."
        )

    def rank(caption: Caption) -> bytes:
        return hashlib.sha256(f"{seed}/{caption.id}".encode()).digest()

    return sorted(dataset.captions, key=rank)[:n]


def check_inside(file_name: str, *, where: str) -> str:
    """Return a relative path after checking that it stays inside its folder.

    Raises:
        DataError: It is empty or absolute, or has a drive or `..`.
    """
    windows, posix = PureWindowsPath(file_name), PurePosixPath(file_name)
    inside = not (windows.anchor or posix.anchor) and ".." not in windows.parts
    if not inside or not windows.parts or "\0" in file_name:
        raise DataError(
            f"{where}: file name {file_name!r} must be a relative path that stays in its folder."
        )
    return file_name
