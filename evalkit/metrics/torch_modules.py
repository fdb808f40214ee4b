"""Every metric as a `torchmetrics.Metric`, for training loops and distributed evaluation.

`update` takes batches of uint8 images (N x height x width x 3, 0-255) or lists of images of
different sizes, `compute` returns the result of the metric's function as float64 tensors.
torchmetrics gathers the states. The Fréchet distance keeps only mean and scatter, so its memory
does not grow; the others keep features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from evalkit.core.arrays import as_array
from evalkit.core.errors import DataError
from evalkit.features.base import Extractor, as_images
from evalkit.features.clip import TextImageExtractor
from evalkit.metrics.clip_score import check_variant, clip_score, default_prefix
from evalkit.metrics.cmmd import cmmd
from evalkit.metrics.frechet.distance import frechet_distance
from evalkit.metrics.frechet.moments import Moments
from evalkit.metrics.inception_score import inception_score
from evalkit.metrics.kid import kid
from evalkit.metrics.prdc import NAMES, prdc
from evalkit.metrics.r_precision import caption_key, r_precision


class FrechetDistance(Metric):
    """Fréchet distance of an extractor's features; an FID if the extractor is Inception.

    With `InceptionExtractor(("spatial",))` it is sFID, with DINOv2 FD-DINOv2, with CLIP CLIP-FD.

    Args:
        extractor: Anything with `extract` and `dim`.
        options: Options of `torchmetrics.Metric`.
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    fake: Tensor
    real: Tensor

    def __init__(self, extractor: Extractor, **options: Any) -> None:
        super().__init__(**options)
        self._extractor = extractor
        empty = torch.zeros(extractor.dim + 1, extractor.dim + 1, dtype=torch.float64)
        for name in ("fake", "real"):
            self.add_state(name, default=empty.clone(), dist_reduce_fx=merge_packed)

    def update(self, images: Any, *, real: bool) -> None:
        """Add a batch of samples or of reference images."""
        name = "real" if real else "fake"
        added = Moments.from_features(self._extractor.extract(images))
        state = getattr(self, name)
        setattr(self, name, merge_packed(torch.stack([state, pack(added).to(state.device)])))

    def compute(self) -> Tensor:
        """Compute the distance; lower is better.

        Raises:
            NotEnoughImagesError: Fewer than two images in a set.
        """
        return _scalar(frechet_distance(unpack(self.fake), unpack(self.real)))


def pack(moments: Moments) -> Float64[Tensor, "d1 d1"]:
    """Pack count, mean and scatter into one matrix, which torchmetrics can gather."""
    packed = torch.zeros(moments.dim + 1, moments.dim + 1, dtype=torch.float64)
    assert moments.n is not None
    packed[0, 0] = moments.n
    packed[0, 1:] = torch.from_numpy(moments.mean)
    packed[1:, 1:] = torch.from_numpy(moments.scatter)
    return packed


def unpack(packed: Float64[Tensor, "d1 d1"]) -> Moments:
    """Unpack what `pack` returned."""
    values = packed.detach().cpu().numpy()
    moments = Moments(len(values) - 1)
    moments.n = round(float(values[0, 0]))
    moments.mean, moments.scatter = values[0, 1:].copy(), values[1:, 1:].copy()
    return moments


def merge_packed(stacked: Float64[Tensor, "parts d1 d1"]) -> Float64[Tensor, "d1 d1"]:
    """Merge the moments of all parts."""
    merged = unpack(stacked[0])
    for part in stacked[1:]:
        merged = merged + unpack(part)
    return pack(merged).to(stacked.device)


class _TwoSets(Metric):
    """Base of metrics that keep the features of samples and of reference images."""

    is_differentiable = False
    full_state_update = False
    fake: list[Tensor]
    real: list[Tensor]

    def __init__(self, extractor: Extractor, **options: Any) -> None:
        super().__init__(**options)
        self._extractor = extractor
        self.add_state("fake", default=[], dist_reduce_fx="cat")
        self.add_state("real", default=[], dist_reduce_fx="cat")

    def update(self, images: Any, *, real: bool) -> None:
        """Add a batch of samples or of reference images."""
        features = _features(self._extractor, images).to(self.device)
        (self.real if real else self.fake).append(features)

    def _sets(self) -> tuple[np.ndarray, np.ndarray]:
        return _numpy(self.fake, self._extractor.dim), _numpy(self.real, self._extractor.dim)


class KernelInceptionDistance(_TwoSets):
    """KID over subsets.

    Args:
        extractor: Anything with `extract` and `dim`.
        subsets: Number of subsets.
        subset_size: Maximum images per subset.
        seed: Seed of the draw.
        options: Options of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(
        self,
        extractor: Extractor,
        *,
        subsets: int = 100,
        subset_size: int = 1000,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(extractor, **options)
        self._drawing: dict[str, Any] = {
            "subsets": subsets,
            "subset_size": subset_size,
            "seed": seed,
        }

    def compute(self) -> Tensor:
        """Compute the mean over the subsets; lower is better."""
        return _scalar(kid(*self._sets(), **self._drawing).value)


class ClipMaximumMeanDiscrepancy(_TwoSets):
    """CMMD, for an extractor of CLIP embeddings."""

    higher_is_better = False

    def compute(self) -> Tensor:
        """Compute the V-statistic times 1,000; lower is better."""
        return _scalar(cmmd(*self._sets()).value)


class PrecisionRecallDensityCoverage(_TwoSets):
    """Precision, recall, density and coverage.

    Args:
        extractor: Anything with `extract` and `dim`.
        k: The neighbour that sets the radius of a ball.
        options: Options of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, extractor: Extractor, *, k: int = 5, **options: Any) -> None:
        super().__init__(extractor, **options)
        self._k = k

    def compute(self) -> dict[str, Tensor]:
        """Compute the four values by name; higher is better."""
        found = prdc(*self._sets(), k=self._k)
        return {name: _scalar(found[name].value) for name in NAMES}


class InceptionScore(Metric):
    """Inception Score.

    Args:
        extractor: An extractor of logits, `InceptionExtractor(("logits_unbiased",))`.
        splits: Number of splits whose scores are averaged.
        options: Options of `torchmetrics.Metric`.
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    logits: list[Tensor]

    def __init__(self, extractor: Extractor, *, splits: int = 10, **options: Any) -> None:
        super().__init__(**options)
        self._extractor, self._splits = extractor, splits
        self.add_state("logits", default=[], dist_reduce_fx="cat")

    def update(self, images: Any) -> None:
        """Add a batch of samples."""
        self.logits.append(_features(self._extractor, images).to(self.device))

    def compute(self) -> Tensor:
        """Compute the mean over the splits; higher is better."""
        logits = _numpy(self.logits, self._extractor.dim)
        return _scalar(inception_score(logits, splits=self._splits).value)


class _Captioned(Metric):
    """Base of metrics that keep the embeddings of images and of their captions."""

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    images: list[Tensor]
    captions: list[Tensor]

    def __init__(self, extractor: TextImageExtractor, *, prefix: str, **options: Any) -> None:
        super().__init__(**options)
        self._extractor, self._prefix = extractor, prefix
        self.add_state("images", default=[], dist_reduce_fx="cat")
        self.add_state("captions", default=[], dist_reduce_fx="cat")

    def update(self, images: Any, captions: str | Sequence[str]) -> None:
        """Add a batch of samples and their prompts; one text is the prompt of all of them.

        Raises:
            DataError: Unequal numbers of images and prompts, or a prompt that is no text.
        """
        images = as_images(images)
        texts = one_per_image(captions, len(images))
        embedded = self._extractor.encode_text([f"{self._prefix}{text}" for text in texts])
        self.images.append(_features(self._extractor, images).to(self.device))
        self.captions.append(torch.from_numpy(as_array(embedded)).to(self.device))

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        dim = self._extractor.dim
        return _numpy(self.images, dim), _numpy(self.captions, dim)


class ClipScore(_Captioned):
    """CLIP score in one of its definitions.

    Args:
        extractor: A CLIP.
        variant: `torchmetrics`, `hessel` or `raw`.
        options: Options of `torchmetrics.Metric`.
    """

    def __init__(
        self, extractor: TextImageExtractor, *, variant: str = "torchmetrics", **options: Any
    ) -> None:
        check_variant(variant)
        super().__init__(extractor, prefix=default_prefix(variant), **options)
        self._variant = variant

    def compute(self) -> Tensor:
        """Compute the mean score; higher is better."""
        return _scalar(clip_score(*self._pairs(), variant=self._variant).value)


class RPrecision(_Captioned):
    """How often an image's own caption ranks first among others.

    Args:
        extractor: A CLIP.
        distractors: Number of wrong captions.
        seed: Seed of the draws.
        options: Options of `torchmetrics.Metric`.
    """

    keys: list[Tensor]

    def __init__(
        self,
        extractor: TextImageExtractor,
        *,
        distractors: int = 99,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(extractor, prefix="", **options)
        self._drawing: dict[str, Any] = {"distractors": distractors, "seed": seed}
        self.add_state("keys", default=[], dist_reduce_fx="cat")

    def update(self, images: Any, captions: str | Sequence[str]) -> None:
        """Add a batch of samples and their prompts; one text is the prompt of all of them.

        Raises:
            DataError: Unequal numbers of images and prompts, or a prompt that is no text.
        """
        images = as_images(images)
        texts = one_per_image(captions, len(images))
        super().update(images, texts)
        keys = [caption_key(caption) for caption in texts]
        self.keys.append(torch.tensor(keys, dtype=torch.int64, device=self.device))

    def compute(self) -> Tensor:
        """Compute the share of images whose caption ranks first; higher is better."""
        keys = dim_zero_cat(self.keys).cpu().tolist() if len(self.keys) else []
        return _scalar(r_precision(*self._pairs(), keys, **self._drawing).value)


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


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


def _features(extractor: Extractor, images: Any) -> Tensor:
    return torch.from_numpy(as_array(extractor.extract(images)))


def _numpy(parts: Any, dim: int) -> np.ndarray:
    """Concatenate all parts; after a gather torchmetrics holds one tensor instead of a list."""
    if not isinstance(parts, Tensor) and not parts:
        return np.empty((0, dim), np.float32)
    found: np.ndarray = dim_zero_cat(parts).detach().cpu().numpy()
    return found
