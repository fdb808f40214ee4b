"""Metrics that keep the features of samples and of reference images: KID, CMMD, PRDC."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from evalkit.core.results import ResultRecord
from evalkit.features.base import Extractor
from evalkit.metrics import cmmd as of_cmmd
from evalkit.metrics import prdc as of_prdc
from evalkit.metrics.cmmd import cmmd
from evalkit.metrics.kid import kid
from evalkit.metrics.prdc import NAMES, prdc
from evalkit.metrics.torch_modules.base import ImageMetric
from evalkit.metrics.torch_modules.frechet import refuse_more_reference
from evalkit.metrics.torch_modules.references import FixedReference


class TwoSets(ImageMetric):
    """Base of metrics that keep the features of samples and of reference images.

    Args:
        extractor: Anything with `extract` and `dim`.
        reference: Features (images x dimensions), or a statistics file that has them; `reset` keeps
            it. None: the images of `update(..., real=True)`.
        options: `layer`, `value_range`, `level`, `seed`, and options of `torchmetrics.Metric`.

    Raises:
        DataError: A reference of which only mean and covariance are known.
    """

    metric_name = ""
    """Its name in errors."""
    fake: list[Tensor]
    real: list[Tensor]

    def __init__(self, extractor: Extractor, *, reference: Any = None, **options: Any) -> None:
        super().__init__(extractor, **options)
        self._add_rows("fake", self._dim)
        self._fixed: FixedReference | None = None
        if reference is None:
            self._add_rows("real", self._dim)
        else:
            self._fixed = FixedReference.of(reference, extractor, self._layer, self._dim)
            self._fixed.need_features(self.metric_name)

    def update(self, images: Any, real: bool = False) -> None:
        """Add a batch of samples or of reference images.

        Raises:
            ConfigError: Reference images, where the reference is fixed.
            DataError: Images of another type, shape or range.
        """
        refuse_more_reference(self._fixed, real=real)
        rows = self._batch(images).features(self._extractor, self._layer)
        self._append("real" if real else "fake", rows)

    @property
    def takes_real(self) -> bool:
        """Whether `update` takes reference images: where none is fixed."""
        return self._fixed is None

    def _sets(self) -> tuple[np.ndarray, np.ndarray]:
        if self._fixed is not None:
            return self._array("fake"), self._fixed.need_features(self.metric_name)
        return self._array("fake"), self._array("real")

    def _marks(self, real: np.ndarray) -> dict[str, Any]:
        return {"num_reference": len(real)} if self._fixed is None else dict(self._fixed.marks)


class KernelInceptionDistance(TwoSets):
    """KID over subsets.

    Args:
        extractor: Anything with `extract` and `dim`.
        subsets: Number of subsets.
        subset_size: Maximum images per subset.
        seed: Seed of the draw, by place: of several ranks, the images of the first come first.
        options: `reference`, `layer`, `value_range`, `level`, and options of `torchmetrics.Metric`.
    """

    higher_is_better = False
    metric_name = "KID"

    def __init__(
        self,
        extractor: Extractor,
        *,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(extractor, seed=seed, **options)
        self._drawing: dict[str, Any] = {
            "subsets": subsets,
            "subset_size": subset_size,
            "seed": seed,
        }

    def compute(self) -> Tensor:
        """Compute the mean over the subsets; lower is better."""
        return self._scalar(kid(*self._sets(), **self._drawing).value)

    def _records(self) -> list[ResultRecord]:
        fake, real = self._sets()
        found = kid(fake, real, **self._drawing)
        label = self._label.replace("FID", "KID").replace("FD", "KID")
        record = self._recorder("kid", len(fake), **self._marks(real))
        return [
            record(
                "kid",
                label=label,
                value=found.value,
                standard_error=found.value_error,
                interval=found.interval_at(self._level),
                details={"deviation_of_subsets": found.deviation},
                marks={
                    "num_subsets": found.num_subsets,
                    "subset_size": found.subset_size,
                    "subset_seed": self._seed,
                },
            ),
            record(
                "kid-full",
                label=label,
                value=found.full,
                standard_error=found.standard_error,
                interval=found.full_interval_at(self._level),
            ),
        ]


class ClipMaximumMeanDiscrepancy(TwoSets):
    """CMMD, for an extractor of CLIP embeddings."""

    higher_is_better = False
    metric_name = "CMMD"

    def compute(self) -> Tensor:
        """Compute the V-statistic times 1,000; lower is better."""
        return self._scalar(cmmd(*self._sets()).value)

    def _records(self) -> list[ResultRecord]:
        fake, real = self._sets()
        found = cmmd(fake, real)
        record = self._recorder("cmmd", len(fake), **self._marks(real))
        return [
            record(
                "cmmd",
                label="CMMD",
                value=found.value,
                standard_error=found.standard_error,
                reason=of_cmmd.NO_INTERVAL,
            ),
            record(
                "cmmd-unbiased",
                label="CMMD, unbiased",
                value=found.unbiased,
                standard_error=found.standard_error,
                interval=found.interval_at(self._level),
            ),
        ]


class PrecisionRecallDensityCoverage(TwoSets):
    """Precision, recall, density and coverage.

    Args:
        extractor: Anything with `extract` and `dim`.
        k: The neighbour that sets the radius of a ball.
        options: `reference`, `layer`, `value_range`, `level`, `seed`, and options of
            `torchmetrics.Metric`.
    """

    higher_is_better = True
    metric_name = "Precision"

    def __init__(self, extractor: Extractor, *, k: int = 5, **options: Any) -> None:
        super().__init__(extractor, **options)
        self._k = k

    def compute(self) -> dict[str, Tensor]:
        """Compute the four values by name; higher is better."""
        found = prdc(*self._sets(), k=self._k)
        return {name: self._scalar(found[name].value) for name in NAMES}

    def _records(self) -> list[ResultRecord]:
        fake, real = self._sets()
        found = prdc(fake, real, k=self._k, level=self._level, seed=self._seed)
        record = self._recorder("prdc", len(fake), **self._marks(real), neighbours=self._k)
        return [
            record(
                f"{name}-k{self._k}",
                label=f"{name.capitalize()} (k = {self._k})",
                value=found[name].value,
                standard_error=found[name].standard_error,
                interval=found[name].interval,
                reason="" if found[name].low is not None else of_prdc.NO_INTERVAL,
            )
            for name in NAMES
        ]
