"""A stage's sampling from loose keywords, as tests vary them one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from generators.diffusion.samplers import SamplerOptions
from generators.diffusion.stage_sampling import StageSampling


def stage_sampling(settings: Mapping[str, Any]) -> StageSampling:
    """Keywords of `SamplerOptions` and of `StageSampling`, sorted into the two."""
    names = {field.name for field in fields(SamplerOptions)}
    options = SamplerOptions(**{k: v for k, v in settings.items() if k in names})
    return StageSampling(**{k: v for k, v in settings.items() if k not in names}, options=options)
