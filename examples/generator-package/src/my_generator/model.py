"""The generator: replace `Gradient` by your model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from generators.base import GeneratorSpec, Request, Sample, Settings, StageSettings, StageSpec

SIZE_PX = 64
STAGE = StageSpec(
    name="base",
    # What is None is no setting of the model; options have a name and a type of their own.
    defaults=StageSettings(steps=8, guidance=None, options={"contrast": 1.0}),
    max_steps=1000,
    ranges={"contrast": (0.0, 2.0)},
)


class Gradient:
    """A gradient between two colours, with noise that fades over the steps."""

    def __init__(self, name: str) -> None:
        self.spec = GeneratorSpec(
            name=name,
            display_name="Gradient",
            conditioning="text",
            stages=(STAGE,),
            size_px=SIZE_PX,
            training_data=(),
            weights="none",
            weights_sha256="none",
        )

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one image per request, in order; all randomness comes from its seed."""
        chosen = settings["base"]
        contrast = float(chosen.options["contrast"])
        return [
            Sample(image=_draw(str(request.prompt), request.seed, chosen.steps or 1, contrast))
            for request in requests
        ]


def load(name: str, device: str, weights: Mapping[str, Path]) -> Gradient:
    """Load the generator; `weights` are the files of --weights, by their names."""
    return Gradient(name)


def _draw(prompt: str, seed: int, steps: int, contrast: float) -> np.ndarray:
    digest = hashlib.sha256(prompt.encode()).digest()
    first, second = (np.frombuffer(digest[at : at + 3], np.uint8) for at in (0, 3))
    share = np.linspace(0, 1, SIZE_PX)[:, None, None]
    image = np.broadcast_to(first * (1 - share) + second * share, (SIZE_PX, SIZE_PX, 3))
    noise = np.random.default_rng(seed).normal(size=image.shape) * 64 / steps
    return np.clip(128 + contrast * (image - 128) + noise, 0, 255).astype(np.uint8)
