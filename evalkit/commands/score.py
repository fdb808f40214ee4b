"""`evalkit score`: measure images that are there, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evalkit.catalog import DATASETS
from evalkit.datasets.image_folder import load_image_folder
from evalkit.datasets.open import CAPTION_FILES, open_dataset
from evalkit.features.base import ProgressFactory
from evalkit.features.sources import ImageItem, image_items
from evalkit.generation import check_complete, run_fingerprint
from evalkit.measurement import (
    MeasureOptions,
    default_metrics,
    reference_items,
    run_items,
    score_options,
)
from evalkit.metrics.score import score_sets
from evalkit.metrics.statistics_files import (
    ReferenceStatistics,
    is_statistics_file,
    read_statistics,
)
from evalkit.progress import console, progress_bar
from evalkit.registry import third_party
from evalkit.reports.tables import terminal_table
from evalkit.results import ResultRecord, write_records
from evalkit.run import RunFolder


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images to judge, and what is known of them."""

    items: Sequence[ImageItem]
    subject: str
    fingerprint: dict[str, object]


def score(
    samples: str,
    against: str,
    options: MeasureOptions,
    *,
    coco_root: Path | None,
    json_file: Path | None,
    progress: ProgressFactory = progress_bar,
) -> list[ResultRecord]:
    """Measure, print the records, and write them where asked."""
    found = open_samples(Path(samples))
    protocol, reference = open_reference(against, coco_root, progress)
    if protocol is None:
        options = replace(options, crop=options.crop or "none")
    scored = score_options(options, protocol or "")
    metrics = options.metrics or default_metrics(options)
    if options.metrics is None and all(item.caption is None for item in found.items):
        metrics = metrics[:1]
    records = score_sets(found.items, reference, metrics, scored, progress)
    fingerprint = {"reference": f"all images of {against}" if protocol else against}
    records = [
        record.with_context(subject=found.subject, fingerprint={**found.fingerprint, **fingerprint})
        for record in records
    ]
    console.print(terminal_table(records, title=f"{found.subject} against {against}"))
    if json_file is not None:
        write_records(json_file, records)
        console.print(f"Records: {json_file}", soft_wrap=True)
    return records


def open_samples(path: Path) -> Samples:
    """A run folder, a folder with a table of captions, or any images.

    Raises:
        RunFolderError: An unfinished or damaged run.
        MissingDataError: There is nothing at the path.
        DataError: No image in it.
    """
    if (path / "run.json").is_file():
        run = RunFolder.read(path)
        check_complete(run)
        return Samples(
            items=run_items(run, run.rows()),
            subject=run.config["display_name"],
            fingerprint=run_fingerprint(run),
        )
    for table in CAPTION_FILES:
        if (path / table).is_file():
            folder = load_image_folder(path, captions=path / table)
            items = [
                ImageItem(path=folder.image_path(c.image_id), caption=c.text, caption_id=c.id)
                for c in folder.captions
            ]
            return Samples(items=items, subject=path.name, fingerprint={})
    return Samples(items=image_items(path), subject=path.name, fingerprint={})


def open_reference(
    against: str, coco_root: Path | None, progress: ProgressFactory
) -> tuple[str | None, Sequence[ImageItem] | ReferenceStatistics]:
    """A data set (with the name of its protocol), a statistics file, or any images.

    Raises:
        MissingDataError: There is nothing of the name.
        DataError: It can't be used.
    """
    path = Path(against)
    if against in DATASETS or against in third_party("datasets"):
        with progress(f"Opening {against}") as report:
            dataset = open_dataset(against, coco_root=coco_root, on_progress=report)
        return dataset.name, reference_items(dataset)
    if path.is_file() and is_statistics_file(path):
        return None, read_statistics(path)
    if (path / "run.json").is_file():
        return None, open_samples(path).items
    if list(path.glob("annotations/captions_*.json")):
        dataset = open_dataset(against)
        return dataset.name, reference_items(dataset)
    return None, image_items(path)
