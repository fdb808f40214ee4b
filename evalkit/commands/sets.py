"""The sets of images that a command names: runs, folders, archives, data sets, statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from drawbench.suites.recognition import drawbench_category
from evalkit.catalog import DATASETS
from evalkit.core.errors import ConfigError, IncompleteError, MissingDataError
from evalkit.core.image_files import scan
from evalkit.core.places import AnyPath, has_file, is_remote, place
from evalkit.core.progress import ProgressFactory, console
from evalkit.core.results import ResultRecord
from evalkit.core.run import RunFolder
from evalkit.datasets.base import Caption, CaptionedImages, known_as
from evalkit.datasets.caption_tables import find_tables
from evalkit.datasets.image_folder import CaptionedSet, open_captioned_set
from evalkit.datasets.named_folders import is_mjhq
from evalkit.datasets.open import open_dataset
from evalkit.features.preparing import reference_preparation
from evalkit.features.sources import ImageItem, array_items, is_sample_file
from evalkit.generation import check_complete, kept_categories, run_fingerprint
from evalkit.layouts.catalog import layout_of, open_images
from evalkit.layouts.place import DATASETS as DATASETS_SCHEME
from evalkit.layouts.place import SCHEME, Place, shown_name
from evalkit.layouts.tables import TABLE_SUFFIXES
from evalkit.measurement import (
    drawn_otherwise,
    matched_items,
    matched_name,
    reference_items,
    refuse_short,
    run_departures,
    run_items,
    short_of,
)
from evalkit.metrics.named_references import is_named, open_reference, stated_preparation
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.statistics_files import (
    ReferenceStatistics,
    is_statistics_file,
    read_statistics,
    refuse_other_preparation,
)
from evalkit.options import MeasureOptions
from evalkit.protocols.applying import chosen_protocol, under
from evalkit.protocols.catalog import open_protocol
from evalkit.protocols.model import MeasurementProtocol
from evalkit.requests import belongs_to_no_dataset

_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Images to score, and what is known about them."""

    items: Sequence[ImageItem]
    subject: str
    fingerprint: dict[str, object]
    run: RunFolder | None = None
    """The run that the images belong to, if any."""

    @property
    def dataset(self) -> str | None:
        """Name of the data set that a run drew its captions from; None where it drew from none."""
        if self.run is None or belongs_to_no_dataset(self.run.config["dataset"]):
            return None
        name: str = self.run.config["dataset"]["name"]
        return name

    def departures(
        self, protocol: MeasurementProtocol | None, dataset: str | None
    ) -> tuple[str, ...]:
        """Values of a protocol from which these samples depart."""
        if self.run is None:
            return drawn_otherwise(protocol, dataset=dataset, count=len(self.items))
        return run_departures(protocol, dataset, self.run.config)

    @property
    def conditioning(self) -> Literal["text", "none"]:
        """`text` where there are captions."""
        return "text" if any(item.caption for item in self.items) else "none"

    @property
    def source(self) -> SourceRun | None:
        """The run's own data, if the images belong to one."""
        return SourceRun(self.run) if self.run else None

    @property
    def has_scenes(self) -> bool:
        """Whether the captions come with scenes."""
        return self.source is not None and self.source.has_scenes


@dataclass(frozen=True, kw_only=True)
class Against:
    """A reference and its name."""

    reference: Sequence[ImageItem] | ReferenceStatistics | None
    """None: there is none, for metrics that need none."""
    name: str
    """Its name in fingerprints."""
    dataset: str | None
    """The data set's name; None for anything else, whose images are used unchanged unless the
    options name a protocol."""

    def options(self, options: MeasureOptions, samples: Sequence[Samples] = ()) -> MeasureOptions:
        """Complete the options by the protocol that they name, else by the data set's protocol.

        Args:
            options: As they were given.
            samples: What is measured; where it was drawn otherwise, that counts as overriding.
        """
        protocol, named = chosen_protocol(options, self.dataset), bool(options.protocol)
        departs = [name for one in samples for name in one.departures(protocol, self.dataset)]
        found = under(protocol, options)
        short = ""
        if protocol is not None and named and samples:
            fewest = min(len(one.items) for one in samples)
            refuse_short(protocol, fewest, options)
            short = short_of(protocol, fewest)
        overrides = (*dict.fromkeys(departs), *found.overrides)
        return replace(found, overrides=overrides, images_short=short)

    def for_samples(self, options: MeasureOptions, samples: Sequence[Samples]) -> Against:
        """Return the reference as the completed options use it for these samples.

        Raises:
            ConfigError: The options match the reference to samples that name no images.
            DataError: A statistics file of another preparation than the protocol's.
        """
        if isinstance(self.reference, ReferenceStatistics):
            if options.protocol:
                prepared = reference_preparation(options).identity()
                stated = stated_preparation(self.name)
                refuse_other_preparation(self.reference, prepared, options.protocol, stated)
            return self
        if self.reference is None or options.reference_images == "all":
            return self
        if options.reference_images != "matched":
            raise ConfigError(
                f"Unknown --reference-images {options.reference_images!r}; use all or matched."
            )
        ids = [item.image_id for one in samples for item in one.items]
        found = matched_items(self.reference, ids, " and ".join(one.subject for one in samples))
        name = matched_name(len(found), self.dataset or self.name)
        return replace(self, reference=found, name=name)


NO_REFERENCE = Against(reference=None, name="none", dataset=None)
"""Stands for the reference of metrics that need none."""


def open_samples(text: str) -> Samples:
    """Open a run folder, a folder with a table of captions, or any images in any layout.

    Args:
        text: A path, or `folder:PATH[?KEY=VALUE&...]`.

    Raises:
        RunFolderError: An unfinished or damaged run.
        MissingDataError: There is nothing at the path.
        DataError: No image in it.
    """
    path = place(text)
    if is_place(text):
        return _laid_out(text)
    if has_file(path / "run.json"):
        run = RunFolder.read(path)
        check_complete(run)
        return Samples(
            items=with_categories(run_items(run, run.rows(), kept_categories(run))),
            subject=run.config["display_name"],
            fingerprint=run_fingerprint(run),
            run=run,
        )
    refuse_url(path)
    if is_sample_file(path):
        return Samples(items=array_items(path), subject=path.name, fingerprint={})
    if not _is_plain(text):
        return _laid_out(text)
    found = open_captioned_set(path)
    _say_left_out(found)
    items = with_categories(_captioned_items(found))
    return Samples(items=items, subject=shown_name(path), fingerprint={})


def refuse_url(path: AnyPath) -> None:
    """Refuse a URL that is no run's.

    Raises:
        MissingDataError: It is a URL.
    """
    if is_remote(path):
        raise MissingDataError(
            f"{path} is no run folder: it has no run.json. Only runs are read from a URL; copy "
            "other images to this machine."
        )


def is_place(text: str) -> bool:
    """Return whether a text names images by `folder:` or `datasets:`, and not by a path."""
    return text.startswith((SCHEME, DATASETS_SCHEME)) and not Path(text).exists()


def _is_plain(text: str) -> bool:
    """Return whether a path is a folder or archive of images, perhaps with tables of captions."""
    layout = layout_of(Place(path=text))
    return layout == "plain" or (layout == "table" and Path(text).is_dir())


def _laid_out(text: str) -> Samples:
    """Open images in a layout."""
    found = open_images(text)
    return Samples(
        items=with_categories(found.items),
        subject=found.place.title,
        fingerprint={},
    )


def with_categories(items: Sequence[ImageItem]) -> list[ImageItem]:
    """Return images with the categories of DrawBench, if all captions are its prompts.

    Images with categories of their own keep them.
    """
    found = [drawbench_category(item.caption or "") for item in items]
    if any(item.category for item in items) or None in found:
        return list(items)
    return [replace(item, category=name) for item, name in zip(items, found, strict=True)]


def _captioned_items(found: CaptionedSet) -> list[ImageItem]:
    """List each image once, with all captions that the tables have for it."""
    captions: dict[str, list[Caption]] = {}
    for caption in found.captions:
        captions.setdefault(caption.image_id, []).append(caption)
    items = []
    for name, source in found.files.images.items():
        first, *others = captions.get(name, [None])
        items.append(
            ImageItem(
                path=source,
                caption=first.text if first else None,
                other_captions=tuple(other.text for other in others if other),
                caption_id=first.id if first else None,
                category=first.category if first else None,
            )
        )
    return items


def _say_left_out(found: CaptionedSet) -> None:
    """Print what is not measured: files of other kinds, and images that no table names."""
    left_out = found.files.left_out(used=found.tables)
    if left_out:
        _say(f"{found.files.root}: {left_out}")
    if found.num_without_caption:
        _say(
            f"{found.files.root}: {found.num_without_caption:,} of {len(found.files.images):,} "
            f"images have no caption in {' and '.join(found.tables[:2])}; metrics of captions "
            "leave them out."
        )


def _say(text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def open_against(
    against: str | Against, coco_root: Path | None, progress: ProgressFactory
) -> Against:
    """Open a data set, a statistics file, or any images as the reference; an open one is returned.

    Raises:
        MissingDataError: Nothing has this name.
        DataError: It is unusable.
    """
    if isinstance(against, Against):
        return against
    path = place(against)
    if is_place(against):
        return Against(reference=open_images(against).items, name=against, dataset=None)
    if against in DATASETS:
        with progress(f"Opening {against}") as report:
            dataset = open_dataset(against, coco_root=coco_root, on_progress=report)
        return _of_dataset(dataset, against)
    if is_named(against):
        return Against(reference=open_reference(against), name=against, dataset=None)
    if has_file(path / "run.json"):
        return Against(reference=open_samples(against).items, name=against, dataset=None)
    refuse_url(path)
    if path.is_file() and is_statistics_file(path):
        return Against(reference=read_statistics(path), name=against, dataset=None)
    if is_mjhq(path) or list(path.glob("annotations/captions_*.json")):
        return _of_dataset(open_dataset(against), against)
    if is_sample_file(path):
        return Against(reference=array_items(path), name=against, dataset=None)
    if _is_table(path):
        return Against(reference=open_images(against).items, name=against, dataset=None)
    with progress(f"Listing {against}"):
        files = scan(path)
    files.require_images()
    left_out = files.left_out(used=find_tables(files))
    if left_out:
        _say(f"{path}: {left_out}")
    items = [ImageItem(source) for source in files.images.values()]
    return Against(reference=items, name=against, dataset=None)


def _is_table(path: Path) -> bool:
    """Return whether a path is a table that names or holds images."""
    return path.is_file() and path.suffix.lower() in (*TABLE_SUFFIXES, ".parquet")


def reference_name(against: str | Against | None, options: MeasureOptions) -> str | Against | None:
    """Return the named reference, else the data set of the protocol that the options name."""
    if against is None and options.protocol:
        return open_protocol(options.protocol).dataset
    return against


def own_reference(
    against: str | Against | None,
    samples: Sequence[Samples],
    coco_root: Path | None,
    progress: ProgressFactory,
) -> Against:
    """Return the named reference, else the one data set that all runs took their captions from.

    Raises:
        ConfigError: None is named, and the runs don't agree on one that has a name.
    """
    if against is not None:
        return open_against(against, coco_root, progress)
    names = {one.dataset for one in samples}
    name = names.pop() if len(names) == 1 else None
    if name is None or name not in DATASETS:
        why = (
            f"the data set {name!r} is known by its path only"
            if name
            else "these sets were not all made for one data set that has a name"
        )
        raise ConfigError(
            f"No reference: {why}. Give one with --against DATASET, FOLDER or STATISTICS.npz."
        )
    return open_against(name, coco_root, progress)


def say_features(options: MeasureOptions, given: MeasureOptions) -> None:
    """Print the features that a protocol chose, unless they are Inception's.

    Args:
        options: The options completed by the protocol.
        given: The options as they were typed.
    """
    if options.features != "inception" and not given.is_given("features"):
        whose = f"protocol {options.protocol}" if options.protocol else "this data set"
        console.print(
            f"Features: {options.features}, the default of {whose}; --features chooses others.",
            soft_wrap=True,
        )


def refuse_incomplete(records: Sequence[ResultRecord], options: MeasureOptions) -> None:
    """Raise an error if a metric that was asked for by name failed; call it last.

    Args:
        records: What was measured; already written.
        options: The options as they were given.

    Raises:
        IncompleteError: Names the failed metrics and their reasons; the exit code is 3.
    """
    if not options.metrics:
        return
    failed = {record.metric: record.reason for record in records if record.state == "failed"}
    if failed:
        reasons = "; ".join(f"{metric}: {reason.rstrip('.')}" for metric, reason in failed.items())
        raise IncompleteError(f"Not all could be measured. {reasons}.")


def print_skipped(records: Sequence[ResultRecord]) -> None:
    """Print how many images were skipped because they are unreadable, and what was cut."""
    cut = max((record.details.get("num_cut_captions", 0) for record in records), default=0)
    if cut:
        _say(f"{cut:,} captions are longer than CLIP's context and lost their end.")
    skipped: dict[str, str] = {}
    for record in records:
        skipped |= record.details.get("skipped", {})
    if not skipped:
        return
    console.print(f"Skipped {len(skipped):,} unreadable images:")
    for reason in list(skipped.values())[:_MOST_NAMED]:
        console.print(f"  {reason}", soft_wrap=True, markup=False, highlight=False)
    if len(skipped) > _MOST_NAMED:
        console.print(f"  and {len(skipped) - _MOST_NAMED:,} more; all are in the records' details")


def _of_dataset(dataset: CaptionedImages, name: str) -> Against:
    return Against(
        reference=reference_items(dataset),
        name=f"all images of {name}",
        dataset=known_as(dataset),
    )
