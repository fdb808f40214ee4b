"""The interface of metrics: what a metric needs, gets and returns.

A metric is two functions and, if it pairs, a third: `needs` returns the features that it needs,
`measure` turns them into records, `difference` compares two models. Between the first and the
others, one pass over the images computes the features of all metrics. The metric's row in
`evalkit.catalog` has each record's name, direction and unit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from jaxtyping import Int64

from evalkit.catalog import MetricRow, RecordRow
from evalkit.core.errors import ConfigError
from evalkit.core.results import Interval, ResultRecord
from evalkit.features.base import CountsCutCaptions, Extractor, identity_hash
from evalkit.features.pipeline import FeatureSet
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import ImageItem
from evalkit.features.store import StoredSet
from evalkit.metrics.draws import Copies, Ties, joined_draws, ties_of_items
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.statistics_files import ReferenceStatistics, refuse_other_extractor
from evalkit.options import MeasureOptions

Found = TypeVar("Found")
INCEPTION = "inception"
_VERSIONS = ("evalkit", "numpy", "pillow", "scipy", "torch")


@dataclass(frozen=True)
class Need:
    """Features that a metric needs."""

    extractor: str
    """`inception`, `dinov2`, `shapes-clip`, `clip:NAME`, or `pixels` and `lpips` for pairs."""
    layer: str
    """One of the extractor's layers; empty for its main one."""
    reference: bool = True
    """Whether it needs the reference's features too."""
    prefix: str | None = None
    """Prefix of each caption, if it needs caption embeddings; else None."""


@dataclass(frozen=True)
class Metric:
    """A metric: the target of a row in the catalog of metrics."""

    needs: Callable[[MeasureOptions], Sequence[Need]]
    measure: Callable[[Task], list[ResultRecord]]
    difference: Callable[[Task, Task], list[ResultRecord]] | None = None
    """The first set minus the second, as records `NAME-difference` with the `p_value` in their
    details; none if the sets can't be paired. See `evalkit.metrics.pairing`."""
    part: Callable[[Task, Sequence[int]], ResultRecord] | None = None
    """The record of some of the images, by their indices, for a metric that is a mean over images:
    its scores by category."""
    takes_moments: bool = False
    """Whether mean and covariance of the reference are enough, where a file has both these and
    images: ADM's files have the statistics of all images, and 10,000 of them."""


@dataclass(frozen=True)
class Reference:
    """The reference's images, or their statistics from a file."""

    items: Sequence[ImageItem] = ()
    features: FeatureSet | None = None
    statistics: ReferenceStatistics | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything that a metric may use."""

    name: str
    row: MetricRow
    options: MeasureOptions
    needs: Sequence[Need]
    extractors: Mapping[str, Extractor]
    items: Sequence[ImageItem]
    """The usable samples."""
    samples: FeatureSet
    reference: Reference
    captions: Mapping[Need, StoredSet]
    """Embeddings of all captions by need, in the order of `captioned`; empty without captions."""
    run: SourceRun | None = None
    """The run that the samples belong to, if any."""
    curves: bool = False
    """Whether a distance is measured at parts of the samples too, for the curve of a report."""
    _kept: dict[Callable[[Task], Any], Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, find: Callable[[Task], Found]) -> Found:
        """Return a function's result for this task, computed at the first call only."""
        if find not in self._kept:
            self._kept[find] = find(self)
        return cast(Found, self._kept[find])

    def fake(self, need: Need) -> StoredSet:
        """Return the features of the samples."""
        return self.samples.of(self.extractors[need.extractor], need.layer or None)

    @cached_property
    def captioned(self) -> Int64[np.ndarray, " captions"]:
        """Index of the sample that each caption belongs to; a sample may have any number."""
        return np.repeat(np.arange(len(self.items)), [len(item.captions) for item in self.items])

    def captions_of(self, places: Sequence[int]) -> Int64[np.ndarray, " some_captions"]:
        """Return the rows of `captioned` that belong to some samples, by the samples' indices."""
        return np.flatnonzero(np.isin(self.captioned, list(places)))

    def fake_of_captions(self, need: Need) -> StoredSet:
        """Return the features of the samples, once for each of their captions."""
        return self.fake(need).subset(self.captioned)

    @cached_property
    def caption_texts(self) -> list[str]:
        """All captions, in the order of `captioned`."""
        return [caption for item in self.items for caption in item.captions]

    def of_captions(self, need: Need, record: ResultRecord, places: Sequence[int]) -> ResultRecord:
        """Count in a record what its captions cover: samples, captions, and those that were cut.

        Args:
            need: The embeddings of the captions.
            record: The record.
            places: Indices of the samples that it is about.
        """
        rows = self.captions_of(places)
        n = len(np.unique(self.captioned[rows]))
        extractor = self.extractors[need.extractor]
        counts = {
            "num_captions": len(rows) if len(rows) != n else 0,
            "num_without_caption": len(places) - n,
            "num_cut_captions": extractor.num_cut(
                [f"{need.prefix or ''}{self.caption_texts[row]}" for row in rows]
            )
            if isinstance(extractor, CountsCutCaptions)
            else 0,
        }
        details = {**record.details, **{name: count for name, count in counts.items() if count}}
        without = counts["num_without_caption"]
        said = f"{without:,} of {len(places):,} images have no caption and are left out"
        reason = "; ".join(filter(None, [record.reason, said if without else ""]))
        return replace(record, n=n, reason=reason, details=details)

    def real(self, need: Need) -> StoredSet | np.ndarray | None:
        """Return the features of the reference images; None if only statistics are known."""
        if self.reference.features is not None:
            return self.reference.features.of(self.extractors[need.extractor], need.layer or None)
        statistics = self._statistics(need)
        return None if statistics is None else statistics.features.get(self.layer(need))

    def real_moments(self, need: Need) -> Moments | None:
        """Return the reference's moments from a file, or None if it lacks this layer."""
        statistics = self._statistics(need)
        return None if statistics is None else statistics.moments.get(self.layer(need))

    def layer(self, need: Need) -> str:
        """Return the name of the layer; the main one if the need names none."""
        return need.layer or next(iter(self.extractors[need.extractor].layers))

    @cached_property
    def draws(self) -> tuple[list[str], list[str]] | None:
        """The draw of each sample and of each reference image; None if each is its own.

        Images are one draw if they share a caption, a reference image or the hash of their file.
        """
        names = joined_draws(self.sample_ties, self.reference_ties)
        copied = self.copies.found() or any(map(_has_id, (*self.items, *self.reference.items)))
        return (names[0], names[1]) if copied else None

    @property
    def fake_ids(self) -> list[str] | None:
        """Ids that group the samples into draws; None if each image is its own."""
        return None if self.draws is None else self.draws[0]

    @property
    def real_ids(self) -> list[str] | None:
        """The same ids of the reference images; None if each image is its own, or none is known."""
        return None if self.draws is None or not self.reference.items else self.draws[1]

    @cached_property
    def caption_draws(self) -> list[str]:
        """The draw of each caption, in the order of `captioned`.

        There, the captions are drawn: a model that answers two captions by one image has answered
        twice. Captions of one reference image, and all captions of a sample, are one draw.
        """
        draws = joined_draws(ties_of_items(self.items))[0]
        return [draws[i] for i in self.captioned]

    @cached_property
    def sample_ties(self) -> list[Ties]:
        """What ties each sample to other images."""
        return ties_of_items(self.items, self.samples.sha256s)

    @cached_property
    def reference_ties(self) -> list[Ties]:
        """What ties each reference image to other images; empty if no image is known."""
        return ties_of_items(self.reference.items, self.reference_sha256s)

    @property
    def reference_sha256s(self) -> tuple[str, ...]:
        """Hashes of the reference images; empty if only their statistics are known."""
        found = self.reference.features
        return () if found is None else found.sha256s

    @cached_property
    def copies(self) -> Copies:
        """How many images are copies of others."""
        return Copies.of(self.samples.sha256s, self.reference_sha256s)

    @property
    def is_of_itself(self) -> bool:
        """Whether the samples are the reference: the same files, as often, prepared alike.

        Every distance between them is 0, with certainty.
        """
        return (
            sorted(self.samples.sha256s) == sorted(self.reference_sha256s)
            and sample_preparation(self.options).identity()
            == reference_preparation(self.options).identity()
        )

    @property
    def nothing_but_copies(self) -> str:
        """Say which set has many images, but all of one file; empty if none does."""
        sets = {"samples": self.samples.sha256s, "reference images": self.reference_sha256s}
        for what, hashes in sets.items():
            if len(hashes) > 1 and len(set(hashes)) == 1:
                return f"the {len(hashes):,} {what} are copies of one image, which is one draw"
        return ""

    @property
    def n_reference(self) -> int | None:
        """Number of reference images, or None if unknown."""
        return len(self.reference.items) or None

    def record(
        self,
        need: Need | None,
        *,
        value: float | None,
        metric: str | None = None,
        interval: Interval | None = None,
        standard_error: float | None = None,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        marks: Mapping[str, Any] | None = None,
    ) -> ResultRecord:
        """Build a record with this task's fingerprint, and direction and unit of its row.

        Args:
            need: The features behind the number; None if there are none.
            value: The number; None if the metric does not apply.
            metric: Name of the record, one that the metric's row declares; by default the metric's
                own.
            interval: Interval of the value.
            standard_error: Standard error of the value, in its unit.
            reason: Why there is no value, or no interval.
            details: Further figures.
            marks: Further fingerprint entries.

        Raises:
            ConfigError: The metric's row declares no such record.
        """
        return declared_record(self.name, self.row, metric or self.name)(
            value=value,
            n=len(self.items),
            interval=interval,
            standard_error=standard_error,
            state="ok" if value is not None else "not_applicable",
            reason=reason,
            fingerprint={**self.fingerprint(need), **(marks or {})},
            details={
                "label": self.label(need),
                **(details or {}),
                **self.left_out(),
                **self.counted_copies(need),
            },
        )

    def not_applicable(
        self, need: Need | None, reason: str, metric: str | None = None
    ) -> ResultRecord:
        """Build a record without a value that says why."""
        return self.record(need, value=None, metric=metric, reason=reason)

    def left_out(self) -> dict[str, Any]:
        """Return details on skipped images; empty if none was skipped."""
        skipped = {**self.samples.skipped}
        if self.reference.features is not None:
            skipped |= self.reference.features.skipped
        return {"num_skipped": len(skipped), "skipped": skipped} if skipped else {}

    def counted_copies(self, need: Need | None) -> dict[str, Any]:
        """Return the counts of copies as an entry; empty if there is none that concerns a need."""
        counts = self.copies.found()
        if need is None or not need.reference:
            counts = Copies.of(self.samples.sha256s).found()
        return {"copies": counts} if counts else {}

    def label(self, need: Need | None) -> str:
        """Return the label of a number on these features; the metric's name without a need."""
        return self.name if need is None else self.extractors[need.extractor].metric_label

    def fingerprint(self, need: Need | None) -> dict[str, Any]:
        """Return everything that could change the number, as far as this stage knows it."""
        marks: dict[str, Any] = {} if need is None else self._extractor_marks(need)
        marks |= {
            "samples_sha256": _hash_of_set(self.samples.sha256s),
            "sample_preparation": sample_preparation(self.options).identity(),
            "skipped_samples": len(self.samples.skipped),
            **self.counted_copies(need),
        }
        if need is not None and need.reference:
            marks |= self._reference_marks()
        if self.caption_texts:
            # A metric of captions measures them; to others they only say what was sampled.
            key = "captions_sha256" if self._uses_captions(need) else "sample_captions_sha256"
            texts = [caption for item in self.items for caption in item.captions or ("",)]
            marks[key] = _hash_of_set(texts)
        if need is not None and need.prefix is not None:
            named = self.extractors[need.extractor].name
            marks |= {"clip_model": named, "prefix": need.prefix}
        marks |= self.options.protocol_marks()
        marks["versions"] = library_versions()
        return marks

    def _uses_captions(self, need: Need | None) -> bool:
        return need is not None and need.prefix is not None

    def _extractor_marks(self, need: Need) -> dict[str, Any]:
        return extractor_marks(self.extractors[need.extractor], self.layer(need))

    def _reference_marks(self) -> dict[str, Any]:
        statistics = self.reference.statistics
        if statistics is not None:
            return statistics_marks(statistics)
        assert self.reference.features is not None
        return {
            **reference_preparation(self.options).identity(),
            "reference_sha256": _hash_of_set(self.reference.features.sha256s),
            "num_reference": len(self.reference.items),
            "skipped_reference": len(self.reference.features.skipped),
        }

    def _statistics(self, need: Need) -> ReferenceStatistics | None:
        statistics = self.reference.statistics
        if statistics is not None:
            identity = self.extractors[need.extractor].identity
            refuse_other_extractor(statistics, identity, self.layer(need))
        return statistics


def extractor_marks(extractor: Extractor, layer: str) -> dict[str, Any]:
    """Return the fingerprint entries on the features of one layer."""
    named = {"name": extractor.name, "layer": layer, **extractor.identity}
    return {"extractor": named, "extractor_hash": identity_hash(extractor.identity)}


def statistics_marks(statistics: ReferenceStatistics) -> dict[str, Any]:
    """Return the fingerprint entries on a reference of which only statistics are known."""
    marks: dict[str, Any] = {"reference_statistics": Path(statistics.source).name}
    if statistics.identity is None:
        marks["reference_note"] = "made by an unnamed extractor and preparation"
    else:
        marks |= statistics.identity.get("preparation", {})
    return {**marks, "reference_sha256": statistics.sha256}


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that can change a number."""
    return {name: version(name) for name in _VERSIONS}


def declared_record(metric: str, row: MetricRow, record: str) -> partial[ResultRecord]:
    """Return a `ResultRecord` factory for a declared name, with its row's direction and unit.

    Raises:
        ConfigError: The metric's row declares no such record.
    """
    line = declared_line(metric, row, record)
    return partial(ResultRecord, metric=record, direction=line.direction, unit=line.unit)


def declared_line(metric: str, row: MetricRow, record: str) -> RecordRow:
    """Return the row that declares a record.

    Raises:
        ConfigError: The metric's row declares no such record.
    """
    line = row.line(record)
    if line is None:
        declared = ", ".join(line.name for line in row.records)
        raise ConfigError(
            f"The metric {metric} yields a record {record!r} that its row does not declare; "
            f"it declares {declared}. Add a RecordRow of that name to the MetricRow."
        )
    return line


def features_need(options: MeasureOptions, *, layer: str = "", reference: bool = True) -> Need:
    """Return the need for the features that the options name."""
    if options.features == INCEPTION:
        return Need(INCEPTION, layer or options.inception_layer, reference)
    return Need(extractor_key(options.features), "", reference)


def extractor_key(name: str) -> str:
    """Return the key of an extractor: open_clip's names get the prefix `clip:`."""
    if name in (INCEPTION, "dinov2", "shapes-clip") or name.startswith("clip:"):
        return name
    return f"clip:{name}"


def require_inception(options: MeasureOptions, metric: str) -> None:
    """Check that the options name Inception features.

    Raises:
        ConfigError: The options name other features.
    """
    if options.features != INCEPTION:
        raise ConfigError(
            f"{metric} needs Inception features, not {options.features!r}. "
            "Drop --features, or use fd."
        )


def _has_id(item: ImageItem) -> bool:
    return item.image_id is not None or item.caption_id is not None


def _hash_of_set(names: Sequence[str]) -> str:
    """Hash a set of names, independent of their order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
