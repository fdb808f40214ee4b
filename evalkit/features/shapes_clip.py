"""`shapes-clip`: the embedded judge as an extractor, for scenes of the data set `shapes`.

A tiny network that was trained on nothing but `shapes`; it works without any download, and its
numbers are comparable with nothing but each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from evalkit import images
from evalkit.features.base import PreparedExtractor, check_precision
from evalkit.registry import load

_JUDGE = "clip:tiny-judge"
# A string, not an import: evalkit reaches generators only through their catalog.
_CATALOG = "generators.catalog:CLIP_MODELS"


class ShapesClipExtractor(PreparedExtractor):
    """Embeddings of images and captions of shapes.

    Args:
        device: Where the network runs.
        precision: Accepted for symmetry; a network of this size always runs in float32.

    Raises:
        ConfigError: An unknown precision.
    """

    name = "shapes-clip"

    def __init__(self, *, device: str = "cpu", precision: str = "float32") -> None:
        check_precision(precision)
        self._judge: Any = load(load(_CATALOG)[_JUDGE])(_JUDGE, device)
        self.layers: Mapping[str, int] = {"image": self._judge.dim}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Network, weights and preprocessing; always float32."""
        return {
            "extractor": self.name,
            "weights_sha256": self._judge.weights_sha256,
            "resize": f"squash bicubic {self._judge.size_px}",
            "precision": "float32",
        }

    def prepare(self, image: UInt8[np.ndarray, "height width 3"]) -> np.ndarray:
        """The image at the size of the judge, unchanged where it has that size."""
        return images.squash(image, self._judge.size_px)

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Image embeddings of length 1."""
        return {"image": self._judge.embed_images(prepared)}

    def encode_text(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Caption embeddings of length 1."""
        embedded: np.ndarray = self._judge.embed_texts(list(captions))
        return embedded
