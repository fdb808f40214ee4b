"""From images and a reference to result records.

A protocol (`evalkit.protocols`) decides whatever the options leave open: the one that they name, or
the one that the data set stands for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.registry import third_party, unknown
from evalkit.core.results import ResultRecord
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.datasets.base import CaptionedImages, known_as
from evalkit.features.base import ProgressFactory, silent
from evalkit.features.hub_weights import check_hub_weights
from evalkit.features.inception_weights import find_inception_weights
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import ImageItem
from evalkit.generation import PreparedRun, run_fingerprint
from evalkit.metrics.clip_score import pair_scores
from evalkit.metrics.score import METRICS, Measurer, metric_needs
from evalkit.metrics.task import INCEPTION, Task, extractor_key
from evalkit.options import MeasureOptions
from evalkit.protocols.applying import options_for
from evalkit.reranking import refuse_own_judge
from evalkit.run_metrics import COMPOSITION, RUN_METRICS, RunMeasurer


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a measurement."""

    records: list[ResultRecord]
    clip_scores: Mapping[int, float]
    """CLIP score of single images by their index in the run; empty where there is none."""
    clip_name: str


def check_metrics(options: MeasureOptions) -> None:
    """Stop before anything heavy is imported where an option is wrong or features are missing.

    Args:
        options: How a run is going to be measured, under its protocol.

    Raises:
        ConfigError: Options that a metric can't do with.
        MissingWeightsError: The features' weights are neither given, cached nor downloadable.
        UnknownNameError: No such metric.
    """
    reference_preparation(options), sample_preparation(options)
    metrics = of_images(options.metrics or default_metrics(options))
    wanted = {need.extractor for name in metrics for need in metric_needs(name, options)}
    if INCEPTION in wanted:
        find_inception_weights(options.inception_weights)
    elif extractor_key(options.features) in wanted:
        check_hub_weights(extractor_key(options.features))


def refuse_biased_scores(reranking: Any, options: MeasureOptions) -> None:
    """Stop where the CLIP that picked a run's images would measure them.

    Args:
        reranking: What the run's configuration or fingerprint says under `reranked`.
        options: How it would be measured, under its protocol.

    Raises:
        ConfigError: It would.
    """
    if not reranking:
        return
    metrics = of_images(options.metrics or default_metrics(options))
    needs = [need for name in metrics for need in metric_needs(name, options)]
    refuse_own_judge(reranking, (need.extractor for need in needs))


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
    level: float

    @classmethod
    def of(
        cls, prepared: PreparedRun, options: MeasureOptions, progress: ProgressFactory = silent
    ) -> RunMeasurement:
        """Load the networks and measure the reference.

        Args:
            prepared: The run.
            options: As they were given; the protocol decides what they leave open.
            progress: Such as `evalkit.core.progress.progress_bar`.

        Raises:
            MissingWeightsError: The features' weights are not to be had, or no metric's.
            ConfigError: Options that a metric can't do with.
            DataError: A reference image that can't be used.
        """
        config, dataset = prepared.run.config, prepared.dataset
        options = options_for(known_as(dataset), at_own_size(options, config))
        refuse_biased_scores(config.get("reranked"), options)
        text = config["conditioning"] == "text"
        scenes = text and all(caption.scene for caption in prepared.captions)
        metrics = options.metrics or default_metrics(options, scenes=scenes)
        wanted = of_images(metrics)
        without = () if text else tuple(n for n in wanted if _wants_captions(n, options))
        measured = [name for name in wanted if name not in without]
        measurer = Measurer.of(reference_items(dataset), measured, options, progress)
        missing = measurer.lacking.get(extractor_key(options.features))
        if missing is not None:
            raise missing
        return cls(prepared, metrics, measurer, without, options.level)

    def lacking(self) -> dict[str, str]:
        """Metrics that will have no value for want of weights, and why."""
        reasons = {name: self.measurer.why_missing(name) for name in self.measurer.rows}
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
        found = self.measurer.measure(run_items(run, rows, categories))
        of_run = RunMeasurer(run, len(shown), captions, self.level)
        conditioning = run.config["conditioning"]
        records = [
            *self.measurer.records(found),
            *(_no_captions(name, len(shown), conditioning) for name in self.without_captions),
            *of_run.records(self.metrics),
        ]
        context = {**run_fingerprint(run), "reference": self.prepared.reference}
        subject = run.config["display_name"]
        return Measured(
            records=[r.with_context(subject=subject, fingerprint=context) for r in records],
            clip_scores=_clip_scores(found.tasks.get("clip-score"), shown),
            clip_name="CLIP score",
        )


def _wants_captions(metric: str, options: MeasureOptions) -> bool:
    return any(need.prefix is not None for need in metric_needs(metric, options))


def _no_captions(metric: str, n: int, conditioning: str) -> ResultRecord:
    reason = "not applicable: unconditional"
    if conditioning == "class":
        reason += " on text (the model takes classes)"
    return ResultRecord(
        metric=metric, value=None, n=n, direction="higher", state="not_applicable", reason=reason
    )


def at_own_size(options: MeasureOptions, config: Mapping[str, Any]) -> MeasureOptions:
    """A model that takes no captions is measured at the size it makes, unless told otherwise.

    Its reference is centre-cropped and resized to that size, as for ADM (Dhariwal & Nichol 2021).
    """
    if config["conditioning"] == "text" or any(map(options.is_given, ("crop", "size_px"))):
        return options
    return replace(options, crop="center", size_px=config["size_px"])


def default_metrics(
    options: MeasureOptions, conditioning: str = "text", *, scenes: bool = False
) -> tuple[str, ...]:
    """The protocol's metrics, of which those remain that the images allow.

    Only Inception makes an FID: with other features it is an FD. CLIP score needs captions, and
    composition the scenes behind them.
    """
    distance = "fid" if options.features == INCEPTION else "fd"
    chosen = (distance if name in ("fid", "fd") else name for name in options.default_metrics)
    missing = {"clip-score"} if conditioning != "text" else set()
    missing |= set() if scenes else {COMPOSITION}
    return tuple(name for name in chosen if name not in missing)


def of_images(metrics: Sequence[str]) -> tuple[str, ...]:
    """Those that are measured on images, in their order; the others are `RUN_METRICS`.

    Raises:
        UnknownNameError: Of one there is neither.
    """
    known = [*METRICS, *RUN_METRICS, *third_party("metrics")]
    for name in metrics:
        if name not in known:
            raise unknown(name, known, kind="metrics")
    return tuple(name for name in metrics if name not in RUN_METRICS)


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
