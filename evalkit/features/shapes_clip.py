"""The embedded judge `clip:tiny-judge` as an extractor: it scores `shapes`, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalkit.errors import ConfigError
from evalkit.features.base import PreparedExtractor
from evalkit.features.clip_preprocessing import SquashTo
from evalkit.registry import load

JUDGE = "clip:tiny-judge"


class ShapesClipExtractor(PreparedExtractor):
    """Embeddings of the judge, which neither trained nor re-ranks any model.

    Args:
        device: Where the network runs.
        precision: Only float32.

    Raises:
        ConfigError: Another precision.
        MissingWeightsError: The shipped weights are not there.
    """

    name = "shapes-clip"

    def __init__(self, *, device: str = "cpu", precision: str = "float32") -> None:
        if precision != "float32":
            raise ConfigError(f"shapes-clip runs in float32 only, not in {precision}")
        target = load("generators.catalog:CLIP_MODELS")[JUDGE]
        self._judge = load(target)(JUDGE, device)
        self.layers: Mapping[str, int] = {"embedding": self._judge.dim}
        self.preparer = SquashTo(self._judge.size_px)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The judge and its weights."""
        return {
            "extractor": self.name,
            "weights_sha256": self._judge.weights_sha256,
            "resize": "bicubic",
            "precision": "float32",
        }

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Embeddings of a batch of prepared images, each of length 1."""
        return {"embedding": self._judge.embed_images(prepared)}

    def encode_text(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Embeddings of captions, each of length 1."""
        embedded: Float32[np.ndarray, "n d"] = self._judge.embed_texts(captions)
        return embedded
