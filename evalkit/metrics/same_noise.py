"""PSNR, SSIM, LPIPS and cosines between two runs of the same captions and noise, image by image.

For variants of one model that should make the same images: quantised, compiled, on other hardware.
The reference is the other run. Each sample is compared with the image of the same caption, sample
index and seed; runs that differ in these are refused. Sets that are no runs have no seeds; they are
paired by caption or by file name, and the record says so.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import Float64, UInt8

from evalkit.core.errors import DataError
from evalkit.core.progress import advance
from evalkit.core.results import ResultRecord
from evalkit.features.decoding import usable_cores
from evalkit.features.preparing import reference_preparation, sample_preparation
from evalkit.features.sources import ImageItem, Preparation, load_image
from evalkit.metrics.clip_score import clip_cosines
from evalkit.metrics.draws import joined_draws, ties_of_items
from evalkit.metrics.means import mean_interval
from evalkit.metrics.pairing import mean_difference
from evalkit.metrics.task import Metric, Need, Task, extractor_key
from evalkit.options import MeasureOptions

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 8
_MIN_SSIM_SIDE_PX = 6
"""The Gaussian of SSIM reflects five pixels at each edge."""
Images = UInt8[np.ndarray, "n height width 3"]


@dataclass(frozen=True)
class MatchedRequests:
    """The reference image of each sample."""

    places: tuple[int, ...]
    """Its place in the reference, by the sample's place."""
    paired_by: str
    """What says that two images belong together."""


def match_requests(samples: Sequence[ImageItem], reference: Sequence[ImageItem]) -> MatchedRequests:
    """Find the reference image of each sample's request: the same caption, sample index and seed.

    Args:
        samples: Images of one run, or of any set.
        reference: Images of the other.

    Raises:
        DataError: A request that only one of them has, another caption or seed, or images that
            neither captions nor file names tell apart.
    """
    sets = (samples, reference)
    keys: tuple[list[Hashable], ...]
    if all(item.seed is not None for one in sets for item in one):
        keys = tuple([(item.caption_id, item.sample_index) for item in one] for one in sets)
        paired_by = "caption, sample index and seed"
    elif all(_each_once([item.caption_id for item in one]) for one in sets):
        keys = tuple([item.caption_id for item in one] for one in sets)
        paired_by = "caption; the seeds are unknown"
    else:
        keys = tuple([Path(item.name).name for item in one] for one in sets)
        paired_by = "file name; the seeds are unknown"
    for what, names in zip(("the samples", "the reference"), keys, strict=True):
        if not _each_once(names):
            raise DataError(
                f"Two images of {what} are both {_request(_repeated(names))}. Give runs, whose "
                "images have captions and seeds, or folders with a caption or file name for each "
                "image."
            )
    there = {key: place for place, key in enumerate(keys[1])}
    _refuse_other_requests(keys[0], keys[1])
    places = tuple(there[key] for key in keys[0])
    _refuse_other_noise(samples, [reference[place] for place in places])
    return MatchedRequests(places, paired_by)


def _refuse_other_requests(first: Sequence[Hashable], second: Sequence[Hashable]) -> None:
    only = [sorted(map(_request, set(a) - set(b))) for a, b in ((first, second), (second, first))]
    if not any(only):
        return
    named = [
        f"{len(names):,} only in {what}, such as {names[0]}"
        for names, what in zip(only, ("the samples", "the reference"), strict=True)
        if names
    ]
    raise DataError(
        f"The two sets don't have the same images: {'; '.join(named)}. Generate both from the same "
        "captions and seed."
    )


def _refuse_other_noise(first: Sequence[ImageItem], second: Sequence[ImageItem]) -> None:
    """Refuse pairs of different captions, or of different known seeds."""
    for what in ("caption", "seed"):
        pairs = [
            (a, b, getattr(a, what), getattr(b, what)) for a, b in zip(first, second, strict=True)
        ]
        differing = [one for one in pairs if None not in one[2:] and one[2] != one[3]]
        if differing:
            a, b, of_a, of_b = differing[0]
            raise DataError(
                f"The {what}s of {len(differing):,} of {len(pairs):,} pairs of images differ, such "
                f"as {of_a!r} of {a.name} and {of_b!r} of {b.name}. Generate both runs from the "
                "same captions with the same --seed."
            )


def _each_once(names: Sequence[Hashable]) -> bool:
    return None not in names and len(set(names)) == len(names)


def _repeated(names: Sequence[Hashable]) -> Hashable:
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def _request(key: Hashable) -> str:
    if isinstance(key, tuple):
        return f"caption {key[0]}, sample {key[1]}"
    return str(key)


def highest_psnr(size: Sequence[int]) -> float:
    """Return the PSNR of two 8-bit images that differ by one level in one value, in dB.

    Equal images count as these: their own PSNR is infinite and has no mean.

    >>> round(highest_psnr((64, 64, 3)), 1)
    89.0
    """
    return float(10 * np.log10(255.0**2 * np.prod(size, dtype=np.float64)))


def psnr(first: Images, second: Images) -> Float64[np.ndarray, " n"]:
    """Compute the peak signal-to-noise ratio of each pair in dB; higher is more alike.

    >>> black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    >>> psnr(black, white).round(3).tolist()
    [0.0]
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    found = peak_signal_noise_ratio(
        _tensor(first), _tensor(second), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    values: np.ndarray = np.minimum(found.numpy(), highest_psnr(first.shape[1:]))
    return values


def ssim(first: Images, second: Images) -> Float64[np.ndarray, " n"]:
    """Compute the structural similarity of each pair, at most 1; higher is more alike.

    As in Wang et al. 2004: a Gaussian of 11 px and 1.5 px deviation, here on the RGB channels.

    Raises:
        DataError: Images of fewer than 6 px a side.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    _require_side(first, _MIN_SSIM_SIDE_PX, "SSIM")
    found = structural_similarity_index_measure(
        _tensor(first), _tensor(second), data_range=255.0, reduction="none"
    )
    values: np.ndarray = np.atleast_1d(found.numpy())  # type: ignore[union-attr]
    return values


def _lpips(task: Task, first: Images, second: Images) -> Float64[np.ndarray, " n"]:
    from evalkit.features.paired_images import LPIPS_MIN_SIDE_PX, LpipsPairs

    _require_side(first, LPIPS_MIN_SIDE_PX, "LPIPS")
    return cast(LpipsPairs, task.extractors["lpips"]).distances(first, second)


def _require_side(images: Images, side_px: int, what: str) -> None:
    height, width = images.shape[1:3]
    if min(height, width) < side_px:
        raise DataError(
            f"{what} needs images of at least {side_px} px a side, got {width}x{height}. Leave it "
            "out; psnr takes any size."
        )


def _tensor(images: Images) -> Tensor:
    import torch  # slow to import

    return torch.from_numpy(images).permute(0, 3, 1, 2).double()


Compare = Callable[[Task, Images, Images], Float64[np.ndarray, " n"]]
"""The score of each pair in a batch of pairs."""


def _by_pixels(compare: Compare, task: Task) -> Float64[np.ndarray, " n"]:
    """Decode the pairs of a task in batches of one size, and score them."""
    found = [compare(task, np.stack(first), np.stack(second)) for first, second in _batches(task)]
    scores: np.ndarray = np.concatenate(found)
    return scores


def _batches(task: Task) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Yield the images of pairs, in order, a few of one size at a time."""
    preparations = sample_preparation(task.options), reference_preparation(task.options)
    others = [task.reference.items[place] for place in task.once(_matched).places]
    pairs, total = list(zip(task.items, others, strict=True)), len(task.items)
    with ThreadPoolExecutor(usable_cores()) as pool:
        for start in range(0, total, _BATCH):
            load = partial(_load_pair, preparations)
            loaded = pool.map(load, pairs[start : start + _BATCH])
            for _, of_one_size in groupby(loaded, key=lambda pair: pair[0].shape):
                first, second = zip(*of_one_size, strict=True)
                yield list(first), list(second)
            advance(min(start + _BATCH, total), total)


def _load_pair(
    preparations: tuple[Preparation, Preparation], pair: tuple[ImageItem, ImageItem]
) -> tuple[np.ndarray, np.ndarray]:
    item, other = pair
    a, b = (load_image(*one) for one in zip(pair, preparations, strict=True))
    if a.shape != b.shape:
        sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (a, b)]
        raise DataError(
            f"{item.name} has {sizes[0]} px, but {other.name} has {sizes[1]}. Generate both at one "
            "size, or bring them to one with --size and --sample-size."
        )
    return a, b


def _by_features(task: Task) -> Float64[np.ndarray, " n"]:
    """Compute the cosine of each pair's embeddings."""
    need, places = task.needs[0], np.array(task.once(_matched).places)
    real = task.real(need)
    assert real is not None, "a reference of images has features"
    return clip_cosines(np.asarray(task.fake(need)), np.asarray(real)[places])


def _matched(task: Task) -> MatchedRequests:
    if not task.reference.items:
        raise DataError(
            f"{task.name} compares images with those of another run, but the reference is a "
            "statistics file. Give the run: --against RUN."
        )
    return match_requests(task.items, task.reference.items)


def _records(scores: Callable[[Task], np.ndarray], task: Task) -> list[ResultRecord]:
    return [_part(scores, task, range(len(task.items)))]


def _part(scores: Callable[[Task], np.ndarray], task: Task, places: Sequence[int]) -> ResultRecord:
    """Compute the record of some of the images; images of one caption are one draw."""
    need, matched = task.needs[0], task.once(_matched)
    # Not by the files' hashes: equal images of two captions are two answers.
    draws = joined_draws(ties_of_items(task.items))[0]
    chosen = list(places)
    found = mean_interval(
        task.once(scores)[chosen], ids=[draws[i] for i in chosen], level=task.options.level
    )
    hashes = task.reference_sha256s
    equal = sum(task.samples.sha256s[i] == hashes[matched.places[i]] for i in chosen)
    details: dict[str, object] = {
        "label": task.row.records[0].label,
        "paired_by": matched.paired_by,
    }
    if "{" in str(details["label"]):
        details["label"] = f"CLIP cosine ({task.extractors[need.extractor].name})"
    if equal:
        details["equal_images"] = equal
    reasons = (
        f"paired by {matched.paired_by}" if "unknown" in matched.paired_by else "",
        "" if found.interval is not None else found.method,
    )
    return task.record(
        need,
        value=found.value,
        standard_error=found.standard_error,
        interval=found.interval,
        reason="; ".join(filter(None, reasons)),
        details=details,
    )


def _difference(
    scores: Callable[[Task], np.ndarray], first: Task, second: Task
) -> list[ResultRecord]:
    return [mean_difference(first, second, scores)]


def _metric(
    needs: Callable[[MeasureOptions], Sequence[Need]], scores: Callable[[Task], np.ndarray]
) -> Metric:
    return Metric(
        needs, partial(_records, scores), partial(_difference, scores), partial(_part, scores)
    )


def _need(extractor: str, layer: str) -> Callable[[MeasureOptions], Sequence[Need]]:
    return lambda options: [Need(extractor, layer)]


def _of_pixels(compare: Callable[[Images, Images], np.ndarray]) -> Callable[[Task], np.ndarray]:
    return partial(_by_pixels, lambda task, first, second: compare(first, second))


PSNR = _metric(_need("pixels", "rgb"), _of_pixels(psnr))
SSIM = _metric(_need("pixels", "rgb"), _of_pixels(ssim))
LPIPS = _metric(_need("lpips", "distance"), partial(_by_pixels, _lpips))
DINOV2_COSINE = _metric(_need("dinov2", ""), _by_features)
CLIP_COSINE = _metric(lambda options: [Need(extractor_key(options.clip_model), "")], _by_features)
