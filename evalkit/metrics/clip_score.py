"""CLIP score: how well an image fits its caption, as the cosine of their CLIP embeddings.

Three definitions are in use, and publications rarely say which:

| variant | one pair | over pairs | prefix |
|---|---|---|---|
| `torchmetrics` | 100 cos | mean | none |
| `hessel` | 2.5 max(cos, 0) | mean | "A photo depicts " |
| `raw` | cos | mean | none |

GLIDE and unCLIP report `torchmetrics` with ViT-B/16; Hessel et al. 2021 use ViT-B/32. Torchmetrics
itself returns 0 for a negative mean; here a negative mean is reported as it is, with its interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.results import ResultRecord
from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.means import MeanInterval, mean_interval
from evalkit.metrics.pairing import mean_difference
from evalkit.metrics.task import Metric, Need, Task, extractor_key
from evalkit.options import MeasureOptions

VARIANTS = ("torchmetrics", "hessel", "raw")
HESSEL_PREFIX = "A photo depicts "


@dataclass(frozen=True, kw_only=True)
class ClipScore:
    """A CLIP score with its interval, and the scores of the pairs."""

    value: float
    interval: MeanInterval
    pairs: Float64[np.ndarray, " n"]
    """Scores in the unit of the variant."""


def clip_cosines(images: Any, captions: Any) -> Float64[np.ndarray, " n"]:
    """Compute the cosine of each image's and its caption's embedding, in [-1, 1].

    Raises:
        DataError: Different numbers or dimensions, or an embedding of length 0.

    >>> clip_cosines([[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 1.0]]).round(4).tolist()
    [1.0, 0.7071]
    """
    x = unit_length(as_features(images, name="images"), name="images")
    y = unit_length(as_features(captions, name="captions"), name="captions")
    refuse_mismatch(x.shape[1], y.shape[1])
    if len(x) != len(y):
        raise DataError(f"{len(x)} images and {len(y)} captions; each image needs one caption.")
    cosines: np.ndarray = (x * y).sum(axis=1)
    return cosines


def clip_score(
    images: Any,
    captions: Any,
    *,
    variant: str = "torchmetrics",
    ids: Sequence[str] | None = None,
    level: float = 0.95,
) -> ClipScore:
    """Compute the CLIP score of image-caption pairs from embeddings; higher is better.

    Args:
        images: Image embeddings, pairs x dimensions, of any length.
        captions: Caption embeddings; the captions already have the variant's prefix.
        variant: One of `VARIANTS`.
        ids: One id per pair; pairs with the same id (samples of one caption) are one draw.
        level: Nominal coverage of the interval.

    Raises:
        ConfigError: An unknown variant, or a level outside (0, 1).
        DataError: Embeddings of different numbers or dimensions.

    >>> round(clip_score([[1.0, 0.0]] * 2, [[1.0, 1.0]] * 2, variant="hessel").value, 4)
    1.7678
    """
    check_variant(variant)
    cosines = clip_cosines(images, captions)
    pairs = {"torchmetrics": 100 * cosines, "hessel": 2.5 * cosines.clip(min=0), "raw": cosines}
    found = mean_interval(pairs[variant], ids=ids, level=level)
    return ClipScore(value=found.value, interval=found, pairs=pairs[variant])


def check_variant(variant: str) -> None:
    """Check that a variant is known.

    Raises:
        ConfigError: Lists the variants.
    """
    if variant not in VARIANTS:
        raise ConfigError(f"Unknown CLIP score {variant!r}; choose one of {', '.join(VARIANTS)}.")


def default_prefix(variant: str) -> str:
    """Return the prefix that a variant puts before each caption."""
    return HESSEL_PREFIX if variant == "hessel" else ""


def unit_length(embeddings: Float64[np.ndarray, "n d"], *, name: str) -> np.ndarray:
    """Divide each row by its length.

    Raises:
        DataError: A row of length 0 has no direction.
    """
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    if not norms.all():
        raise DataError(f"{name}: the embedding of row {int(np.argmin(norms))} has length 0.")
    scaled: np.ndarray = embeddings / norms
    return scaled


def no_captions_reason(task: Task) -> str:
    """Say why a metric of captions does not apply."""
    assert not task.caption_texts, "captions were not embedded"
    return "not applicable: unconditional (the images have no captions)"


def _needs(options: MeasureOptions) -> Sequence[Need]:
    check_variant(options.clip_variant)
    prefix = options.clip_prefix
    if prefix is None:
        prefix = default_prefix(options.clip_variant)
    return [Need(extractor_key(options.clip_model), "", reference=False, prefix=prefix)]


def _records(task: Task) -> list[ResultRecord]:
    need = task.needs[0]
    if need not in task.captions:
        return [task.not_applicable(need, no_captions_reason(task))]
    return [_part(task, range(len(task.items)))]


def _part(task: Task, places: Sequence[int]) -> ResultRecord:
    """Compute the record of some of the images, with all their captions."""
    need, options = task.needs[0], task.options
    rows = task.captions_of(places)
    found = mean_interval(
        task.once(pair_scores)[rows],
        ids=[task.caption_draws[row] for row in rows],
        level=options.level,
    )
    record = task.record(
        need,
        value=found.value,
        standard_error=found.standard_error,
        interval=found.interval,
        reason="" if found.interval is not None else found.method,
        details={"label": f"CLIP score ({task.extractors[need.extractor].name})"},
        marks={"variant": options.clip_variant},
    )
    return task.of_captions(need, record, places)


def pair_scores(task: Task) -> Float64[np.ndarray, " captions"]:
    """Compute the score of each caption and its image, in the order of `Task.captioned`."""
    need = task.needs[0]
    images, captions = task.fake_of_captions(need), task.captions[need]
    return clip_score(images, captions, variant=task.options.clip_variant).pairs


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    return [mean_difference(first, second, pair_scores)]


CLIP_SCORE = Metric(_needs, _records, _difference, _part)
