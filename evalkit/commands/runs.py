"""`evalkit runs import`: a run folder of images that something else made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evalkit.commands.fid import generate
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.run import RunFolder
from evalkit.generation import GenerationOptions
from evalkit.layouts.catalog import open_images
from evalkit.layouts.importing import ImportedSource, named_place


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What to import, and how to read it; empty: recognised."""

    images: str
    layout: str = ""
    captions: str = ""
    image: str = ""
    caption: str = ""
    id: str = ""
    category: str = ""
    name: str = ""


def import_run(
    options: ImportOptions, out: Path | None, progress: ProgressFactory = progress_bar
) -> Path:
    """Copy given images into a run folder, or resume copying; return the folder.

    Raises:
        ConfigError: An unknown layout, key or column.
        MissingDataError: There is nothing at the path.
        DataError: No image, or captions that don't fit the images.
        RunFolderError: The folder holds another run.
    """
    place = named_place(
        options.images,
        layout=options.layout,
        captions=options.captions,
        image=options.image,
        caption=options.caption,
        id=options.id,
        category=options.category,
        name=options.name,
    )
    found = open_images(place)
    captions = "with captions" if found.has_captions else "without captions"
    console.print(
        f"{len(found.items):,} images {captions}, layout {found.layout}: {found.place.title}",
        soft_wrap=True,
        markup=False,
    )
    copying = GenerationOptions(model=place, source=ImportedSource(place), out=out)
    folder = generate(copying, progress)
    failed = [row for row in RunFolder.read(folder).rows() if row.file is None]
    for row in failed[:5]:
        console.print(f"no image: {row.reason}", soft_wrap=True, markup=False)
    return folder
