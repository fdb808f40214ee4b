"""Measuring a set of samples: one pass over the images, then every metric on its features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.catalog import METRICS as CATALOG
from evalkit.errors import ConfigError, MissingWeightsError, NotEnoughImagesError
from evalkit.features.base import Extractor, ProgressFactory, silent
from evalkit.features.pipeline import FeatureSet, encode_texts, extract_set
from evalkit.features.sources import ImageItem, Preparation
from evalkit.features.store import FeatureStore, StoredSet
from evalkit.metrics.moments import Moments
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.metrics.task import (
    INCEPTION,
    Metric,
    Need,
    Reference,
    ScoreOptions,
    Task,
    features_need,
)
from evalkit.registry import load, resolve
from evalkit.results import ResultRecord

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
    "Preparation",
    "ReferenceStatistics",
    "ScoreOptions",
    "load_extractor",
    "prepare_tasks",
    "score_sets",
    "summarise_set",
]


def score_sets(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: ScoreOptions | None = None,
    progress: ProgressFactory = silent,
) -> list[ResultRecord]:
    """Measure samples, each image decoded once for all metrics.

    Args:
        samples: The images to judge, with captions where they have them.
        reference: Real images, or their statistics; None where no metric compares with any.
        metrics: Names of `METRICS`, or `package/name` of an entry point.
        options: How to measure.
        progress: Such as `evalkit.progress.progress_bar`.

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
    options = options or ScoreOptions()
    rows = _rows(metrics)
    prepared = _prepare(samples, reference, rows, options, progress)
    records: list[ResultRecord] = []
    for name, metric in rows.items():
        if name in prepared.missing:
            records.append(_failed(name, prepared.n, str(prepared.missing[name])))
        else:
            records += _measure(metric, prepared.tasks[name], progress)
    return records


def prepare_tasks(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: ScoreOptions,
    progress: ProgressFactory = silent,
) -> dict[str, Task]:
    """The features of one pass, as each metric's task, for those who compare several sets.

    Raises:
        MissingWeightsError: A metric's weights are neither cached nor reachable.
        EvalkitError: As `score_sets`.
    """
    prepared = _prepare(samples, reference, _rows(metrics), options, progress)
    if prepared.missing:
        raise next(iter(prepared.missing.values()))
    return prepared.tasks


@dataclass(frozen=True)
class _Prepared:
    tasks: dict[str, Task]
    missing: dict[str, MissingWeightsError]
    """Why a metric has no task."""
    n: int


def _rows(metrics: Sequence[str]) -> dict[str, Metric]:
    return {name: resolve(name, METRICS, kind="metrics") for name in dict.fromkeys(metrics)}


def _prepare(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    rows: Mapping[str, Metric],
    options: ScoreOptions,
    progress: ProgressFactory,
) -> _Prepared:
    needs = {name: list(metric.needs(options)) for name, metric in rows.items()}
    _check_sets(samples, reference, needs)
    extractors, lacking = _load_extractors(needs, options, progress)
    every = [n for wanted in needs.values() for n in wanted if n.extractor in extractors]
    store = FeatureStore(options.store)
    found = _extract(samples, every, extractors, options, store, progress, of_reference=False)
    kept = [samples[i] for i in found.kept]
    against = _reference(reference, every, extractors, options, store, progress)
    captions = _embed_captions(kept, every, extractors, options, store, progress)
    missing = {
        name: lacking[need.extractor]
        for name, wanted in needs.items()
        for need in wanted
        if need.extractor in lacking
    }
    tasks = {
        name: Task(name, options, wanted, extractors, kept, found, against, captions)
        for name, wanted in needs.items()
        if name not in missing
    }
    return _Prepared(tasks, missing, len(kept))


def summarise_set(
    items: Sequence[ImageItem],
    options: ScoreOptions | None = None,
    progress: ProgressFactory = silent,
) -> tuple[Moments, dict[str, Any]]:
    """Mean and covariance of a set, and the identity to write beside them with `write_statistics`.

    Raises:
        DataError: An image that can't be used.
        NotEnoughImagesError: Fewer than two images.
    """
    options = options or ScoreOptions()
    need = features_need(options, reference=False)
    extractor = load_extractor(
        need.extractor, options, [need.layer] if need.layer else [], progress
    )
    if len(items) < 2:
        raise NotEnoughImagesError(f"a covariance needs at least 2 images, got {len(items)}")
    found = extract_set(
        items,
        [extractor],
        preparation=options.reference_preparation,
        store=FeatureStore(options.store),
        batch_size=options.batch_size,
        workers=options.workers,
        skip_bad=options.skip_bad,
        what="the set",
        progress=progress,
    )
    layer = need.layer or next(iter(extractor.layers))
    identity = {
        **extractor.identity,
        "layer": layer,
        "preparation": options.reference_preparation.identity(),
    }
    return Moments.from_features(found.of(extractor, layer)), identity


def load_extractor(
    key: str,
    options: ScoreOptions,
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
            progress=progress,
        )
        return extractor
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


def _check_sets(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    needs: dict[str, list[Need]],
) -> None:
    if not samples:
        raise NotEnoughImagesError("there are no samples; give at least one image")
    wanting = [name for name, wanted in needs.items() if any(n.reference for n in wanted)]
    if wanting and reference is None:
        raise ConfigError(f"{wanting[0]} compares with a reference; give one with --against")
    if wanting and not isinstance(reference, ReferenceStatistics) and not reference:
        raise NotEnoughImagesError("the reference has no images; give at least one")


def _load_extractors(
    needs: dict[str, list[Need]], options: ScoreOptions, progress: ProgressFactory
) -> tuple[dict[str, Extractor], dict[str, MissingWeightsError]]:
    """Extractors by name, and the errors of those whose weights are missing."""
    layers: dict[str, list[str]] = {}
    for need in (n for wanted in needs.values() for n in wanted):
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
    extractors: dict[str, Extractor],
    options: ScoreOptions,
    store: FeatureStore,
    progress: ProgressFactory,
    *,
    of_reference: bool,
) -> FeatureSet:
    wanted = {need.extractor for need in needs if need.reference or not of_reference}
    return extract_set(
        items,
        [extractors[key] for key in sorted(wanted)],
        preparation=options.reference_preparation if of_reference else options.sample_preparation,
        store=store,
        batch_size=options.batch_size,
        workers=options.workers,
        skip_bad=options.skip_bad,
        what="the reference" if of_reference else "the samples",
        progress=progress,
    )


def _reference(
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    needs: Sequence[Need],
    extractors: dict[str, Extractor],
    options: ScoreOptions,
    store: FeatureStore,
    progress: ProgressFactory,
) -> Reference:
    if isinstance(reference, ReferenceStatistics):
        return Reference(statistics=reference)
    if not reference or not any(need.reference for need in needs):
        return Reference()
    found = _extract(reference, needs, extractors, options, store, progress, of_reference=True)
    return Reference([reference[i] for i in found.kept], found)


def _embed_captions(
    items: Sequence[ImageItem],
    needs: Sequence[Need],
    extractors: dict[str, Any],
    options: ScoreOptions,
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
