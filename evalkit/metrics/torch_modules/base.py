"""What all metrics share: the extractor, rows that ranks gather, records."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from evalkit.catalog import METRICS
from evalkit.core.intervals import check_level
from evalkit.core.results import ResultRecord
from evalkit.features.base import Extractor
from evalkit.metrics.task import declared_record, extractor_marks, library_versions
from evalkit.metrics.torch_modules.batches import (
    ImageBatch,
    ValueRange,
    check_range,
    layer_dim,
    layer_name,
)


class ImageMetric(Metric):
    """Base of all metrics: `update` with images, `compute` a tensor, `records` with intervals.

    Args:
        extractor: The network; metrics that share it read a batch once, see `MetricsInOnePass`.
        layer: One of its layers; empty: the main one.
        value_range: (0, 1) or (-1, 1), for images of floats; None: floats are refused.
        level: Confidence level of the intervals.
        seed: Seed of the random draws.
        options: Options of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(
        self,
        extractor: Extractor,
        *,
        layer: str = "",
        value_range: ValueRange | None = None,
        level: float = 0.95,
        seed: int = 0,
        **options: Any,
    ) -> None:
        check_level(level)
        super().__init__(**options)
        self._extractor = extractor
        self._layer = layer_name(extractor, layer)
        self._dim = layer_dim(extractor, self._layer)
        self.value_range = check_range(value_range)
        self._level, self._seed = level, seed
        self._rows: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}

    def records(self) -> list[ResultRecord]:
        """Compute the records of `evalkit score`, with intervals, from the images of all ranks.

        Every rank must call it, as for `compute`. Each image is a draw of its own; images of equal
        captions are one draw where captions are known.

        Raises:
            NotEnoughImagesError: Fewer images than the metric needs.
        """
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync,
            should_unsync=self._should_unsync,
        ):
            return self._records()

    def _records(self) -> list[ResultRecord]:
        raise NotImplementedError

    @property
    def takes_real(self) -> bool:
        """Whether `update` takes reference images, with `real=True`."""
        return False

    def _batch(self, images: Any) -> ImageBatch:
        return ImageBatch.of(images, self.value_range)

    def _add_rows(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        """Declare a state of rows, each of this shape, which are concatenated over ranks."""
        self.add_state(name, default=[], dist_reduce_fx="cat")
        self._rows[name] = shape, dtype

    def _append(self, name: str, rows: Shaped[np.ndarray, "n ..."] | Sequence[int]) -> None:
        shape, dtype = self._rows[name]
        tensor = torch.as_tensor(rows, dtype=dtype, device=self.device)
        assert tuple(tensor.shape[1:]) == shape, (tensor.shape, shape)
        getattr(self, name).append(tensor)

    def _array(self, name: str) -> Shaped[np.ndarray, "n ..."]:
        """Return all rows of a state; after a gather it is one tensor instead of a list."""
        parts: Any = getattr(self, name)
        if not isinstance(parts, Tensor) and not parts:
            parts = [self._no_rows(name)]
        found: np.ndarray = dim_zero_cat(parts).detach().cpu().numpy()
        return found

    def _no_rows(self, name: str) -> Tensor:
        shape, dtype = self._rows[name]
        return torch.empty((0, *shape), dtype=dtype, device=self.device)

    def _scalar(self, value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float64, device=self.device)

    def _recorder(self, metric: str, n: int, **marks: Any) -> Callable[..., ResultRecord]:
        """Return a factory of the metric's records: direction and unit are those of its row.

        It takes the record's name and fields; `label` and `details` are put together.
        """
        extractor = self._extractor
        known: Mapping[str, Any] = {"versions": library_versions(), **marks}
        if hasattr(extractor, "identity"):
            known = {**extractor_marks(extractor, self._layer), **known}
        make = partial(declared_record, metric, METRICS[metric])

        def record(name: str, *, label: str, **fields: Any) -> ResultRecord:
            details = {"label": label, **fields.pop("details", {})}
            own = fields.pop("marks", {})
            return make(name)(n=n, details=details, fingerprint={**known, **own}, **fields)

        return record

    @property
    def _label(self) -> str:
        named = getattr(self._extractor, "metric_label", None)
        return named or f"FD ({type(self._extractor).__name__})"

    def sync(self, *arguments: Any, **options: Any) -> None:
        """Gather the states of all ranks.

        A rank without rows takes part with none of their shape and type, so the others neither wait
        for it nor read its memory as something else.
        """
        for name in self._rows:
            rows = getattr(self, name)
            if isinstance(rows, list) and not rows:
                rows.append(self._no_rows(name))
        super().sync(*arguments, **options)

    @contextmanager
    def sync_context(
        self, *arguments: Any, should_unsync: bool = True, **options: Any
    ) -> Iterator[None]:
        """Hold the states of all ranks inside the block; also an error gives the own ones back."""
        self.sync(*arguments, **options)
        try:
            yield
        finally:
            self.unsync(should_unsync=self._is_synced and should_unsync)

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """Leave out the warning of a rank without images, which is no fault.

        Where no rank has any, `compute` raises its own error.
        """
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def quiet(*arguments: Any, **options: Any) -> Any:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
                return wrapped(*arguments, **options)

        return quiet
