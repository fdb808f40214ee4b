"""Metrics without a reference: the Inception Score, and those of images and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from evalkit.core.errors import DataError
from evalkit.core.results import ResultRecord
from evalkit.features.base import Extractor
from evalkit.features.clip import TextImageExtractor
from evalkit.metrics.clip_score import check_variant, clip_score, default_prefix
from evalkit.metrics.inception_score import LAYER, inception_score
from evalkit.metrics.r_precision import caption_key, r_precision
from evalkit.metrics.torch_modules.base import ImageMetric


class InceptionScore(ImageMetric):
    """Inception Score.

    Args:
        extractor: An extractor of logits: Inception with the layer `logits_unbiased`.
        splits: Number of splits whose scores are averaged; images are put into them by place.
        options: `layer` (by default `logits_unbiased` where the extractor has it), `value_range`,
            `level`, and options of `torchmetrics.Metric`.
    """

    higher_is_better = True
    logits: list[Tensor]

    def __init__(
        self, extractor: Extractor, *, splits: int = 10, layer: str = "", **options: Any
    ) -> None:
        layer = layer or (LAYER if LAYER in getattr(extractor, "layers", {}) else "")
        super().__init__(extractor, layer=layer, **options)
        self._splits = splits
        self._add_rows("logits", self._dim)

    def update(self, images: Any) -> None:
        """Add a batch of samples.

        Raises:
            DataError: Images of another type, shape or range.
        """
        self._append("logits", self._batch(images).features(self._extractor, self._layer))

    def compute(self) -> Tensor:
        """Compute the mean over the splits; higher is better."""
        return self._scalar(inception_score(self._array("logits"), splits=self._splits).value)

    def _records(self) -> list[ResultRecord]:
        logits = self._array("logits")
        found = inception_score(logits, splits=self._splits, level=self._level)
        return [
            self._recorder("is", len(logits), splits=self._splits)(
                "is",
                label="Inception Score",
                value=found.value,
                standard_error=found.standard_error,
                interval=found.interval,
                reason=found.no_interval,
                details={"deviation_of_splits": found.deviation, "one_split": found.full},
            )
        ]


class Captioned(ImageMetric):
    """Base of metrics that keep the embeddings of images and of their captions."""

    higher_is_better = True
    images: list[Tensor]
    captions: list[Tensor]
    keys: list[Tensor]

    def __init__(self, extractor: TextImageExtractor, *, prefix: str, **options: Any) -> None:
        super().__init__(extractor, **options)
        self._clip, self._prefix = extractor, prefix
        for name in ("images", "captions"):
            self._add_rows(name, self._dim)
        self._add_rows("keys", dtype=torch.int64)

    def update(self, images: Any, captions: str | Sequence[str]) -> None:
        """Add a batch of samples and their prompts; one text is the prompt of all of them.

        Raises:
            DataError: Unequal numbers of images and prompts, a prompt that is no text, or images of
                another type, shape or range.
        """
        batch = self._batch(images)
        texts = one_per_image(captions, len(batch))
        embedded = batch.texts(self._clip, [f"{self._prefix}{text}" for text in texts])
        self._append("images", batch.features(self._extractor, self._layer))
        self._append("captions", embedded)
        self._append("keys", [caption_key(text) for text in texts])

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        return self._array("images"), self._array("captions")

    def _caption_keys(self) -> list[int]:
        """Return a number for each image, equal for equal captions."""
        found: list[int] = self._array("keys").tolist()
        return found

    def _caption_recorder(self, metric: str, **marks: Any) -> Any:
        named = {"clip_model": self._clip_name, "prefix": self._prefix}
        return self._recorder(metric, len(self._array("keys")), **named, **marks)

    @property
    def _clip_name(self) -> str:
        return getattr(self._clip, "name", type(self._clip).__name__)


class ClipScore(Captioned):
    """CLIP score in one of its definitions.

    Args:
        extractor: A CLIP.
        variant: `torchmetrics`, `hessel` or `raw`.
        options: `value_range`, `level`, and options of `torchmetrics.Metric`.
    """

    def __init__(
        self, extractor: TextImageExtractor, *, variant: str = "torchmetrics", **options: Any
    ) -> None:
        check_variant(variant)
        super().__init__(extractor, prefix=default_prefix(variant), **options)
        self._variant = variant

    def compute(self) -> Tensor:
        """Compute the mean score; higher is better.

        Raises:
            NotEnoughImagesError: No image.
        """
        return self._scalar(clip_score(*self._pairs(), variant=self._variant).value)

    def _records(self) -> list[ResultRecord]:
        ids = [f"caption {key}" for key in self._caption_keys()]
        found = clip_score(*self._pairs(), variant=self._variant, ids=ids, level=self._level)
        interval = found.interval.interval
        return [
            self._caption_recorder("clip-score", variant=self._variant)(
                "clip-score",
                label=f"CLIP score ({self._clip_name})",
                value=found.value,
                standard_error=found.interval.standard_error,
                interval=interval,
                reason="" if interval is not None else found.interval.method,
            )
        ]


class RPrecision(Captioned):
    """How often an image's own caption ranks first among others.

    Args:
        extractor: A CLIP.
        distractors: Number of wrong captions.
        seed: Seed of the draws.
        options: `value_range`, `level`, and options of `torchmetrics.Metric`.
    """

    def __init__(
        self,
        extractor: TextImageExtractor,
        *,
        distractors: int = 99,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(extractor, prefix="", seed=seed, **options)
        self._drawing: dict[str, Any] = {"distractors": distractors, "seed": seed}

    def compute(self) -> Tensor:
        """Compute the share of images whose caption ranks first; higher is better.

        Raises:
            NotEnoughImagesError: Too few different captions to rank.
        """
        found = r_precision(*self._pairs(), self._caption_keys(), **self._drawing)
        return self._scalar(found.value)

    def _records(self) -> list[ResultRecord]:
        keys = self._caption_keys()
        found = r_precision(*self._pairs(), keys, level=self._level, **self._drawing)
        marks = {"distractors": self._drawing["distractors"], "draw_seed": self._seed}
        return [
            self._caption_recorder("r-precision", **marks)(
                "r-precision",
                label=f"R-precision ({self._clip_name})",
                value=found.value,
                standard_error=found.standard_error,
                interval=found.interval,
            )
        ]


def one_per_image(captions: str | Sequence[str], num_images: int) -> list[str]:
    """Return a caption for each image of a batch; a single text belongs to all of them.

    Raises:
        DataError: Unequal numbers, or a caption that is no text.

    >>> one_per_image("a cat", 2)
    ['a cat', 'a cat']
    """
    if isinstance(captions, str):
        return [captions] * num_images
    texts = list(captions)
    strange = [text for text in texts if not isinstance(text, str)]
    if strange:
        raise DataError(f"A caption is {strange[0]!r}, expected a text. Give one per image.")
    if len(texts) != num_images:
        raise DataError(
            f"{num_images} images and {len(texts)} captions in one batch; give one caption per "
            "image, or one text for all of them."
        )
    return texts
