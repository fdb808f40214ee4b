"""`evalkit statistics`: mean and covariance of a set, as a file that other tools read too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evalkit.commands.sets import open_against, say_features
from evalkit.core.errors import ConfigError, DataError
from evalkit.core.files import check_output
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.metrics.score import summarise_set
from evalkit.metrics.statistics_files import ReferenceStatistics, write_statistics
from evalkit.options import MeasureOptions


def statistics(
    images: str,
    out: Path,
    options: MeasureOptions,
    *,
    spatial: bool,
    coco_root: Path | None,
    progress: ProgressFactory = progress_bar,
) -> None:
    """Extract a set's features as for a reference, and write their mean and covariance.

    Raises:
        ConfigError: The file name doesn't end in `.npz`, or spatial features without Inception.
        DataError: The set is a statistics file already, or an image is unusable.
        NotEnoughImagesError: Fewer than two images.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"--out {out}: the name must end in .npz.")
    check_output(out, "--out")
    opened = open_against(images, coco_root, progress)
    if isinstance(opened.reference, ReferenceStatistics):
        raise DataError(f"{images} is a statistics file already. Give the images.")
    if spatial and not options.is_given("features"):
        options = replace(options, typed=options.typed | {"features"})  # spatial means Inception's
    assert opened.reference is not None, "images or a data set are never nothing"
    given, options = options, opened.options(options)
    say_features(options, given)
    found = summarise_set(opened.reference, options, progress, spatial=spatial)
    write_statistics(out, found.moments, found.identity, spatial=found.spatial)
    console.print(
        f"{found.moments.n:,} images, {found.moments.dim:,} dimensions: {out}", soft_wrap=True
    )
    for name, reason in found.skipped.items():
        console.print(f"skipped {name}: {reason}", soft_wrap=True, markup=False)
