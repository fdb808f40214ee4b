"""Score a set of samples: one pass over the images, then every metric on its features."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.catalog import METRICS
from evalkit.core.errors import ConfigError, MissingWeightsError, NotEnoughImagesError, as_clause
from evalkit.core.progress import ProgressFactory, heard_by, silent
from evalkit.core.results import ResultRecord
from evalkit.features.base import Extractor
from evalkit.features.hub_weights import check_hub_weights
from evalkit.features.pipeline import Elsewhere, FeatureSet, PassOptions, encode_texts, extract_set
from evalkit.features.preparing import (
    decoding_workers,
    reference_preparation,
    sample_preparation,
)
from evalkit.features.sources import ImageItem, Preparation, array_items
from evalkit.features.store import FeatureStore, StoredSet
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.frechet.products import products_on
from evalkit.metrics.frechet.workers import FEWEST_IMAGES, grouped_moments
from evalkit.metrics.loading import load_metric, metric_needs
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.statistics_files import ReferenceStatistics
from evalkit.metrics.task import (
    INCEPTION,
    Metric,
    Need,
    Reference,
    Task,
    declared_line,
    features_need,
)
from evalkit.options import MeasureOptions
from evalkit.workers.features import encode_in_workers
from evalkit.workers.opening import library_versions, pool_opener

NetworkLoading = Callable[[str], Sequence[Extractor]]
"""Loads the networks of a pass onto a device."""
Loader = Callable[[str, MeasureOptions, Sequence[str], ProgressFactory], Extractor]
"""Loads an extractor by its key, with these layers; see `load_extractor`."""

__all__ = [
    "ImageItem",
    "Loader",
    "MeasureOptions",
    "Preparation",
    "PreparedSet",
    "ReferenceStatistics",
    "Scorer",
    "load_extractor",
    "metric_needs",
    "score_sets",
    "summarise_set",
    "without",
]


def score_sets(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: MeasureOptions | None = None,
    progress: ProgressFactory = silent,
    *,
    run: SourceRun | None = None,
) -> list[ResultRecord]:
    """Score samples by several metrics, decoding each image once.

    Args:
        samples: The images to score, with captions if they have them.
        reference: Real images, or their statistics; None if no metric needs them.
        metrics: Names of `evalkit.catalog.METRICS`.
        options: How to measure.
        progress: Such as `evalkit.core.progress.progress_bar`.
        run: The run that the samples belong to, if any.

    Returns:
        The records of each metric, in the order of `metrics`. A metric with missing weights yields
        a record in state `failed`, unless no metric has its weights.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Contradictory options, or a missing reference.
        NotEnoughImagesError: Fewer images than a metric needs.
        DataError: An image or a statistics file is unusable.
        MissingWeightsError: No metric has weights that are cached or reachable.
    """
    scorer = Scorer.of(reference, metrics, options, progress, samples=samples, curves=True)
    return scorer.records(scorer.prepare(samples, run=run))


@dataclass(frozen=True)
class PreparedSet:
    """A set whose features are extracted: a task for each metric."""

    tasks: Mapping[str, Task]
    metrics: Mapping[str, Metric]
    """The metrics, by the same names."""
    n: int
    """Number of usable samples."""


def without(prepared: PreparedSet, metrics: Collection[str]) -> PreparedSet:
    """Return a set without the tasks of some metrics."""
    kept = {name: task for name, task in prepared.tasks.items() if name not in metrics}
    return replace(prepared, tasks=kept)


@dataclass(frozen=True)
class _Networks:
    """The loaded extractors, and how they process a set."""

    extractors: Mapping[str, Extractor]
    options: MeasureOptions
    store: FeatureStore
    progress: ProgressFactory

    def features(
        self, items: Sequence[ImageItem], needs: Iterable[Need], preparation: Preparation, what: str
    ) -> FeatureSet:
        """Compute the features of a set by the extractors of the needs."""
        options = self.options
        keys = sorted({need.extractor for need in needs})
        found = extract_set(
            items,
            [self.extractors[key] for key in keys],
            preparation=preparation,
            store=self.store,
            how=PassOptions(
                options.batch_size,
                decoding_workers(options),
                options.skip_bad,
                encoding_elsewhere(self._loading(keys), options),
            ),
            what=what,
            progress=self.progress,
        )
        share_moments(found.features.values(), options)
        return found

    def _loading(self, keys: Sequence[str]) -> NetworkLoading:
        """Return what loads the same networks in another process."""
        layers = {key: tuple(self.extractors[key].layers) for key in keys}
        return partial(load_networks, layers, self.options)

    def reference(
        self,
        reference: Sequence[ImageItem] | ReferenceStatistics | None,
        needs: Sequence[Need],
    ) -> Reference:
        """Compute the reference's features, as far as any need asks for them."""
        if isinstance(reference, ReferenceStatistics):
            return Reference(statistics=reference)
        wanted = [need for need in needs if need.reference]
        if not reference or not wanted:
            return Reference()
        preparation = reference_preparation(self.options)
        found = self.features(reference, wanted, preparation, "the reference")
        return Reference([reference[i] for i in found.kept], found)

    def captions(self, items: Sequence[ImageItem], needs: Sequence[Need]) -> dict[Need, StoredSet]:
        """Embed all captions by need; return none without captions."""
        captions = [caption for item in items for caption in item.captions]
        if not captions:
            return {}
        return {
            need: encode_texts(
                [f"{need.prefix}{caption}" for caption in captions],
                self.extractors[need.extractor],
                store=self.store,
                batch_size=self.options.batch_size,
                progress=self.progress,
            )
            for need in dict.fromkeys(needs)
            if need.prefix is not None
        }


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Networks and reference, loaded once to score any number of sets."""

    metrics: Mapping[str, Metric]
    needs: Mapping[str, Sequence[Need]]
    networks: _Networks
    lacking: Mapping[str, MissingWeightsError]
    """The errors of extractors without weights."""
    reference: Reference
    images: Reference | None = None
    """The images of a statistics file, for metrics that moments are not enough for."""
    curves: bool = False
    """Whether distances are measured at parts of the samples too; it takes as long again."""

    @classmethod
    def of(
        cls,
        reference: Sequence[ImageItem] | ReferenceStatistics | None,
        metrics: Sequence[str],
        options: MeasureOptions | None = None,
        progress: ProgressFactory = silent,
        *,
        samples: Sequence[ImageItem] | None = None,
        load: Loader | None = None,
        curves: bool = False,
    ) -> Scorer:
        """Load what the metrics need; raises what `score_sets` raises.

        Args:
            reference: Real images, or their statistics.
            metrics: Names of `evalkit.catalog.METRICS`.
            options: How to measure.
            progress: Such as `evalkit.core.progress.progress_bar`.
            samples: If known already, they are checked before anything is loaded.
            load: Loads an extractor; `load_extractor` by default.
            curves: Whether distances are measured at parts of the samples too.
        """
        options = options or MeasureOptions()
        found = {name: load_metric(name) for name in dict.fromkeys(metrics)}
        needs = {name: metric_needs(name, options) for name in found}
        if samples is not None:
            _check_samples(samples)
        _check_reference(reference, list(found))
        extractors, lacking = _load_extractors(needs, options, progress, load or load_extractor)
        networks = _Networks(extractors, options, FeatureStore(options.store), progress)
        against = networks.reference(reference, _known(needs, extractors))
        images = None
        if isinstance(reference, ReferenceStatistics) and reference.has_images:
            of_images = {name: needs[name] for name in found if not found[name].takes_moments}
            wanted = [need for need in _known(of_images, extractors) if need.reference]
            if wanted:  # gigabytes, which a distance alone has no use for
                images = networks.reference(array_items(Path(reference.source)), wanted)
        return cls(
            metrics=found,
            needs=needs,
            networks=networks,
            lacking=lacking,
            reference=against,
            images=images,
            curves=curves,
        )

    def prepare(
        self,
        samples: Sequence[ImageItem],
        name: str = "the samples",
        *,
        run: SourceRun | None = None,
    ) -> PreparedSet:
        """Extract the features of a set of samples, in one pass over the images.

        Args:
            samples: The images.
            name: Name of the set in progress and errors.
            run: The run that they belong to, if any.

        Raises:
            NotEnoughImagesError: There are no images.
            DataError: An image is unusable.
        """
        _check_samples(samples)
        networks = self.networks
        known = _known(self.needs, networks.extractors)
        found = networks.features(samples, known, sample_preparation(networks.options), name)
        kept = [samples[i] for i in found.kept]
        captions = networks.captions(kept, known)
        tasks = {
            metric: Task(
                name=metric,
                row=METRICS[metric],
                options=networks.options,
                needs=wanted,
                extractors=networks.extractors,
                items=kept,
                samples=found,
                reference=self._reference_of(metric),
                captions=captions,
                run=run,
                curves=self.curves,
            )
            for metric, wanted in self.needs.items()
            if self.why_missing(metric) is None
        }
        return PreparedSet(tasks, self.metrics, len(kept))

    def records(self, prepared: PreparedSet) -> list[ResultRecord]:
        """Compute the records of each metric, in the requested order.

        Raises:
            ConfigError: A metric yields a record that its row doesn't declare.
        """
        found: list[ResultRecord] = []
        for name, metric in self.metrics.items():
            missing = self.why_missing(name)
            if missing is not None:
                found.append(_failed(name, prepared.n, as_clause(missing)))
            else:
                found += _measure(metric, prepared.tasks[name], self.networks.progress)
        return found

    def _reference_of(self, metric: str) -> Reference:
        if self.images is None or self.metrics[metric].takes_moments:
            return self.reference
        return self.images

    def why_missing(self, metric: str) -> MissingWeightsError | None:
        """Return the missing weights that prevent a metric; None if it can be computed."""
        missing = (self.lacking.get(need.extractor) for need in self.needs[metric])
        return next(filter(None, missing), None)


def _known(needs: Mapping[str, Sequence[Need]], extractors: Mapping[str, Extractor]) -> list[Need]:
    """Return the needs whose extractors were loaded."""
    return [need for need in _flat(needs) if need.extractor in extractors]


def _flat(needs: Mapping[str, Sequence[Need]]) -> list[Need]:
    return [need for wanted in needs.values() for need in wanted]


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """The content of a statistics file; `write_statistics` writes it."""

    moments: Moments
    identity: Mapping[str, Any]
    """The extractor, its layer and the preparation."""
    spatial: Moments | None
    """Moments of sFID's features, if requested."""
    skipped: Mapping[str, str]
    """Skipped images, with the reasons."""


def summarise_set(
    items: Sequence[ImageItem],
    options: MeasureOptions | None = None,
    progress: ProgressFactory = silent,
    *,
    spatial: bool = False,
) -> SetSummary:
    """Compute mean and covariance of a set, prepared as a reference.

    Args:
        items: The images.
        options: How to measure.
        progress: Such as `evalkit.core.progress.progress_bar`.
        spatial: Whether to add the moments of sFID's features.

    Raises:
        ConfigError: Spatial features of another network than Inception.
        DataError: An image is unusable.
        NotEnoughImagesError: Fewer than two images.
    """
    options = options or MeasureOptions()
    need = features_need(options, reference=False)
    if spatial and need.extractor != INCEPTION:
        raise ConfigError(f"Features {options.features!r} have no spatial layer. Drop --spatial.")
    layers = [name for name in (need.layer, "spatial" if spatial else "") if name]
    extractor = load_extractor(need.extractor, options, layers, progress)
    if len(items) < 2:
        raise NotEnoughImagesError(f"A covariance needs at least 2 images, got {len(items)}.")
    store = FeatureStore(options.store)
    networks = _Networks({need.extractor: extractor}, options, store, progress)
    found = networks.features(items, [need], reference_preparation(options), "the set")
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


def load_networks(
    layers: Mapping[str, Sequence[str]], options: MeasureOptions, device: str
) -> list[Extractor]:
    """Load the networks of a pass onto a device; a worker's `Loading`."""
    chosen = replace(options, device=device)
    return [load_extractor(key, chosen, names) for key, names in layers.items()]


def encoding_elsewhere(load: NetworkLoading, options: MeasureOptions) -> Elsewhere | None:
    """Return what encodes images in other processes; None where this one does.

    Args:
        load: Loads a pass's networks onto a device.
        options: The measuring options.
    """
    spread = options.spread
    if not spread.is_spread:
        return None
    return partial(
        encode_in_workers,
        load=load,
        open_pool=lambda work, most: pool_opener(work, spread)(most),
        num_workers=len(spread.devices) or spread.workers or 1,
        versions=library_versions(),
        worker_timeout_s=spread.worker_timeout,
        batch_timeout_s=spread.batch_timeout,
    )


def share_moments(sets: Iterable[StoredSet], options: MeasureOptions) -> None:
    """Let other processes compute the moments of large sets, by jackknife group."""
    spread = options.spread
    for one in sets:
        if spread.is_spread and len(one) >= FEWEST_IMAGES:
            one.grouped = partial(
                grouped_moments,
                open_pool=lambda work, most: pool_opener(work, spread)(most),
                worker_timeout_s=spread.worker_timeout,
            )


def load_extractor(
    key: str,
    options: MeasureOptions,
    layers: Sequence[str] = (),
    progress: ProgressFactory = silent,
) -> Extractor:
    """Load an extractor by the name that a need gives it.

    Raises:
        UnknownNameError: No such extractor.
        MissingWeightsError: Its weights are neither cached nor reachable.
    """
    if key == INCEPTION:
        from evalkit.features.inception import InceptionExtractor  # imports torch

        return InceptionExtractor(
            tuple(layers) or (options.inception_layer,),
            weights=options.inception_weights,
            resize=options.resize,
            device=options.device,
            precision=options.precision,
            compiled=options.compile,
            progress=progress,
        )
    if key in ("pixels", "lpips"):
        from evalkit.features.paired_images import LpipsPairs, PixelPairs

        if key == "pixels":
            return PixelPairs()
        return LpipsPairs(options.lpips_weights, device=options.device, progress=progress)
    check_hub_weights(key)
    if key == "dinov2":
        from evalkit.features.dinov2 import load_dinov2

        return load_dinov2(device=options.device, precision=options.precision)
    from evalkit.features.clip import load_clip

    name = key.removeprefix("clip:")
    return load_clip(name, device=options.device, precision=options.precision)


def _measure(metric: Metric, task: Task, progress: ProgressFactory) -> list[ResultRecord]:
    computing = progress(f"computing {task.name}")
    with computing as report, heard_by(report), products_on(task.options.device):
        records = metric.measure(task)
        report(1, 1)
    for record in records:
        declared_line(task.name, task.row, record.metric)
    return records


def _check_samples(samples: Sequence[ImageItem]) -> None:
    if not samples:
        raise NotEnoughImagesError("There are no samples; give at least one image.")


def _check_reference(
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
) -> None:
    wanting = [name for name in metrics if METRICS[name].needs_reference]
    if wanting and reference is None:
        raise ConfigError(f"{wanting[0]} needs a reference; give one with --against.")
    if wanting and not isinstance(reference, ReferenceStatistics) and not reference:
        raise NotEnoughImagesError("The reference has no images; give at least one.")


def _load_extractors(
    needs: Mapping[str, Sequence[Need]],
    options: MeasureOptions,
    progress: ProgressFactory,
    load: Loader,
) -> tuple[dict[str, Extractor], dict[str, MissingWeightsError]]:
    """Load the extractors by name; collect the errors of those whose weights are missing."""
    layers: dict[str, list[str]] = {}
    for need in _flat(needs):
        wanted_layers = layers.setdefault(need.extractor, [])
        if need.layer and need.layer not in wanted_layers:
            wanted_layers.append(need.layer)
    found: dict[str, Extractor] = {}
    missing: dict[str, MissingWeightsError] = {}
    for key, names in layers.items():
        try:
            found[key] = load(key, options, names, progress)
        except MissingWeightsError as error:
            missing[key] = error
    if missing and not found:
        raise next(iter(missing.values()))
    return found, missing


def _failed(metric: str, n: int, reason: str) -> ResultRecord:
    direction = METRICS[metric].direction
    return ResultRecord(
        metric=metric, value=None, n=n, direction=direction, state="failed", reason=reason
    )
