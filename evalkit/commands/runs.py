"""`evalkit runs import`: a run folder of images that something else made."""

from __future__ import annotations

from evalkit.commands.fid import generate
from evalkit.core.places import AnyPath
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.run import RunFolder
from evalkit.generation import GenerationOptions
from evalkit.layouts.catalog import open_images
from evalkit.layouts.importing import ImportedSource


def import_run(
    place: str, out: AnyPath | None, progress: ProgressFactory = progress_bar
) -> AnyPath:
    """Copy given images into a run folder, or resume copying; return the folder.

    Args:
        place: The name of the images, with the keys that say how to read them; see `named_place`.
        out: The run folder; None: named after the images.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Raises:
        ConfigError: An unknown layout, key or column.
        MissingDataError: There is nothing at the path.
        DataError: No image, or captions that don't fit the images.
        RunFolderError: The folder holds another run.
    """
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
