"""Metrics: functions of features, float64 throughout.

Names are loaded when they are first used, so that importing this package costs nothing and needs
no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.registry import load

if TYPE_CHECKING:
    from evalkit.metrics.frechet import frechet_distance as frechet_distance
    from evalkit.metrics.frechet import (
        frechet_distance_from_features as frechet_distance_from_features,
    )
    from evalkit.metrics.moments import Moments as Moments

_EXPORTS = {
    "Moments": "evalkit.metrics.moments:Moments",
    "frechet_distance": "evalkit.metrics.frechet:frechet_distance",
    "frechet_distance_from_features": "evalkit.metrics.frechet:frechet_distance_from_features",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_EXPORTS[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
