"""A reference that is known before training: a statistics file, moments or features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalkit.core.errors import DataError
from evalkit.features.base import Extractor
from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.named_references import is_named, open_reference
from evalkit.metrics.statistics_files import (
    ReferenceStatistics,
    read_statistics,
    refuse_other_extractor,
)
from evalkit.metrics.task import statistics_marks


@dataclass(frozen=True, kw_only=True)
class FixedReference:
    """A reference that no `update` changes and no `reset` forgets."""

    moments: Moments | None
    features: Float64[np.ndarray, "m d"] | None
    source: str
    """Its name in errors."""
    marks: Mapping[str, Any]
    """Its entries in fingerprints."""

    @classmethod
    def of(cls, reference: Any, extractor: Extractor, layer: str, dim: int) -> FixedReference:
        """Read a reference.

        Args:
            reference: A statistics file, the name of a published one (`evalkit references list`),
                `ReferenceStatistics`, `Moments`, or features, images x dimensions.
            extractor: The extractor of the samples, which must be the reference's too.
            layer: Its layer.
            dim: Dimensions of that layer.

        Raises:
            MissingDataError: There is no such file.
            DataError: It is no such file, of another extractor, or has another layer.
        """
        if isinstance(reference, str) and is_named(reference):
            reference = open_reference(reference)
        elif isinstance(reference, str | Path):
            reference = read_statistics(reference)
        if isinstance(reference, ReferenceStatistics):
            return cls._of_statistics(reference, extractor, layer, dim)
        if isinstance(reference, Moments):
            refuse_mismatch(dim, reference.dim)
            marks = {"reference_note": "moments from memory", "num_reference": reference.n}
            return cls(moments=reference, features=None, source="the moments", marks=marks)
        rows = as_features(reference, name="reference")
        refuse_mismatch(dim, rows.shape[1])
        marks = {"reference_note": "features from memory", "num_reference": len(rows)}
        return cls(moments=None, features=rows, source="the features", marks=marks)

    @classmethod
    def _of_statistics(
        cls, found: ReferenceStatistics, extractor: Extractor, layer: str, dim: int
    ) -> FixedReference:
        if hasattr(extractor, "identity"):
            refuse_other_extractor(found, extractor.identity, layer)
        moments, features = found.moments.get(layer), found.features.get(layer)
        if moments is None and features is None:
            raise DataError(
                f"{found.source}: holds no statistics of layer {layer or 'main'}, only of "
                f"{', '.join(found.moments)}. Compute them with the layer of the samples."
            )
        if moments is not None:
            refuse_mismatch(dim, moments.dim)
        if features is not None:
            refuse_mismatch(dim, features.shape[1])
        rows = None if features is None else as_features(features, name=found.source)
        return cls(
            moments=moments, features=rows, source=found.source, marks=statistics_marks(found)
        )

    def need_moments(self) -> Moments:
        """Return mean and covariance."""
        if self.moments is not None:
            return self.moments
        assert self.features is not None
        return Moments.from_features(self.features)

    def need_features(self, metric: str) -> Float64[np.ndarray, "m d"]:
        """Return the features.

        Raises:
            DataError: Only mean and covariance are known.
        """
        if self.features is None:
            raise DataError(
                f"{metric} needs the reference's features, but {self.source} holds only mean and "
                "covariance. Pass features (images x dimensions), or update with real=True."
            )
        return self.features
