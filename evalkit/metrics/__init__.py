"""Metrics: functions of features, float64 throughout.

Names are loaded on first use, so importing this package is cheap and needs no torch. A function
whose module has its name is imported from the module: `evalkit.metrics.kid.kid`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evalkit.core.registry import load

if TYPE_CHECKING:
    from evalkit.metrics.clusters import Clusters as Clusters
    from evalkit.metrics.frechet.difference import FrechetDifference as FrechetDifference
    from evalkit.metrics.frechet.difference import (
        frechet_difference_of_groups as frechet_difference_of_groups,
    )
    from evalkit.metrics.frechet.difference import (
        paired_frechet_difference as paired_frechet_difference,
    )
    from evalkit.metrics.frechet.distance import frechet_distance as frechet_distance
    from evalkit.metrics.frechet.distance import (
        frechet_distance_from_features as frechet_distance_from_features,
    )
    from evalkit.metrics.frechet.interval import FrechetInterval as FrechetInterval
    from evalkit.metrics.frechet.interval import frechet_interval as frechet_interval
    from evalkit.metrics.frechet.interval import (
        frechet_interval_of_groups as frechet_interval_of_groups,
    )
    from evalkit.metrics.frechet.jackknife import GroupedMoments as GroupedMoments
    from evalkit.metrics.frechet.moments import Moments as Moments
    from evalkit.metrics.planning import PilotIds as PilotIds
    from evalkit.metrics.planning import plan_fid as plan_fid
    from evalkit.metrics.score import score_sets as score_sets

_EXPORTS = {
    "Clusters": "evalkit.metrics.clusters:Clusters",
    "FrechetDifference": "evalkit.metrics.frechet.difference:FrechetDifference",
    "FrechetInterval": "evalkit.metrics.frechet.interval:FrechetInterval",
    "GroupedMoments": "evalkit.metrics.frechet.jackknife:GroupedMoments",
    "Moments": "evalkit.metrics.frechet.moments:Moments",
    "PilotIds": "evalkit.metrics.planning:PilotIds",
    "frechet_distance": "evalkit.metrics.frechet.distance:frechet_distance",
    "frechet_distance_from_features": (
        "evalkit.metrics.frechet.distance:frechet_distance_from_features"
    ),
    "frechet_difference_of_groups": (
        "evalkit.metrics.frechet.difference:frechet_difference_of_groups"
    ),
    "frechet_interval": "evalkit.metrics.frechet.interval:frechet_interval",
    "frechet_interval_of_groups": "evalkit.metrics.frechet.interval:frechet_interval_of_groups",
    "paired_frechet_difference": "evalkit.metrics.frechet.difference:paired_frechet_difference",
    "plan_fid": "evalkit.metrics.planning:plan_fid",
    "score_sets": "evalkit.metrics.score:score_sets",
}

__all__ = list(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_EXPORTS[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
