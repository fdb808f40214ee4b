"""From images and a reference to result records.

Two protocols decide what happens to the reference's images: `shapes` is measured at its native 64
px; everything else is centre-cropped and resized to 256 px with an antialiased bicubic filter, as
this version's zero-shot COCO protocol says. Samples are taken as the model made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit.datasets.base import Caption, CaptionedImages
from evalkit.errors import ConfigError, MissingWeightsError
from evalkit.features.base import ProgressFactory, silent
from evalkit.features.clip import SHAPES_CLIP, load_clip
from evalkit.features.inception import find_inception_weights
from evalkit.features.pipeline import encode_texts, extract_set
from evalkit.features.sources import ImageItem, Preparation
from evalkit.features.store import FeatureStore
from evalkit.generation import PreparedRun, run_fingerprint
from evalkit.metrics.clip_score import clip_cosines
from evalkit.metrics.composition import composition_records
from evalkit.metrics.score import ScoreOptions, score_sets
from evalkit.results import ResultRecord
from evalkit.run import ManifestRow, RunFolder

DEFAULT_CLIP = "ViT-L/14"
"""The default of torchmetrics, whose definition of the score is used."""
NATIVE = ("shapes",)
"""Data sets whose images are measured as they are."""
PROTOCOL_SIZE_PX = 256


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What a user can choose about a measurement."""

    metrics: tuple[str, ...] | None = None
    """Names of `evalkit list metrics`; None: the Fréchet distance, and CLIP score with captions."""
    features: str = "inception"
    inception_weights: Path | None = None
    clip_model: str | None = None
    resize: str = "tf1"
    crop: str | None = None
    size_px: int | None = None
    batch_size: int = 32
    workers: int | None = None
    precision: str = "float32"
    device: str = "cpu"
    seed: int = 0
    skip_bad: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of a measurement."""

    records: list[ResultRecord]
    clip_scores: Mapping[int, float]
    """CLIP score of single images by their index in the run; empty where there is none."""
    clip_name: str


def check_extractors(options: MeasureOptions) -> None:
    """Stop before anything is generated where the features can't be had.

    Raises:
        MissingWeightsError: The weights are neither given, cached nor downloadable.
        UnknownNameError: No such features.
    """
    if options.features == "inception":
        find_inception_weights(options.inception_weights)
    else:
        load_clip(options.features)


def run_items(run: RunFolder, rows: Sequence[ManifestRow]) -> list[ImageItem]:
    """The images of a run that came out, with what they were made from."""
    return [
        ImageItem(
            path=run.image_path(row),
            sha256=row.sha256,
            caption=row.prompt,
            caption_id=row.caption_id,
            image_id=row.image_id,
        )
        for row in rows
        if row.file is not None
    ]


def reference_items(dataset: CaptionedImages) -> list[ImageItem]:
    """All images of a data set."""
    return [ImageItem(path=dataset.image_path(i), image_id=i) for i in dataset.image_ids]


def score_options(options: MeasureOptions, dataset: str, store: Path | None = None) -> ScoreOptions:
    """Options of the metrics, with the reference prepared as the data set's protocol says."""
    return ScoreOptions(
        features=options.features,
        inception_weights=options.inception_weights,
        resize=options.resize,
        batch_size=options.batch_size,
        workers=options.workers,
        device=options.device,
        precision=options.precision,
        clip_model=options.clip_model or default_clip(dataset),
        seed=options.seed,
        store=store,
        reference_preparation=reference_preparation(dataset, options),
        skip_bad=options.skip_bad,
    )


def default_clip(dataset: str) -> str:
    """The CLIP that scores captions of a data set unless told."""
    return SHAPES_CLIP if dataset in NATIVE else DEFAULT_CLIP


def reference_preparation(dataset: str, options: MeasureOptions) -> Preparation:
    """What happens to a reference image before the extractor's own resizing."""
    if options.crop == "none":
        return Preparation(size_px=options.size_px)
    if options.crop is None and options.size_px is None and dataset in NATIVE:
        return Preparation()
    if options.crop not in (None, "center", "squash"):
        raise ConfigError(f"--crop {options.crop!r} is unknown; use none, center or squash")
    return Preparation(
        crop=options.crop or "center",  # type: ignore[arg-type]
        size_px=options.size_px or PROTOCOL_SIZE_PX,
    )


def measure_run(
    prepared: PreparedRun, options: MeasureOptions, progress: ProgressFactory = silent
) -> Measured:
    """Measure a finished run against its data set.

    Raises:
        MissingWeightsError: The extractor's weights are not to be had.
        NotEnoughImagesError: Fewer images than the metric needs.
    """
    run, dataset = prepared.run, prepared.dataset
    rows = run.rows()
    metrics, clip_failure = _without_missing_clip(
        options.metrics or default_metrics(options), options, dataset.name, len(rows)
    )
    records = score_sets(
        run_items(run, rows),
        reference_items(dataset),
        metrics,
        score_options(options, dataset.name),
        progress,
    )
    records += clip_failure
    if dataset.name in NATIVE and run.config["conditioning"] == "text":
        records += _composition(run, rows, prepared.captions)
    context = {**run_fingerprint(run), "reference": f"all images of {dataset.name}"}
    subject = run.config["display_name"]
    clip_name = options.clip_model or default_clip(dataset.name)
    return Measured(
        records=[r.with_context(subject=subject, fingerprint=context) for r in records],
        clip_scores=_clip_scores(run, rows, records, options, clip_name, progress),
        clip_name="CLIP score",
    )


def default_metrics(options: MeasureOptions) -> tuple[str, ...]:
    """The Fréchet distance of the features asked for, and the CLIP score."""
    return ("fid" if options.features == "inception" else "fd", "clip-score")


def _without_missing_clip(
    metrics: Sequence[str], options: MeasureOptions, dataset: str, n: int
) -> tuple[list[str], list[ResultRecord]]:
    """The metrics that can be computed, and a failed CLIP score where its weights can't be had."""
    if "clip-score" not in metrics:
        return list(metrics), []
    try:
        load_clip(options.clip_model or default_clip(dataset), device=options.device)
    except MissingWeightsError as error:
        failed = ResultRecord(
            metric="clip-score",
            value=None,
            n=n,
            direction="higher",
            state="failed",
            reason=str(error),
        )
        return [name for name in metrics if name != "clip-score"], [failed]
    return list(metrics), []


def _clip_scores(
    run: RunFolder,
    rows: Sequence[ManifestRow],
    records: Sequence[ResultRecord],
    options: MeasureOptions,
    clip_name: str,
    progress: ProgressFactory,
) -> dict[int, float]:
    """100 cos of each image and its caption; the features are in the store by now."""
    if not any(record.metric == "clip-score" and record.state == "ok" for record in records):
        return {}
    shown = [row for row in rows if row.file is not None]
    clip, store = load_clip(clip_name, device=options.device), FeatureStore()
    images = extract_set(run_items(run, shown), [clip], store=store, progress=progress)
    texts = encode_texts([row.prompt or "" for row in shown], clip, store=store)
    cosines = clip_cosines(images.of(clip)[:], texts[:])
    return {row.index: 100 * float(cos) for row, cos in zip(shown, cosines, strict=True)}


def failures(rows: Sequence[ManifestRow]) -> Mapping[str, int]:
    """How many samples have no image, by status."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.status != "ok":
            counts[row.status] = counts.get(row.status, 0) + 1
    return counts


def _composition(
    run: RunFolder, rows: Sequence[ManifestRow], captions: Sequence[Caption]
) -> list[ResultRecord]:
    by_id = {caption.id: caption for caption in captions}
    asked = [by_id[row.caption_id] for row in rows]
    images: list[Any] = [run.image_path(row) if row.file else None for row in rows]
    scenes: list[Any] = [caption.scene for caption in asked]
    return composition_records(images, scenes, captions=[caption.text for caption in asked])
