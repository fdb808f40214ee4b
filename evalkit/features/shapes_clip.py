"""The tiny CLIPs as extractors.

`clip:tiny-judge` only scores `shapes`, under the name `shapes-clip`; `clip:tiny` is for the models,
for example to select the best of several candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from evalkit.core.errors import ConfigError
from evalkit.core.registry import load
from evalkit.features.base import PreparedExtractor
from evalkit.features.clip_preprocessing import SquashTo
from generators.catalog import CLIP_MODELS

JUDGE = "clip:tiny-judge"


class ShapesClipExtractor(PreparedExtractor):
    """Embeddings of a tiny CLIP: by default the judge, which neither trains nor re-ranks a model.

    Args:
        device: Device of the network.
        precision: Only float32.
        clip: The judge, or another CLIP of the catalog under its own name.

    Raises:
        ConfigError: Another precision.
        MissingWeightsError: The embedded weights are missing.
    """

    def __init__(
        self, *, device: str = "cpu", precision: str = "float32", clip: str = JUDGE
    ) -> None:
        self.name = "shapes-clip" if clip == JUDGE else clip
        if precision != "float32":
            raise ConfigError(f"{self.name} supports float32 only, got {precision}.")
        target = CLIP_MODELS[clip]
        self._clip = load(target)(clip, device)
        self.layers: Mapping[str, int] = {"embedding": self._clip.dim}
        self.preparer = SquashTo(self._clip.size_px)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The network and its weights."""
        return {
            "extractor": self.name,
            "weights_sha256": self._clip.weights_sha256,
            "resize": "bicubic",
            "precision": "float32",
        }

    def encode(self, prepared: np.ndarray) -> dict[str, Float32[np.ndarray, "n d"]]:
        """Embed a batch of prepared images, normalised to length 1."""
        return {"embedding": self._clip.embed_images(prepared)}

    def encode_text(self, captions: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Embed captions, normalised to length 1."""
        embedded: Float32[np.ndarray, "n d"] = self._clip.embed_texts(captions)
        return embedded

    def num_cut(self, captions: Sequence[str]) -> int:
        """Count the captions that are longer than the context and lose their end."""
        return int(self._clip.num_cut(captions))
