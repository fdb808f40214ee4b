"""CLIP score: how well images fit their captions, as a cosine in CLIP's space.

Three definitions are in use, and numbers of one do not compare with numbers of another:

- `torchmetrics`: 100 cos, its mean clipped at 0 (also GLIDE's and unCLIP's, unclipped);
- `hessel`: 2.5 max(cos, 0) for captions prefixed "A photo depicts " (Hessel et al. 2021);
- `raw`: the cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from scipy.special import stdtrit

from evalkit.errors import DataError
from evalkit.metrics.arrays import as_features, refuse_mismatch

Variant = Literal["torchmetrics", "hessel", "raw"]
PREFIX: dict[Variant, str] = {"torchmetrics": "", "hessel": "A photo depicts ", "raw": ""}
"""What stands before each caption."""


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """Mean score of a set, and a t interval over its captions."""

    value: float
    """Higher is better; from -100 to 100 (`torchmetrics`), 0 to 2.5 (`hessel`), -1 to 1 (`raw`)."""
    standard_error: float | None
    """None for a single image."""
    low: float | None
    high: float | None
    n: int
    method: str


def clip_cosines(image_features: Any, text_features: Any) -> Float64[np.ndarray, " n"]:
    """Cosine of each image with its own caption, in [-1, 1].

    Args:
        image_features: Embeddings of images, n x d, of any length but 0.
        text_features: Embeddings of the captions, in the images' order.

    Raises:
        DataError: Different numbers of rows or columns, or values that are not finite.

    >>> clip_cosines([[2.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 3.0]]).round(4).tolist()
    [1.0, 0.7071]
    """
    images = as_features(image_features, name="images")
    texts = as_features(text_features, name="captions")
    refuse_mismatch(images.shape[1], texts.shape[1])
    if len(images) != len(texts):
        raise DataError(f"{len(images)} images but {len(texts)} captions; each needs its own")
    lengths = np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
    if not (lengths > 0).all():
        raise DataError(
            f"embedding {int(np.argmin(lengths > 0))} has length 0; it has no direction"
        )
    return np.einsum("nd,nd->n", images, texts) / lengths


def per_image_scores(
    cosines: Float64[np.ndarray, " n"], variant: Variant
) -> Float64[np.ndarray, " n"]:
    """Scores of single images in a variant's unit."""
    if variant == "torchmetrics":
        return 100 * cosines
    if variant == "hessel":
        return 2.5 * np.maximum(cosines, 0)
    return cosines


def clip_score(
    image_features: Any,
    text_features: Any,
    *,
    variant: Variant = "torchmetrics",
    level: float = 0.95,
) -> ClipScore:
    """Mean CLIP score of images and their captions, with a t interval over images.

    Args:
        image_features: Embeddings of images, n x d.
        text_features: Embeddings of their captions, with the variant's prefix in front.
        variant: See the module's first lines.
        level: Coverage of the interval.

    Raises:
        DataError: The arrays don't go together.
    """
    scores = per_image_scores(clip_cosines(image_features, text_features), variant)
    n, mean = len(scores), float(np.mean(scores))
    value = max(mean, 0.0) if variant == "torchmetrics" else mean
    if n == 1:
        return ClipScore(
            value=value, standard_error=None, low=None, high=None, n=1, method="one image"
        )
    error = float(np.std(scores, ddof=1) / np.sqrt(n))
    half_width = float(stdtrit(n - 1, 0.5 + level / 2)) * error
    return ClipScore(
        value=value,
        standard_error=error,
        low=mean - half_width,
        high=mean + half_width,
        n=n,
        method="t interval over images",
    )
