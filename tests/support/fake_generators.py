"""Specs of generators that tests make up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evalkit.core.run import WorkItem
from evalkit.core.seeding import image_seed
from generators.base import Conditioning, GeneratorSpec, Request, Sample


def plain_spec(name: str = "fake", conditioning: Conditioning = "text") -> GeneratorSpec:
    """A model without stages, settings or weights."""
    return GeneratorSpec(
        name=name,
        display_name=name,
        conditioning=conditioning,
        stages=(),
        size_px=4,
        training_data=(),
        weights="none",
        weights_sha256="0" * 64,
    )


class SeededNoise:
    """A generator of noise that depends on the seed only, and can die in the middle."""

    spec = plain_spec("noise")

    def __init__(self, die_after: int | None = None) -> None:
        self.left = die_after
        self.made = 0

    def generate(self, requests: Sequence[Request], settings: object) -> list[Sample]:
        """Draw an image per request."""
        del settings
        if self.left == 0:
            raise KeyboardInterrupt
        if self.left is not None:
            self.left -= 1
        self.made += len(requests)
        return [
            Sample(np.random.default_rng(r.seed).integers(0, 256, (4, 4, 3), dtype=np.uint8))
            for r in requests
        ]


def noise_items(n: int) -> list[WorkItem]:
    """Return items with a caption each."""
    ids = [str(100 + index) for index in range(n)]
    return [
        WorkItem(
            index=index,
            caption_id=ids[index],
            sample_index=0,
            seed=image_seed(0, ids[index], 0),
            prompt=f"prompt {index}",
        )
        for index in range(n)
    ]
