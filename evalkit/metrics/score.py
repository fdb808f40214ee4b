"""All metrics of two sets in one pass over their images.

`SCORERS` is the literal table: a metric's name to the function that makes its records from a
`Pass`, which computes features once for all metrics that ask for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from evalkit.errors import ConfigError, MissingWeightsError
from evalkit.features.base import Extractor, ProgressFactory, identity_hash, silent
from evalkit.features.clip import load_clip
from evalkit.features.inception import InceptionExtractor
from evalkit.features.pipeline import FeatureSet, encode_texts, extract_set
from evalkit.features.sources import ImageItem, Preparation
from evalkit.features.store import FeatureStore
from evalkit.metrics.clip_score import PREFIX, Variant, clip_score
from evalkit.metrics.intervals import frechet_interval
from evalkit.metrics.moments import Moments
from evalkit.registry import unknown
from evalkit.results import Interval, ResultRecord


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """How two sets are measured."""

    features: str = "inception"
    """`inception`, `shapes-clip` or an open_clip name: what the Fréchet distance is taken on."""
    inception_weights: Path | None = None
    resize: str = "tf1"
    batch_size: int = 32
    workers: int | None = None
    device: str = "cpu"
    precision: str = "float32"
    clip_model: str = "ViT-B/32"
    clip_variant: Variant = "torchmetrics"
    seed: int = 0
    """Seed of whatever is drawn: halvings, subsets, bootstraps."""
    level: float = 0.95
    store: Path | None = None
    """Folder of the feature store; the cache's unless given."""
    sample_preparation: Preparation = field(default_factory=Preparation)
    reference_preparation: Preparation = field(default_factory=Preparation)
    skip_bad: bool = False


Reference = Sequence[ImageItem] | Moments
"""Images, or mean and covariance of somebody's features."""


def score_sets(
    samples: Sequence[ImageItem],
    reference: Reference | None,
    metrics: Sequence[str],
    options: ScoreOptions,
    progress: ProgressFactory = silent,
) -> list[ResultRecord]:
    """Measure samples against a reference.

    Args:
        samples: The images to judge, with captions where a metric needs them.
        reference: What they are compared with; None where no metric needs it.
        metrics: Names, in the order in which the records are wanted.
        options: See `ScoreOptions`.
        progress: Such as `evalkit.progress.progress_bar`.

    Returns:
        Records with interval or reason, and the part of the fingerprint that this pass decides. A
        metric whose weights can't be had is a record in state `failed`, unless it is the only one.

    Raises:
        UnknownNameError: No such metric.
        MissingWeightsError: The only metric asked for has no weights.
        NotEnoughImagesError: Fewer images than the metric needs.
        DataError: An image or its features can't be used.
    """
    for name in metrics:
        if name not in SCORERS:
            raise unknown(name, SCORERS, kind="metrics")
    one_pass = Pass(samples, reference, options, progress)
    records: list[ResultRecord] = []
    for name in metrics:
        try:
            records += SCORERS[name](one_pass)
        except MissingWeightsError as error:
            if len(metrics) == 1:
                raise
            records.append(_failed(name, len(samples), str(error)))
    return records


@dataclass
class Pass:
    """Both sets and what has been computed of them."""

    samples: Sequence[ImageItem]
    reference: Reference | None
    options: ScoreOptions
    progress: ProgressFactory

    @cached_property
    def store(self) -> FeatureStore:
        """Where features are kept."""
        return FeatureStore(self.options.store)

    @cached_property
    def main(self) -> Extractor:
        """The extractor of the Fréchet distance."""
        options = self.options
        if options.features == "inception":
            return InceptionExtractor(
                weights=options.inception_weights,
                resize=options.resize,
                device=options.device,
                precision=options.precision,
                progress=self.progress,
            )
        return load_clip(options.features, device=options.device, precision=options.precision)

    @cached_property
    def clip(self) -> Any:
        """The extractor of the CLIP score."""
        if self.options.clip_model == self.options.features:
            return self.main
        return load_clip(self.options.clip_model, device=self.options.device)

    def sample_features(self, extractor: Extractor) -> FeatureSet:
        """Features of the samples."""
        return self._extract(self.samples, extractor, self.options.sample_preparation, "samples")

    def reference_features(self, extractor: Extractor) -> FeatureSet | Moments:
        """Features of the reference, or its moments where nothing else is known.

        Raises:
            ConfigError: There is no reference.
        """
        if self.reference is None:
            raise ConfigError("this metric compares with a reference; give one with --against")
        if isinstance(self.reference, Moments):
            return self.reference
        preparation = self.options.reference_preparation
        return self._extract(self.reference, extractor, preparation, "reference")

    def fingerprint(self, extractor: Extractor, samples: FeatureSet) -> dict[str, Any]:
        """What decides a number besides the model: extractor, preparation, images, versions."""
        return {
            "extractor": {"name": extractor.name, **extractor.identity},
            "extractor_hash": identity_hash(extractor.identity),
            "samples_sha256": _joint_hash(samples.sha256s),
            "sample_preparation": self.options.sample_preparation.identity(),
            "skipped_samples": len(samples.skipped),
            "versions": {name: version(name) for name in ("evalkit", "torch", "numpy", "pillow")},
        }

    def _extract(
        self,
        items: Sequence[ImageItem],
        extractor: Extractor,
        preparation: Preparation,
        what: str,
    ) -> FeatureSet:
        return extract_set(
            items,
            [extractor],
            preparation=preparation,
            store=self.store,
            batch_size=self.options.batch_size,
            workers=self.options.workers,
            skip_bad=self.options.skip_bad,
            what=what,
            progress=self.progress,
        )


def _frechet(one_pass: Pass) -> list[ResultRecord]:
    """Two records: the plug-in value, and fd_infinity with its interval."""
    extractor, options = one_pass.main, one_pass.options
    samples = one_pass.sample_features(extractor)
    reference = one_pass.reference_features(extractor)
    is_moments = isinstance(reference, Moments)
    found = frechet_interval(
        samples.of(extractor)[:],
        reference if is_moments else reference.of(extractor)[:],
        fake_ids=_ids(one_pass.samples, samples, "sample"),
        real_ids=None if is_moments else _ids(one_pass.reference, reference, "reference"),
        level=options.level,
        seed=options.seed,
    )
    fingerprint = one_pass.fingerprint(extractor, samples) | {
        "num_reference": found.n_reference,
        "matched_ids": found.num_matched,
        "halving_seed": options.seed,
        **(
            {"reference_statistics": "mean and covariance only"}
            if is_moments
            else {
                "reference_sha256": _joint_hash(reference.sha256s),
                **options.reference_preparation.identity(),
            }
        ),
    }
    name = "fid" if extractor.metric_label == "FID" else "fd"
    plug_in = ResultRecord(
        metric=name,
        value=found.value,
        n=found.n,
        direction="lower",
        standard_error=found.standard_error,
        reason=found.reason
        or f"the plug-in value is biased upward; its interval is that of {name}-infinity",
        fingerprint=fingerprint,
        details={"label": extractor.metric_label, "dimensions": found.dim},
    )
    return [plug_in, _infinity(found, name, extractor.metric_label, fingerprint)]


def _infinity(found: Any, name: str, label: str, fingerprint: Mapping[str, Any]) -> ResultRecord:
    common: dict[str, Any] = {
        "metric": f"{name}-infinity",
        "n": found.n,
        "direction": "lower",
        "reason": found.reason,
        "fingerprint": fingerprint,
        "details": {"label": f"{label}∞"},
    }
    if found.corrected is None:
        return ResultRecord(value=None, state="not_applicable", **common)
    return ResultRecord(
        value=found.corrected,
        standard_error=found.standard_error,
        interval=Interval(low=found.low, high=found.high, level=found.level, method=found.method),
        **common,
    )


def _clip_score(one_pass: Pass) -> list[ResultRecord]:
    captions = [item.caption for item in one_pass.samples]
    if all(caption is None for caption in captions):
        reason = "not applicable: unconditional (the images have no captions)"
        return [
            ResultRecord(
                metric="clip-score",
                value=None,
                n=len(captions),
                direction="higher",
                state="not_applicable",
                reason=reason,
            )
        ]
    if any(caption is None for caption in captions):
        missing = sum(caption is None for caption in captions)
        raise ConfigError(f"CLIP score: {missing} of {len(captions)} images have no caption")
    clip, options = one_pass.clip, one_pass.options
    samples = one_pass.sample_features(clip)
    prefix = PREFIX[options.clip_variant]
    texts = [f"{prefix}{captions[index]}" for index in samples.kept]
    embedded = encode_texts(texts, clip, store=one_pass.store, progress=one_pass.progress)
    found = clip_score(
        samples.of(clip)[:], embedded[:], variant=options.clip_variant, level=options.level
    )
    interval = None
    if found.low is not None and found.high is not None:
        interval = Interval(
            low=found.low, high=found.high, level=options.level, method=found.method
        )
    return [
        ResultRecord(
            metric="clip-score",
            value=found.value,
            n=found.n,
            direction="higher",
            standard_error=found.standard_error,
            interval=interval,
            reason="" if interval else "no interval: one image",
            fingerprint=one_pass.fingerprint(clip, samples)
            | {"variant": options.clip_variant, "prefix": prefix, "clip_model": clip.name},
        )
    ]


SCORERS: Mapping[str, Callable[[Pass], list[ResultRecord]]] = {
    "fid": _frechet,
    "fd": _frechet,
    "clip-score": _clip_score,
}


def _ids(items: Any, found: FeatureSet, what: str) -> list[str]:
    """Image ids where they are known; samples of one reference image are one draw."""
    kept = [items[index] for index in found.kept]
    return [
        item.image_id or f"{what} {index}" for index, item in zip(found.kept, kept, strict=True)
    ]


def _joint_hash(sha256s: Sequence[str]) -> str:
    """Hash of a set of images, whatever their order."""
    return hashlib.sha256("".join(sorted(sha256s)).encode()).hexdigest()


def _failed(metric: str, n: int, reason: str) -> ResultRecord:
    direction: Any = "higher" if metric == "clip-score" else "lower"
    return ResultRecord(
        metric=metric, value=None, n=n, direction=direction, state="failed", reason=reason
    )
