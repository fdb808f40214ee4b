"""Measure one image set under many protocols, decoding each image once per preparation.

Every column is computed by the code of `score`, on features that a pass before has stored: one pass
for each preparation of a set, for all networks that any column runs on it.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from evalkit.analyses.columns import Column
from evalkit.core.errors import ConfigError, MissingWeightsError, as_clause
from evalkit.core.progress import ProgressFactory, silent
from evalkit.core.results import ResultRecord
from evalkit.features.base import Extractor, identity_hash
from evalkit.features.pipeline import PassOptions, extract_set
from evalkit.features.preparing import (
    decoding_workers,
    reference_preparation,
    sample_preparation,
)
from evalkit.features.sources import ImageItem, Preparation, hash_of
from evalkit.features.store import FeatureStore
from evalkit.measurement import kept_samples, matched_items
from evalkit.metrics.score import Scorer, encoding_elsewhere, load_extractor, metric_needs
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.task import INCEPTION, Need
from evalkit.options import MeasureOptions


@dataclass(frozen=True, kw_only=True)
class MatrixResult:
    """The records of each column, by its name."""

    records: Mapping[str, Sequence[ResultRecord]]
    left_out: Mapping[str, str]
    """Columns without records, with the reason."""
    num_passes: int
    """Passes over images that decoded something."""


_Load = tuple[str, MeasureOptions, tuple[str, ...]]
"""Key of a network, the options of a column, and its layers."""


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One preparation of one set, and the networks that see it."""

    items: Sequence[ImageItem]
    preparation: Preparation
    extractors: dict[str, Extractor]
    loads: dict[str, _Load]
    """How another process loads each of them."""


def measure_matrix(
    samples: Sequence[ImageItem],
    reference: Sequence[ImageItem],
    columns: Sequence[Column],
    metrics: Sequence[str] | None = None,
    progress: ProgressFactory = silent,
    *,
    run: SourceRun | None = None,
) -> MatrixResult:
    """Measure a set under every column.

    Args:
        samples: The images to measure.
        reference: All reference images.
        columns: How to measure; equal computations are done once.
        metrics: Names of metrics; None: the Fréchet distance of each column's features.
        progress: Such as `evalkit.core.progress.progress_bar`.
        run: The run that the samples belong to, if any.

    Raises:
        ConfigError: Contradictory options.
        DataError: An image is unusable.
        NotEnoughImagesError: Fewer images than a metric needs.
    """
    if any(c.options.spread.engine == "ray" and c.options.store is None for c in columns):
        raise ConfigError(
            "A matrix on a cluster needs --store: a folder or URL that its nodes share."
        )
    sets = _Sets(_hashed(samples), _hashed(reference))
    networks = _Networks(progress)
    left_out: dict[str, str] = {}
    measured: dict[MeasureOptions, list[ResultRecord]] = {}
    found: dict[str, Sequence[ResultRecord]] = {}
    with tempfile.TemporaryDirectory(prefix="evalkit-matrix-") as folder:
        kept = [_in_store(column, Path(folder)) for column in columns]
        usable = []
        for column in kept:
            try:
                _needs(column.options, metrics, networks)
            except MissingWeightsError as error:
                left_out[column.name] = as_clause(error)
                continue
            usable.append(column)
        passes = _passes(sets, usable, metrics, networks)
        for one in passes:
            _run(one, usable[0].options, progress)
        for column in usable:
            key = column.computation()
            if key not in measured:
                chosen = _chosen(column.options, metrics)
                against = sets.against(column.options)
                scorer = Scorer.of(against, chosen, column.options, load=networks.load)
                items = sets.kept(column.options)
                measured[key] = scorer.records(scorer.prepare(items, run=run))
            marks = column.options.protocol_marks()
            found[column.name] = [
                record.with_context(subject=column.name, fingerprint=marks)
                for record in measured[key]
            ]
    return MatrixResult(records=found, left_out=left_out, num_passes=len(passes))


class _Sets:
    """Both sets, as a column uses them."""

    def __init__(self, samples: Sequence[ImageItem], reference: Sequence[ImageItem]) -> None:
        self._samples = samples
        self._reference = reference
        self._kept: dict[str, Sequence[ImageItem]] = {"none": samples}

    def kept(self, options: MeasureOptions) -> Sequence[ImageItem]:
        """Return the samples without the excluded ones, which are searched for once."""
        exclude = options.sample_exclude
        if exclude not in self._kept:
            self._kept[exclude] = kept_samples(self._samples, options)
        return self._kept[exclude]

    def against(self, options: MeasureOptions) -> Sequence[ImageItem]:
        """Return all reference images, or those that the samples' captions describe."""
        if options.reference_images == "all":
            return self._reference
        image_ids = [item.image_id for item in self._samples]
        return matched_items(self._reference, image_ids, "the samples")


class _Networks:
    """Networks loaded once; one Inception serves every resizing."""

    def __init__(self, progress: ProgressFactory) -> None:
        self._progress = progress
        self._loaded: dict[tuple[object, ...], Extractor] = {}

    def load(
        self, key: str, options: MeasureOptions, layers: Sequence[str], progress: ProgressFactory
    ) -> Extractor:
        """Load an extractor, or return the one that is loaded; as `load_extractor`."""
        del progress
        network = (key, tuple(layers), options.inception_weights, options.precision, options.device)
        if network not in self._loaded:
            self._loaded[network] = load_extractor(key, options, layers, self._progress)
        found = self._loaded[network]
        return found.with_resize(options.resize) if key == INCEPTION else found  # type: ignore[attr-defined]


def _in_store(column: Column, folder: Path) -> Column:
    """Return the column with a feature store; one of this matrix alone, unless one is named."""
    store = column.options.store or folder
    return Column(name=column.name, options=replace(column.options, store=store))


def _chosen(options: MeasureOptions, metrics: Sequence[str] | None) -> Sequence[str]:
    return metrics or ("fid" if options.features == INCEPTION else "fd",)


def _needs(
    options: MeasureOptions, metrics: Sequence[str] | None, networks: _Networks
) -> list[tuple[Need, Extractor]]:
    """Return the needs of a column, each with its network and all layers that it must return."""
    needs = [need for name in _chosen(options, metrics) for need in metric_needs(name, options)]
    layers: dict[str, list[str]] = {}
    for need in needs:
        wanted = layers.setdefault(need.extractor, [])
        if need.layer and need.layer not in wanted:
            wanted.append(need.layer)
    return [
        (need, networks.load(need.extractor, options, layers[need.extractor], silent))
        for need in needs
    ]


def _passes(
    sets: _Sets,
    columns: Sequence[Column],
    metrics: Sequence[str] | None,
    networks: _Networks,
) -> list[_Pass]:
    """Return one pass for each set and preparation, with every network that any column needs."""
    found: dict[tuple[str, str], _Pass] = {}

    def note(
        side: str, items: Sequence[ImageItem], prepared: Preparation, one: Extractor, load: _Load
    ) -> None:
        key = (side, str(prepared.identity()))
        known = found.get(key)
        if known is None or len(known.items) < len(items):
            extractors = {} if known is None else known.extractors
            loads = {} if known is None else known.loads
            found[key] = _Pass(
                items=items, preparation=prepared, extractors=extractors, loads=loads
            )
        name = identity_hash({**one.identity, "layers": list(one.layers)})
        found[key].extractors[name] = one
        found[key].loads[name] = load

    for column in columns:
        options = column.options
        for need, one in _needs(options, metrics, networks):
            load = (need.extractor, options, tuple(one.layers))
            note("samples", sets.kept(options), sample_preparation(options), one, load)
            if need.reference:
                against = sets.against(options)
                note("reference", against, reference_preparation(options), one, load)
    return list(found.values())


def _run(one: _Pass, options: MeasureOptions, progress: ProgressFactory) -> None:
    extractors = [_renamed(each, name) for name, each in one.extractors.items()]
    extract_set(
        one.items,
        extractors,
        preparation=one.preparation,
        store=FeatureStore(options.store),
        how=PassOptions(
            options.batch_size,
            decoding_workers(options),
            options.skip_bad,
            encoding_elsewhere(partial(_load_all, one.loads), options),
        ),
        what=f"{len(one.items):,} images",
        progress=progress,
    )


def _load_all(loads: Mapping[str, _Load], device: str) -> list[Extractor]:
    """Load the networks of a pass in another process."""
    networks = _Networks(silent)
    return [
        _renamed(networks.load(key, replace(options, device=device), layers, silent), name)
        for name, (key, options, layers) in loads.items()
    ]


def _renamed(extractor: Extractor, name: str) -> Extractor:
    """Return the network under another name, since a pass tells its networks apart by name."""
    renamed = copy.copy(extractor)
    renamed.name = name  # type: ignore[misc]
    return renamed


def _hashed(items: Sequence[ImageItem]) -> list[ImageItem]:
    """Return the items with their hashes, so that no pass reads a file only to hash it."""
    return [item if item.sha256 else replace(item, sha256=hash_of(item)) for item in items]
