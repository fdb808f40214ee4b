"""Measuring a set of samples: one pass over the images, then every metric on its features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.catalog import METRICS as CATALOG
from evalkit.core.errors import ConfigError, MissingWeightsError, NotEnoughImagesError
from evalkit.core.registry import load, resolve
from evalkit.core.results import ResultRecord
from evalkit.features.base import Extractor, ProgressFactory, silent
from evalkit.features.hub_weights import check_hub_weights
from evalkit.features.pipeline import FeatureSet, encode_texts, extract_set
from evalkit.features.preparing import (
    decoding_workers,
    reference_preparation,
    sample_preparation,
)
from evalkit.features.sources import ImageItem, Preparation
from evalkit.features.store import FeatureStore, StoredSet
from evalkit.metrics.moments import Moments
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.metrics.task import (
    INCEPTION,
    Metric,
    Need,
    Reference,
    Task,
    features_need,
)
from evalkit.options import MeasureOptions

METRICS: dict[str, str] = {
    "fid": "evalkit.metrics.fid:FID",
    "fd": "evalkit.metrics.fid:FD",
    "kid": "evalkit.metrics.kid:KID",
    "is": "evalkit.metrics.inception_score:INCEPTION_SCORE",
    "prdc": "evalkit.metrics.prdc:PRDC",
    "sfid": "evalkit.metrics.frechet_kin:SFID",
    "fd-dinov2": "evalkit.metrics.frechet_kin:FD_DINOV2",
    "clip-fd": "evalkit.metrics.frechet_kin:CLIP_FD",
    "cmmd": "evalkit.metrics.cmmd:CMMD",
    "clip-score": "evalkit.metrics.clip_score:CLIP_SCORE",
    "r-precision": "evalkit.metrics.r_precision:R_PRECISION",
}
"""Targets by the names of the command line."""

__all__ = [
    "METRICS",
    "ImageItem",
    "MeasureOptions",
    "Measured",
    "Measurer",
    "Preparation",
    "ReferenceStatistics",
    "load_extractor",
    "score_sets",
    "summarise_set",
]


def score_sets(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: MeasureOptions | None = None,
    progress: ProgressFactory = silent,
) -> list[ResultRecord]:
    """Measure samples, each image decoded once for all metrics.

    Args:
        samples: The images to judge, with captions where they have them.
        reference: Real images, or their statistics; None where no metric compares with any.
        metrics: Names of `METRICS`, or `package/name` of an entry point.
        options: How to measure.
        progress: Such as `evalkit.core.progress.progress_bar`.

    Returns:
        The records of each metric, in the order of `metrics`. A metric whose weights can't be
        had is a record in state `failed`, unless no other was asked for.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Options that contradict each other, or no reference where one is needed.
        NotEnoughImagesError: Fewer images than a metric is defined for.
        DataError: An image or a statistics file that can't be used.
        MissingWeightsError: No metric has weights that are cached or reachable.
    """
    measurer = Measurer.of(reference, metrics, options, progress, samples=samples)
    return measurer.records(measurer.measure(samples))


@dataclass(frozen=True)
class Measured:
    """One set's features, as each metric's task."""

    tasks: Mapping[str, Task]
    n: int
    """Samples that could be used."""


@dataclass(frozen=True)
class Measurer:
    """Networks and reference, loaded once for any number of sets."""

    rows: Mapping[str, Metric]
    needs: Mapping[str, Sequence[Need]]
    options: MeasureOptions
    extractors: Mapping[str, Extractor]
    lacking: Mapping[str, MissingWeightsError]
    """Why an extractor is missing."""
    reference: Reference
    progress: ProgressFactory

    @classmethod
    def of(
        cls,
        reference: Sequence[ImageItem] | ReferenceStatistics | None,
        metrics: Sequence[str],
        options: MeasureOptions | None = None,
        progress: ProgressFactory = silent,
        *,
        samples: Sequence[ImageItem] | None = None,
    ) -> Measurer:
        """Load what the metrics need; arguments and errors as of `score_sets`.

        Args:
            reference: Real images, or their statistics.
            metrics: Names of `METRICS`, or `package/name` of an entry point.
            options: How to measure.
            progress: Such as `evalkit.core.progress.progress_bar`.
            samples: Where they are known already, they are checked before anything is loaded.
        """
        options = options or MeasureOptions()
        rows = _rows(metrics)
        needs = {name: list(metric.needs(options)) for name, metric in rows.items()}
        if samples is not None:
            _check_samples(samples)
        _check_reference(reference, needs)
        extractors, lacking = _load_extractors(needs, options, progress)
        known = [n for n in _flat(needs) if n.extractor in extractors]
        store = FeatureStore(options.store)
        against = _reference(reference, known, extractors, options, store, progress)
        return cls(rows, needs, options, extractors, lacking, against, progress)

    def measure(self, samples: Sequence[ImageItem], name: str = "the samples") -> Measured:
        """One pass over a set of samples.

        Raises:
            NotEnoughImagesError: There are none.
            DataError: An image that can't be used.
        """
        _check_samples(samples)
        known = [n for n in _flat(self.needs) if n.extractor in self.extractors]
        store = FeatureStore(self.options.store)
        arguments = (self.extractors, self.options, store, self.progress)
        found = _extract(samples, known, *arguments, of_reference=False, what=name)
        kept = [samples[i] for i in found.kept]
        captions = _embed_captions(kept, known, *arguments)
        shared = (self.extractors, kept, found, self.reference, captions)
        tasks = {
            metric: Task(metric, self.options, wanted, *shared)
            for metric, wanted in self.needs.items()
            if self.why_missing(metric) is None
        }
        return Measured(tasks, len(kept))

    def records(self, measured: Measured) -> list[ResultRecord]:
        """The records of each metric, in the order asked for."""
        found: list[ResultRecord] = []
        for name, metric in self.rows.items():
            missing = self.why_missing(name)
            if missing is not None:
                found.append(_failed(name, measured.n, str(missing)))
            else:
                found += _measure(metric, measured.tasks[name], self.progress)
        return found

    def why_missing(self, metric: str) -> MissingWeightsError | None:
        """Why a metric can't be computed here; None where it can."""
        missing = (self.lacking.get(need.extractor) for need in self.needs[metric])
        return next(filter(None, missing), None)


def metric_needs(name: str, options: MeasureOptions) -> Sequence[Need]:
    """The features that a metric measures with.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Options that the metric can't do with.
    """
    metric: Metric = resolve(name, METRICS, kind="metrics")
    return metric.needs(options)


def _rows(metrics: Sequence[str]) -> dict[str, Metric]:
    return {name: resolve(name, METRICS, kind="metrics") for name in dict.fromkeys(metrics)}


def _flat(needs: Mapping[str, Sequence[Need]]) -> list[Need]:
    return [need for wanted in needs.values() for need in wanted]


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """What a statistics file says of a set; `write_statistics` writes it."""

    moments: Moments
    identity: Mapping[str, Any]
    """The extractor, its layer and the preparation."""
    spatial: Moments | None
    """Of the features of sFID, where they were asked for."""
    skipped: Mapping[str, str]
    """Images that were left out, and why."""


def summarise_set(
    items: Sequence[ImageItem],
    options: MeasureOptions | None = None,
    progress: ProgressFactory = silent,
    *,
    spatial: bool = False,
) -> SetSummary:
    """Mean and covariance of a set, prepared as a reference.

    Args:
        items: The images.
        options: How to measure.
        progress: Such as `evalkit.core.progress.progress_bar`.
        spatial: The features of sFID as well.

    Raises:
        ConfigError: Spatial features of another network than Inception.
        DataError: An image that can't be used.
        NotEnoughImagesError: Fewer than two images.
    """
    options = options or MeasureOptions()
    need = features_need(options, reference=False)
    if spatial and need.extractor != INCEPTION:
        raise ConfigError(f"features {options.features!r} have no spatial layer; leave it out")
    layers = [name for name in (need.layer, "spatial" if spatial else "") if name]
    extractor = load_extractor(need.extractor, options, layers, progress)
    if len(items) < 2:
        raise NotEnoughImagesError(f"a covariance needs at least 2 images, got {len(items)}")
    store = FeatureStore(options.store)
    extractors = {need.extractor: extractor}
    found = _extract(
        items, [need], extractors, options, store, progress, of_reference=True, what="the set"
    )
    layer = need.layer or next(iter(extractor.layers))
    identity = {
        **extractor.identity,
        "layer": layer,
        "preparation": reference_preparation(options).identity(),
    }
    return SetSummary(
        moments=Moments.from_features(found.of(extractor, layer)),
        identity=identity,
        spatial=Moments.from_features(found.of(extractor, "spatial")) if spatial else None,
        skipped=found.skipped,
    )


def load_extractor(
    key: str,
    options: MeasureOptions,
    layers: Sequence[str] = (),
    progress: ProgressFactory = silent,
) -> Extractor:
    """The extractor behind a need's name.

    Raises:
        UnknownNameError: No such extractor.
        MissingWeightsError: Its weights are neither cached nor reachable.
    """
    if key == INCEPTION:
        extractor: Extractor = load("evalkit.features.inception:InceptionExtractor")(
            tuple(layers) or (options.inception_layer,),
            weights=options.inception_weights,
            resize=options.resize,
            device=options.device,
            precision=options.precision,
            compiled=options.compile,
            progress=progress,
        )
        return extractor
    check_hub_weights(key)
    loader = load(
        "evalkit.features.dinov2:load_dinov2"
        if key == "dinov2"
        else "evalkit.features.clip:load_clip"
    )
    arguments = () if key == "dinov2" else (key.removeprefix("clip:"),)
    extractor = loader(*arguments, device=options.device, precision=options.precision)
    return extractor


def _measure(metric: Metric, task: Task, progress: ProgressFactory) -> list[ResultRecord]:
    with progress(f"computing {task.name}") as report:
        records = metric.measure(task)
        report(1, 1)
    return records


def _check_samples(samples: Sequence[ImageItem]) -> None:
    if not samples:
        raise NotEnoughImagesError("there are no samples; give at least one image")


def _check_reference(
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    needs: Mapping[str, Sequence[Need]],
) -> None:
    wanting = [name for name, wanted in needs.items() if any(n.reference for n in wanted)]
    if wanting and reference is None:
        raise ConfigError(f"{wanting[0]} compares with a reference; give one with --against")
    if wanting and not isinstance(reference, ReferenceStatistics) and not reference:
        raise NotEnoughImagesError("the reference has no images; give at least one")


def _load_extractors(
    needs: Mapping[str, Sequence[Need]], options: MeasureOptions, progress: ProgressFactory
) -> tuple[dict[str, Extractor], dict[str, MissingWeightsError]]:
    """Extractors by name, and the errors of those whose weights are missing."""
    layers: dict[str, list[str]] = {}
    for need in _flat(needs):
        wanted_layers = layers.setdefault(need.extractor, [])
        if need.layer and need.layer not in wanted_layers:
            wanted_layers.append(need.layer)
    found: dict[str, Extractor] = {}
    missing: dict[str, MissingWeightsError] = {}
    for key, names in layers.items():
        try:
            found[key] = load_extractor(key, options, names, progress)
        except MissingWeightsError as error:
            missing[key] = error
    if missing and not found:
        raise next(iter(missing.values()))
    return found, missing


def _failed(metric: str, n: int, reason: str) -> ResultRecord:
    row = CATALOG.get(metric)
    direction = row.direction if row else "none"
    return ResultRecord(
        metric=metric, value=None, n=n, direction=direction, state="failed", reason=reason
    )


def _extract(
    items: Sequence[ImageItem],
    needs: Iterable[Need],
    extractors: Mapping[str, Extractor],
    options: MeasureOptions,
    store: FeatureStore,
    progress: ProgressFactory,
    *,
    of_reference: bool,
    what: str,
) -> FeatureSet:
    return extract_set(
        items,
        [extractors[key] for key in sorted({need.extractor for need in needs})],
        preparation=reference_preparation(options) if of_reference else sample_preparation(options),
        store=store,
        batch_size=options.batch_size,
        workers=decoding_workers(options),
        skip_bad=options.skip_bad,
        what=what,
        progress=progress,
    )


def _reference(
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    needs: Sequence[Need],
    extractors: Mapping[str, Extractor],
    options: MeasureOptions,
    store: FeatureStore,
    progress: ProgressFactory,
) -> Reference:
    if isinstance(reference, ReferenceStatistics):
        return Reference(statistics=reference)
    if not reference or not any(need.reference for need in needs):
        return Reference()
    arguments = (extractors, options, store, progress)
    wanted = [need for need in needs if need.reference]
    found = _extract(reference, wanted, *arguments, of_reference=True, what="the reference")
    return Reference([reference[i] for i in found.kept], found)


def _embed_captions(
    items: Sequence[ImageItem],
    needs: Sequence[Need],
    extractors: Mapping[str, Any],
    options: MeasureOptions,
    store: FeatureStore,
    progress: ProgressFactory,
) -> dict[Need, StoredSet]:
    if not all(item.caption for item in items):
        return {}
    return {
        need: encode_texts(
            [f"{need.prefix}{item.caption}" for item in items],
            extractors[need.extractor],
            store=store,
            batch_size=options.batch_size,
            progress=progress,
        )
        for need in dict.fromkeys(needs)
        if need.prefix is not None
    }
