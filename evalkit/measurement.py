"""From images and a reference to result records.

A protocol (`evalkit.protocols`) decides what the options leave open: the protocol that they name,
else the data set's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.catalog import METRICS
from evalkit.core.errors import ConfigError
from evalkit.core.progress import ProgressFactory, silent
from evalkit.core.results import ResultRecord
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.datasets.base import CaptionedImages, known_as
from evalkit.datasets.draws import is_seeded_by_run, selection_rule
from evalkit.features.hub_weights import check_hub_weights
from evalkit.features.inception_weights import find_inception_weights
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import ImageItem, Preparation, load_image
from evalkit.generation import PreparedRun, run_fingerprint
from evalkit.metrics.clip_score import pair_scores
from evalkit.metrics.score import Scorer, metric_needs
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.task import INCEPTION, Task, extractor_key
from evalkit.options import MeasureOptions
from evalkit.protocols.applying import chosen_protocol, under
from evalkit.protocols.catalog import UNNAMED
from evalkit.protocols.model import MeasurementProtocol
from evalkit.reranking import refuse_own_judge


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """The outcome of measuring a run."""

    records: list[ResultRecord]
    clip_scores: Mapping[int, float]
    """CLIP scores of single images by index in the run; empty if there are none."""
    clip_name: str


def check_metrics(options: MeasureOptions) -> None:
    """Check options and weights before any heavy import.

    Args:
        options: The run's measuring options, completed by its protocol.

    Raises:
        ConfigError: Options that a metric does not support.
        MissingWeightsError: The features' weights are neither given, cached nor downloadable.
        UnknownNameError: No such metric.
    """
    reference_preparation(options), sample_preparation(options)
    for name in options.metrics or ():
        if METRICS[name].full_reference:
            raise ConfigError(
                f"{name} compares a finished run with another one of the same captions and seeds: "
                f"evalkit score RUN --against RUN --metrics {name}."
            )
    wanted = _extractors(options)
    if INCEPTION in wanted:
        find_inception_weights(options.inception_weights)
    elif extractor_key(options.features) in wanted:
        check_hub_weights(extractor_key(options.features))


def refuse_biased_scores(reranking: object, options: MeasureOptions) -> None:
    """Refuse to score a run's images with the CLIP that selected them.

    Args:
        reranking: The entry `reranked` of the run's configuration or fingerprint.
        options: The measuring options, completed by the protocol.

    Raises:
        ConfigError: A metric would use that CLIP.
    """
    if not reranking:
        return
    refuse_own_judge(reranking, _extractors(options))


def _extractors(options: MeasureOptions) -> set[str]:
    """Return the networks whose features the metrics need.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Options that a metric does not support.
    """
    metrics = options.metrics or default_metrics(options)
    return {need.extractor for name in metrics for need in metric_needs(name, options)}


def run_items(
    run: RunFolder,
    rows: Sequence[ManifestRow],
    categories: Mapping[str, str | None] | None = None,
) -> list[ImageItem]:
    """List the images that a run produced, with their prompts and ids.

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
            sample_index=row.sample_index,
            seed=row.seed,
        )
        for row in rows
        if row.file is not None
    ]


def reference_items(dataset: CaptionedImages) -> list[ImageItem]:
    """List all images of a data set, with the category where every caption of an image has one."""
    categories = {caption.image_id: caption.kind for caption in dataset.captions}
    return [
        ImageItem(path=dataset.image_path(i), image_id=i, category=categories.get(i))
        for i in dataset.image_ids
    ]


def matched_items(
    reference: Sequence[ImageItem], image_ids: Iterable[str | None], what: str
) -> list[ImageItem]:
    """Return the reference images that the samples' captions describe.

    Args:
        reference: All images of the data set.
        image_ids: Image of each sample's caption; None or empty where that is not known.
        what: Name of the samples in errors.

    Raises:
        ConfigError: A sample doesn't say which image its caption describes.
    """
    wanted = set(image_ids)
    found = [item for item in reference if item.image_id in wanted]
    if wanted & {None, ""} or not found:
        raise ConfigError(
            f"{what}: the protocol compares with the images of the drawn captions, but the samples "
            "don't say which image each caption describes. Give a run, or use --reference-images "
            "all."
        )
    return found


def kept_samples(items: Sequence[ImageItem], options: MeasureOptions) -> list[ImageItem]:
    """Return the samples without those that the options exclude.

    Raises:
        ConfigError: An unknown --sample-exclude.
        DataError: An image is unreadable.
    """
    if options.sample_exclude == "none":
        return list(items)
    if options.sample_exclude != "black":
        raise ConfigError(f"Unknown --sample-exclude {options.sample_exclude!r}; use none, black.")
    return [item for item in items if load_image(item, Preparation()).any()]


def short_of(protocol: MeasurementProtocol, n: int) -> str:
    """Return such as `29,000 of 30,000` where there are fewer images than a protocol says.

    >>> from evalkit.protocols.catalog import open_protocol
    >>> short_of(open_protocol("imagen-30k"), 29_000), short_of(open_protocol("imagen-30k"), 30_000)
    ('29,000 of 30,000', '')
    """
    count = protocol.captions.count
    return f"{n:,} of {count:,}" if n < count else ""


def refuse_short(protocol: MeasurementProtocol, n: int, options: MeasureOptions) -> None:
    """Refuse fewer images than a protocol says, unless the options allow it.

    Raises:
        ConfigError: There are fewer.
    """
    if short_of(protocol, n) and not options.allow_short:
        raise ConfigError(
            f"{protocol.name} needs {protocol.captions.count:,} images, got {n:,}. Give all of "
            "them, or accept a number that is biased upward with --allow-short."
        )


@dataclass(frozen=True)
class MeasurementPlan:
    """The plan of measuring a run: networks and reference, loaded before its images are made.

    Missing or broken weights and data therefore raise before hours of sampling, not after.
    """

    prepared: PreparedRun
    metrics: tuple[str, ...]
    scorer: Scorer
    without_captions: tuple[str, ...]
    """Caption metrics that do not apply, because the model takes no captions."""

    @classmethod
    def of(
        cls, prepared: PreparedRun, options: MeasureOptions, progress: ProgressFactory = silent
    ) -> MeasurementPlan:
        """Load the networks and measure the reference.

        Args:
            prepared: The run.
            options: The measuring options; the protocol decides what they leave open.
            progress: Such as `evalkit.core.progress.progress_bar`.

        Raises:
            MissingWeightsError: The weights of the features, or of all metrics, are unavailable.
            ConfigError: Options that a metric does not support.
            DataError: A reference image is unusable.
        """
        config, dataset = prepared.run.config, prepared.dataset
        known = known_as(dataset)
        protocol, named = chosen_protocol(options, known), bool(options.protocol)
        options = under(protocol, at_own_size(options, config))
        departs = run_departures(protocol, known, config)
        short = short_of(protocol, config["dataset"]["n"]) if protocol and named else ""
        overrides = (*departs, *options.overrides)
        options = replace(options, overrides=overrides, images_short=short)
        refuse_biased_scores(config.get("reranked"), options)
        text = config["conditioning"] == "text"
        scenes = text and all(caption.scene for caption in prepared.captions)
        metrics = options.metrics or default_metrics(options, scenes=scenes)
        without = () if text else tuple(n for n in metrics if METRICS[n].needs_captions)
        measured = [name for name in metrics if name not in without]
        reference = reference_items(dataset)
        if options.reference_images == "matched":
            drawn = [caption.image_id for caption in prepared.captions]
            reference = matched_items(reference, drawn, config["display_name"])
        scorer = Scorer.of(reference, measured, options, progress, curves=True)
        missing = scorer.lacking.get(extractor_key(options.features))
        if missing is not None:
            raise missing
        return cls(prepared, metrics, scorer, without)

    def _reference(self) -> str:
        """Return the description of the reference images."""
        if self.scorer.networks.options.reference_images == "all":
            return self.prepared.reference
        n = len({caption.image_id for caption in self.prepared.captions})
        return matched_name(n, self.prepared.dataset.name)

    def lacking(self) -> dict[str, str]:
        """Return the metrics whose weights are missing, each with the reason."""
        reasons = {name: self.scorer.why_missing(name) for name in self.scorer.metrics}
        return {name: str(reason) for name, reason in reasons.items() if reason is not None}

    def measure(self) -> RunResults:
        """Measure the finished run.

        Raises:
            NotEnoughImagesError: Fewer images than a metric needs.
            DataError: An image is unusable.
        """
        run, captions = self.prepared.run, self.prepared.captions
        rows = run.rows()
        shown = [row for row in rows if row.file is not None]
        categories = {caption.id: caption.category for caption in captions}
        options = self.scorer.networks.options
        items = kept_samples(run_items(run, rows, categories), options)
        found = self.scorer.prepare(items, run=SourceRun(run, captions))
        conditioning = run.config["conditioning"]
        records = [
            *self.scorer.records(found),
            *(_no_captions(name, len(shown), conditioning) for name in self.without_captions),
        ]
        context = {
            **run_fingerprint(run),
            "reference": self._reference(),
            **options.protocol_marks(),
        }
        subject = run.config["display_name"]
        named = [r.with_context(subject=subject, fingerprint=context) for r in records]
        if options.by_category:
            reference = self.scorer.reference.items
            parts = category_records(self.scorer, items, reference, list(self.scorer.metrics))
            named += [
                r.with_context(subject=f"{subject}, {r.subject}", fingerprint=context)
                for r in parts
            ]
        measured = {item.path for item in items}
        kept = [row for row in shown if run.image_path(row) in measured]
        return RunResults(
            records=named,
            clip_scores=_clip_scores(found.tasks.get("clip-score"), kept),
            clip_name="CLIP score",
        )


def matched_name(n: int, dataset: str) -> str:
    """Return the name of a matched reference."""
    return f"the {n:,} images of the drawn captions of {dataset}"


def category_records(
    scorer: Scorer,
    items: Sequence[ImageItem],
    reference: Sequence[ImageItem],
    metrics: Sequence[str],
    run: SourceRun | None = None,
) -> list[ResultRecord]:
    """Measure each category on its own, against the reference images of that category.

    The features are those of the whole set, so nothing is decoded again.

    Args:
        scorer: The scorer of the whole set.
        items: The samples, with categories.
        reference: The reference images, with categories.
        metrics: Names of metrics.
        run: The run that the samples belong to, if any.

    Returns:
        Records whose subject is the category; none where samples or reference have no categories.
    """
    networks = scorer.networks
    found: list[ResultRecord] = []
    categories = {item.category for item in items} & {item.category for item in reference}
    for category in sorted(filter(None, categories)):
        own = [item for item in items if item.category == category]
        real = [item for item in reference if item.category == category]
        part = Scorer.of(
            real, metrics, networks.options, load=lambda key, *_: networks.extractors[key]
        )
        marks = {"category": category, "num_reference": len(real)}
        found += [
            record.with_context(subject=category, fingerprint=marks)
            for record in part.records(part.prepare(own, run=run))
        ]
    return found


def _no_captions(metric: str, n: int, conditioning: str) -> ResultRecord:
    reason = "not applicable: unconditional"
    if conditioning == "class":
        reason += " on text (the model takes classes)"
    direction = METRICS[metric].direction
    return ResultRecord(
        metric=metric, value=None, n=n, direction=direction, state="not_applicable", reason=reason
    )


def drawn_otherwise(
    protocol: MeasurementProtocol | None,
    *,
    dataset: str | None,
    count: int,
    seed: int | None = None,
    rule: str | None = None,
) -> tuple[str, ...]:
    """Return the values of a protocol that a set of samples departs from.

    Args:
        protocol: None: there is nothing to depart from.
        dataset: What the reference is known as; None for images that are no data set.
        count: Number of captions that were drawn, or of samples where nothing is known of these.
        seed: Seed of the draw; None: not known.
        rule: How captions were chosen, as a run's configuration says it; None: not known.
    """
    if protocol is None or protocol.name == UNNAMED:
        return ()
    drawn = protocol.captions
    departs = {
        "dataset": dataset != protocol.dataset,
        "captions.count": count != drawn.count,
        "captions.draw": rule not in (None, selection_rule(drawn)),
        "captions.seed": is_seeded_by_run(drawn) and seed not in (None, drawn.seed),
    }
    return tuple(name for name, differs in departs.items() if differs)


def run_departures(
    protocol: MeasurementProtocol | None, dataset: str | None, config: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return the same of a run, by its configuration."""
    drawn = config["dataset"]
    return drawn_otherwise(
        protocol,
        dataset=dataset,
        count=drawn["n"],
        seed=config["seed"],
        rule=drawn["selection"],
    )


def at_own_size(options: MeasureOptions, config: Mapping[str, Any]) -> MeasureOptions:
    """Measure a model without captions at its own image size, unless options say otherwise.

    Its reference is centre-cropped and resized to that size, as for ADM (Dhariwal & Nichol 2021).
    """
    if config["conditioning"] == "text" or options.protocol or config["size_px"] is None:
        return options
    if any(map(options.is_given, ("crop", "size_px"))):
        return options
    return replace(options, crop="center", size_px=config["size_px"])


def default_metrics(
    options: MeasureOptions, conditioning: str = "text", *, scenes: bool = False
) -> tuple[str, ...]:
    """Return the protocol's metrics that apply to the images.

    Only Inception makes an FID; with other features it is an FD. Caption metrics need captions, and
    composition needs their scenes.
    """
    distance = "fid" if options.features == INCEPTION else "fd"
    chosen = (distance if name in ("fid", "fd") else name for name in options.default_metrics)
    return tuple(
        name
        for name in chosen
        if (conditioning == "text" or not METRICS[name].needs_captions)
        and (scenes or name != "composition")
    )


def _clip_scores(task: Task | None, shown: Sequence[ManifestRow]) -> dict[int, float]:
    """Return the CLIP score of each image by its index in the run; empty if there is none."""
    if task is None or not task.captions:
        return {}
    places = [task.samples.kept[i] for i in task.captioned]
    return {
        shown[place].index: float(score)
        for place, score in zip(places, pair_scores(task), strict=True)
    }


def failures(rows: Iterable[ManifestRow]) -> Mapping[str, int]:
    """Count the samples without an image, by status."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.status != "ok":
            counts[row.status] = counts.get(row.status, 0) + 1
    return counts
