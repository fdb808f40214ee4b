"""R-precision: how often an image's own caption ranks first among others (Xu et al. 2018).

CLIP ranks the right caption and 99 distractors, captions of other images. Distractors are drawn by
caption, so that order and batches of the images don't change the draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError, as_clause
from evalkit.core.intervals import check_level
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.arrays import as_features, refuse_mismatch
from evalkit.metrics.clip_score import no_captions_reason, unit_length
from evalkit.metrics.draws import ties_of
from evalkit.metrics.pairing import share_difference
from evalkit.metrics.shares import share_of
from evalkit.metrics.task import Metric, Need, Task, extractor_key
from evalkit.options import MeasureOptions

_TRIES = 8


@dataclass(frozen=True, kw_only=True)
class RPrecision:
    """Share of images whose caption ranks first, with a Wilson interval."""

    value: float
    """In [0, 1]; chance is 1 / (distractors + 1). Higher is better."""
    low: float
    high: float
    standard_error: float | None
    method: str
    hits: Bool[np.ndarray, " n"]
    level: float
    """Nominal coverage of the interval."""

    @property
    def interval(self) -> Interval:
        """The interval for a record."""
        return Interval(low=self.low, high=self.high, level=self.level, method=self.method)


def r_precision(
    images: Any,
    captions: Any,
    keys: Sequence[int],
    *,
    groups: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    distractors: int = 99,
    seed: int = 0,
    level: float = 0.95,
) -> RPrecision:
    """Compute the share of images whose own caption is the nearest of `distractors` + 1.

    Args:
        images: Image embeddings, pairs x dimensions.
        captions: Embedding of each image's caption.
        keys: A number per caption, equal for equal captions; see `caption_key`.
        groups: One id per pair; captions with the same id (of one image) are never distractors for
            each other.
        ids: One id per pair; pairs with the same id are one draw. By default, the groups.
        distractors: Number of wrong captions.
        seed: Seed of the draws.
        level: Nominal coverage.

    Raises:
        DataError: Embeddings of different numbers or dimensions.
        NotEnoughImagesError: Too few different captions to rank.
        ConfigError: No distractor, or a level outside (0, 1).

    >>> eye = np.eye(3)
    >>> r_precision(eye, eye, [1, 2, 3], distractors=2).value
    1.0
    """
    check_level(level)
    x = unit_length(as_features(images, name="images"), name="images")
    y = unit_length(as_features(captions, name="captions"), name="captions")
    refuse_mismatch(x.shape[1], y.shape[1])
    if not len(x) == len(y) == len(keys):
        raise DataError(
            f"{len(x)} images, {len(y)} captions and {len(keys)} keys; give one of each per pair."
        )
    if distractors < 1:
        raise ConfigError(f"R-precision needs at least 1 distractor, got {distractors}.")
    names = list(groups) if groups is not None else [f"key {key}" for key in keys]
    pool = _Pool.of(np.array(keys, np.int64), names)
    hits = np.array(
        [_is_first(x[i], y, i, pool.draw(i, distractors, seed)) for i in range(len(x))], bool
    )
    draws = list(ids) if ids is not None else names
    share = share_of(hits, ids=draws, level=level)
    return RPrecision(
        value=share.value,
        low=share.low,
        high=share.high,
        standard_error=share.standard_error,
        method=share.method,
        hits=hits,
        level=level,
    )


def caption_key(caption: str) -> int:
    """Hash a caption to a number, the same on every machine."""
    return int.from_bytes(hashlib.sha256(caption.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class _Pool:
    """Distinct captions in an order that depends only on themselves."""

    keys: Int64[np.ndarray, " n"]
    names: np.ndarray
    first: Int64[np.ndarray, " captions"]
    """A pair for each distinct caption, sorted by key."""

    @classmethod
    def of(cls, keys: np.ndarray, names: Sequence[str]) -> _Pool:
        _, first = np.unique(keys, return_index=True)
        return cls(keys, np.array(names, dtype=object), first.astype(np.int64))

    def draw(self, index: int, count: int, seed: int) -> Int64[np.ndarray, " count"]:
        """Draw pairs whose captions are wrong answers for one image, all different."""
        rng = np.random.default_rng([seed, int(self.keys[index])])
        # A few more than needed are drawn first; the whole pool is searched only if they fail.
        size = min(len(self.first), count + _TRIES)
        drawn = self._wrong(index, rng.choice(self.first, size, replace=False))
        if len(drawn) < count:
            drawn = self._wrong(index, rng.permutation(self.first))
        if len(drawn) < count:
            raise NotEnoughImagesError(
                f"R-precision ranks {count + 1} captions, but only {len(drawn) + 1} different ones "
                "of different images exist. Add captions, or use fewer --distractors."
            )
        return drawn[:count]

    def _wrong(self, index: int, pairs: np.ndarray) -> np.ndarray:
        wrong = (self.keys[pairs] != self.keys[index]) & (self.names[pairs] != self.names[index])
        kept: np.ndarray = pairs[wrong]
        return kept


def _is_first(image: np.ndarray, captions: np.ndarray, index: int, others: np.ndarray) -> bool:
    return bool(captions[index] @ image > (captions[others] @ image).max())


def _needs(options: MeasureOptions) -> Sequence[Need]:
    return [Need(extractor_key(options.clip_model), "", reference=False, prefix="")]


def r_precision_of(task: Task) -> RPrecision:
    """Compute the R-precision of the pairs of images and captions of a set.

    Raises:
        NotEnoughImagesError: Too few different captions to rank.
    """
    need, options = task.needs[0], task.options
    return r_precision(
        task.fake_of_captions(need),
        task.captions[need],
        [caption_key(caption) for caption in task.caption_texts],
        groups=_pictured(task),
        ids=task.caption_draws,
        distractors=options.distractors,
        seed=options.seed,
        level=options.level,
    )


def _pictured(task: Task) -> list[str] | None:
    """Return what each caption describes: its reference image, else itself; None if unknown."""
    known = any(item.image_id or item.caption_id for item in task.items)
    if not known and len(task.captioned) == len(task.items):
        return None
    ties = [
        ties_of(image_id=item.image_id, caption_id=item.caption_id, sha256=None)
        for item in task.items
    ]
    return [ties[i][0] if ties[i] else f"sample {i}" for i in task.captioned]


def _records(task: Task) -> list[ResultRecord]:
    need = task.needs[0]
    if need not in task.captions:
        return [task.not_applicable(need, no_captions_reason(task))]
    try:
        return [_part(task, range(len(task.items)))]
    except NotEnoughImagesError as error:
        return [task.not_applicable(need, as_clause(error))]


def _part(task: Task, places: Sequence[int]) -> ResultRecord:
    """Compute the record of some of the images, ranked among the captions of all.

    Raises:
        NotEnoughImagesError: Too few different captions to rank.
    """
    need, options = task.needs[0], task.options
    rows = task.captions_of(places)
    found = share_of(
        _hits(task)[rows],
        ids=[task.caption_draws[row] for row in rows],
        level=options.level,
    )
    record = task.record(
        need,
        value=found.value,
        standard_error=found.standard_error,
        interval=Interval(low=found.low, high=found.high, level=options.level, method=found.method),
        details={"label": f"R-precision ({task.extractors[need.extractor].name})"},
        marks={"distractors": options.distractors, "draw_seed": options.seed},
    )
    return task.of_captions(need, record, places)


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    return [share_difference(first, second, _hits)]


def _hits(task: Task) -> Float64[np.ndarray, " n"]:
    return task.once(r_precision_of).hits.astype(np.float64)


R_PRECISION = Metric(_needs, _records, _difference, _part)
