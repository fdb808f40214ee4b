"""Fréchet distances: moments of both sets, and the samples' features for the interval."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from evalkit.core.errors import ConfigError
from evalkit.core.results import Interval, ResultRecord
from evalkit.features.base import Extractor
from evalkit.metrics.fid import no_plug_in_interval
from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.interval import FrechetInterval, frechet_interval
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.task import INCEPTION
from evalkit.metrics.torch_modules.base import ImageMetric
from evalkit.metrics.torch_modules.references import FixedReference


class FrechetDistance(ImageMetric):
    """Fréchet distance of an extractor's features; an FID if the extractor is Inception.

    With the layer `spatial` of Inception it is sFID, with DINOv2 FD-DINOv2, with CLIP CLIP-FD.

    Args:
        extractor: Anything with `extract` and `dim`.
        reference: A statistics file, the name of a published one, `Moments` or features; `reset`
            keeps it. None: the images of `update(..., real=True)`.
        interval: Whether to keep the samples' features, 4 bytes a dimension, which the interval
            needs. Without, memory does not grow with the number of images.
        options: `layer`, `value_range`, `level`, `seed`, and options of `torchmetrics.Metric`.

    Raises:
        DataError: The reference was computed by another extractor, or holds another layer.
    """

    higher_is_better = False
    fake: Tensor
    real: Tensor
    features: list[Tensor]

    def __init__(
        self,
        extractor: Extractor,
        *,
        reference: Any = None,
        interval: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(extractor, **options)
        empty = torch.zeros(self._dim + 1, self._dim + 1, dtype=torch.float64)
        self.add_state("fake", default=empty.clone(), dist_reduce_fx=merge_packed)
        self._fixed: FixedReference | None = None
        if reference is None:
            self.add_state("real", default=empty.clone(), dist_reduce_fx=merge_packed)
        else:
            self._fixed = FixedReference.of(reference, extractor, self._layer, self._dim)
        self._interval = interval
        if interval:
            self._add_rows("features", self._dim)

    def update(self, images: Any, real: bool = False) -> None:
        """Add a batch of samples or of reference images.

        Raises:
            ConfigError: Reference images, where the reference is fixed.
            DataError: Images of another type, shape or range.
        """
        refuse_more_reference(self._fixed, real=real)
        rows = self._batch(images).features(self._extractor, self._layer)
        if not len(rows):
            return
        name = "real" if real else "fake"
        state = getattr(self, name)
        added = pack(Moments.from_features(rows)).to(state.device)
        setattr(self, name, merge_packed(torch.stack([state, added])))
        if self._interval and not real:
            self._append("features", rows)

    def compute(self) -> Tensor:
        """Compute the plug-in distance, as the literature reports it; lower is better.

        Raises:
            NotEnoughImagesError: Fewer than two images in a set.
        """
        return self._scalar(frechet_distance(unpack(self.fake), self._reference()))

    @property
    def takes_real(self) -> bool:
        """Whether `update` takes reference images: where none is fixed."""
        return self._fixed is None

    def _reference(self) -> Moments:
        return unpack(self.real) if self._fixed is None else self._fixed.need_moments()

    def _records(self) -> list[ResultRecord]:
        """Return the plug-in distance and FD∞; without features, only the first."""
        fake, reference = unpack(self.fake), self._reference()
        name, label = self._name, self._label
        marks = {"num_reference": reference.n} if self._fixed is None else self._fixed.marks
        record = self._recorder(name, fake.n or 0, **marks)
        if not self._interval:
            reason = "no interval: interval=False keeps mean and covariance only"
            value = frechet_distance(fake, reference)
            return [record(name, label=label, value=value, reason=reason)]
        found = frechet_interval(
            self._array("features"), reference, level=self._level, seed=self._seed
        )
        sizes = {"n_reference": found.n_reference, "dimensions": found.dim}
        plug_in = record(
            name,
            label=label,
            value=found.value,
            standard_error=found.plug_in_error,
            reason=no_plug_in_interval(name, found),
            details=sizes,
        )
        fields: dict[str, Any] = {"value": None, "state": "not_applicable", "reason": found.reason}
        if found.corrected is not None and found.low is not None and found.high is not None:
            fields = {
                "value": found.corrected,
                "standard_error": found.standard_error,
                "interval": _interval_of(found, found.low, found.high),
                "reason": found.reason,
            }
        jackknife = {"jackknife_groups": found.num_groups, "group_seed": self._seed}
        infinity = record(
            f"{name}-infinity", label=f"{label}∞", details=sizes, marks=jackknife, **fields
        )
        return [plug_in, infinity]

    @property
    def _name(self) -> str:
        if getattr(self._extractor, "name", "") == INCEPTION:
            return "sfid" if self._layer == "spatial" else "fid"
        return "fd"


def _interval_of(found: FrechetInterval, low: float, high: float) -> Interval:
    return Interval(low=low, high=high, level=found.level, method=found.method)


def refuse_more_reference(fixed: FixedReference | None, *, real: bool) -> None:
    """Refuse reference images where the reference is fixed.

    Raises:
        ConfigError: There is a fixed one.
    """
    if real and fixed is not None:
        raise ConfigError(
            f"The reference is {fixed.source}, so it takes no images with real=True. Leave out "
            "reference= to collect the reference from images."
        )


def pack(moments: Moments) -> Float64[Tensor, "d1 d1"]:
    """Pack count, mean and scatter into one matrix, which torchmetrics can gather."""
    packed = torch.zeros(moments.dim + 1, moments.dim + 1, dtype=torch.float64)
    assert moments.n is not None
    packed[0, 0] = moments.n
    packed[0, 1:] = torch.from_numpy(moments.mean)
    packed[1:, 1:] = torch.from_numpy(moments.scatter)
    return packed


def unpack(packed: Float64[Tensor, "d1 d1"]) -> Moments:
    """Unpack what `pack` returned."""
    values = packed.detach().cpu().numpy()
    moments = Moments(len(values) - 1)
    moments.n = round(float(values[0, 0]))
    moments.mean, moments.scatter = values[0, 1:].copy(), values[1:, 1:].copy()
    return moments


def merge_packed(stacked: Float64[Tensor, "parts d1 d1"]) -> Float64[Tensor, "d1 d1"]:
    """Merge the moments of all parts."""
    merged = unpack(stacked[0])
    for part in stacked[1:]:
        merged = merged + unpack(part)
    return pack(merged).to(stacked.device)
