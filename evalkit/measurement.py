"""From images and a reference to result records.

Two protocols decide what happens to the reference's images: `shapes` is measured at its native 64
px; everything else is centre-cropped and resized to 256 px with an antialiased bicubic filter, as
this version's zero-shot COCO protocol says. Samples are taken as the model made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast, get_args

from evalkit.catalog import METRICS
from evalkit.core.errors import ConfigError
from evalkit.core.pixels import Filter
from evalkit.core.results import ResultRecord
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.datasets.base import CaptionedImages, known_as
from evalkit.features.base import ProgressFactory, silent
from evalkit.features.clip_names import SHAPES_CLIP
from evalkit.features.decoding import usable_cores
from evalkit.features.hub_weights import check_hub_weights
from evalkit.features.inception_weights import find_inception_weights
from evalkit.features.sources import Crop, ImageItem, Preparation
from evalkit.generation import PreparedRun, run_fingerprint
from evalkit.metrics.clip_score import pair_scores
from evalkit.metrics.score import Measurer, ScoreOptions, metric_needs
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.task import INCEPTION, Task, extractor_key
from evalkit.options import MeasureOptions
from evalkit.reranking import refuse_own_judge

DEFAULT_CLIP = "ViT-L/14"
"""The default of torchmetrics, whose definition of the score is used."""
NATIVE = ("shapes",)
"""Data sets whose images are measured as they are."""
PROTOCOL_SIZE_PX = 256


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a measurement."""

    records: list[ResultRecord]
    clip_scores: Mapping[int, float]
    """CLIP score of single images by their index in the run; empty where there is none."""
    clip_name: str


def check_metrics(options: MeasureOptions, dataset: str) -> None:
    """Stop before anything heavy is imported where an option is wrong or features are missing.

    Args:
        options: How a run is going to be measured.
        dataset: What `--data` names.

    Raises:
        ConfigError: Options that a metric can't do with.
        MissingWeightsError: The features' weights are neither given, cached nor downloadable.
        UnknownNameError: No such metric.
    """
    wanted = _extractors(options, dataset)
    if INCEPTION in wanted:
        find_inception_weights(options.inception_weights)
    elif extractor_key(options.features) in wanted:
        check_hub_weights(extractor_key(options.features))


def refuse_biased_scores(reranking: Any, options: MeasureOptions, dataset: str) -> None:
    """Stop where the CLIP that picked a run's images would measure them.

    Args:
        reranking: What the run's configuration or fingerprint says under `reranked`.
        options: How it would be measured.
        dataset: The protocol's data set, for the default CLIP.

    Raises:
        ConfigError: It would.
    """
    if not reranking:
        return
    refuse_own_judge(reranking, _extractors(options, dataset))


def _extractors(options: MeasureOptions, dataset: str) -> set[str]:
    """The networks whose features the metrics need.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Options that a metric can't do with.
    """
    metrics = options.metrics or default_metrics(options)
    scored = score_options(options, dataset)
    return {need.extractor for name in metrics for need in metric_needs(name, scored)}


def run_items(
    run: RunFolder,
    rows: Sequence[ManifestRow],
    categories: Mapping[str, str | None] | None = None,
) -> list[ImageItem]:
    """The images of a run that came out, with what they were made from.

    Args:
        run: The run.
        rows: Its manifest.
        categories: Category of each caption, by its id.
    """
    return [
        ImageItem(
            path=run.image_path(row),
            sha256=row.sha256,
            caption=row.prompt,
            caption_id=row.caption_id,
            image_id=row.image_id,
            category=(categories or {}).get(row.caption_id),
        )
        for row in rows
        if row.file is not None
    ]


def reference_items(dataset: CaptionedImages) -> list[ImageItem]:
    """All images of a data set."""
    return [ImageItem(path=dataset.image_path(i), image_id=i) for i in dataset.image_ids]


def score_options(options: MeasureOptions, dataset: str) -> ScoreOptions:
    """Options of the metrics, with the reference prepared as the data set's protocol says."""
    names = {f.name for f in fields(ScoreOptions)} & {f.name for f in fields(MeasureOptions)}
    same = {name: getattr(options, name) for name in names - {"clip_model", "workers"}}
    return ScoreOptions(
        **same,
        splits=options.halvings,
        workers=_workers(options),
        clip_model=options.clip_model or default_clip(dataset),
        sample_preparation=sample_preparation(options),
        reference_preparation=reference_preparation(dataset, options),
    )


def _workers(options: MeasureOptions) -> int:
    """Processes that decode: none where the network is slower than the threads of this one."""
    if options.workers is not None:
        return options.workers
    return 0 if options.device == "cpu" else usable_cores()


def default_clip(dataset: str) -> str:
    """The CLIP that scores captions of a data set unless told."""
    return SHAPES_CLIP if dataset in NATIVE else DEFAULT_CLIP


def reference_preparation(dataset: str, options: MeasureOptions) -> Preparation:
    """What happens to a reference image before the extractor's own resizing.

    Raises:
        ConfigError: An unknown crop or filter.
    """
    if options.crop is None and options.size_px is None and dataset in NATIVE:
        return Preparation()
    crop = _checked_crop(options.crop or "center", "--crop")
    whole = crop == "none"
    return Preparation(
        crop=crop,
        size_px=options.size_px if whole else options.size_px or PROTOCOL_SIZE_PX,
        filter=_checked_filter(options.filter),
    )


def sample_preparation(options: MeasureOptions) -> Preparation:
    """What happens to a sample before the extractor's own resizing: nothing unless asked for.

    Raises:
        ConfigError: An unknown crop or filter.
    """
    crop = _checked_crop(options.sample_crop, "--sample-crop")
    if crop == "squash" and options.sample_size_px is None:
        raise ConfigError("--sample-crop squash needs --sample-size, the size to squash to")
    return Preparation(
        crop=crop, size_px=options.sample_size_px, filter=_checked_filter(options.filter)
    )


def _checked_crop(crop: str, flag: str) -> Crop:
    if crop not in get_args(Crop):
        raise ConfigError(f"{flag} {crop!r} is unknown; use none, center or squash")
    return cast(Crop, crop)


def _checked_filter(name: str) -> Filter:
    if name not in get_args(Filter):
        raise ConfigError(f"--filter {name!r} is unknown; use {', '.join(get_args(Filter))}")
    return cast(Filter, name)


@dataclass(frozen=True)
class RunMeasurement:
    """Networks and reference for one run, loaded before its images are made.

    So what is missing or broken of them is told before the hours of sampling, not after.
    """

    prepared: PreparedRun
    metrics: tuple[str, ...]
    measurer: Measurer
    without_captions: tuple[str, ...]
    """Metrics of captions, asked of a model that takes none."""

    @classmethod
    def of(
        cls, prepared: PreparedRun, options: MeasureOptions, progress: ProgressFactory = silent
    ) -> RunMeasurement:
        """Load the networks and measure the reference.

        Raises:
            MissingWeightsError: The features' weights are not to be had, or no metric's.
            ConfigError: Options that a metric can't do with.
            DataError: A reference image that can't be used.
        """
        config, dataset = prepared.run.config, prepared.dataset
        options = at_own_size(options, config)
        scored = score_options(options, known_as(dataset))
        text = config["conditioning"] == "text"
        scenes = text and all(caption.scene for caption in prepared.captions)
        metrics = options.metrics or default_metrics(options, scenes=scenes)
        without = () if text else tuple(n for n in metrics if METRICS[n].needs_captions)
        measured = [name for name in metrics if name not in without]
        measurer = Measurer.of(reference_items(dataset), measured, scored, progress)
        missing = measurer.lacking.get(extractor_key(options.features))
        if missing is not None:
            raise missing
        return cls(prepared, metrics, measurer, without)

    def lacking(self) -> dict[str, str]:
        """Metrics that will have no value for want of weights, and why."""
        reasons = {name: self.measurer.why_missing(name) for name in self.measurer.metrics}
        return {name: str(reason) for name, reason in reasons.items() if reason is not None}

    def measure(self) -> Measured:
        """Measure the finished run.

        Raises:
            NotEnoughImagesError: Fewer images than a metric needs.
            DataError: An image that can't be used.
        """
        run, captions = self.prepared.run, self.prepared.captions
        rows = run.rows()
        shown = [row for row in rows if row.file is not None]
        categories = {caption.id: caption.category for caption in captions}
        items = run_items(run, rows, categories)
        found = self.measurer.measure(items, run=SourceRun(run, captions))
        conditioning = run.config["conditioning"]
        records = [
            *self.measurer.records(found),
            *(_no_captions(name, len(shown), conditioning) for name in self.without_captions),
        ]
        context = {**run_fingerprint(run), "reference": self.prepared.reference}
        subject = run.config["display_name"]
        return Measured(
            records=[r.with_context(subject=subject, fingerprint=context) for r in records],
            clip_scores=_clip_scores(found.tasks.get("clip-score"), shown),
            clip_name="CLIP score",
        )


def _no_captions(metric: str, n: int, conditioning: str) -> ResultRecord:
    reason = "not applicable: unconditional"
    if conditioning == "class":
        reason += " on text (the model takes classes)"
    direction = METRICS[metric].direction
    return ResultRecord(
        metric=metric, value=None, n=n, direction=direction, state="not_applicable", reason=reason
    )


def at_own_size(options: MeasureOptions, config: Mapping[str, Any]) -> MeasureOptions:
    """A model that takes no captions is measured at the size it makes, unless told otherwise.

    Its reference is centre-cropped and resized to that size, as for ADM (Dhariwal & Nichol 2021).
    """
    if config["conditioning"] == "text" or options.crop or options.size_px:
        return options
    return replace(options, crop="center", size_px=config["size_px"])


def default_metrics(
    options: MeasureOptions, conditioning: str = "text", *, scenes: bool = False
) -> tuple[str, ...]:
    """The Fréchet distance; CLIP score where there are captions; composition where scenes are."""
    distance = "fid" if options.features == INCEPTION else "fd"
    with_captions = ("clip-score",) if conditioning == "text" else ()
    return (distance, *with_captions, *(("composition",) if scenes else ()))


def _clip_scores(task: Task | None, shown: Sequence[ManifestRow]) -> dict[int, float]:
    """Score of each image and its caption, by index in the run; empty where there is none."""
    if task is None or not task.captions:
        return {}
    pairs = pair_scores(task)
    return {
        shown[place].index: float(score)
        for place, score in zip(task.samples.kept, pairs, strict=True)
    }


def failures(rows: Sequence[ManifestRow]) -> Mapping[str, int]:
    """How many samples have no image, by status."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.status != "ok":
            counts[row.status] = counts.get(row.status, 0) + 1
    return counts
