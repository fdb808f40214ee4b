"""Composition: does the image show what its prompt says? With ground truth, for `shapes` only.

A detector without a network (`shapes.detector`) finds the objects of the image; `compare` matches
them with the scene of the caption. The result is counts per image, which `Composition` turns into
shares with intervals and a chance level: the same images against other images' captions.

Reports call `composition-pairs` "Prompts found" (every prompted shape and colour is in the image)
and `composition-exact` "Scenes right" (and no other objects, right counts and relations).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from scipy.optimize import linear_sum_assignment

from evalkit.catalog import DATASETS, DIFFERENCE_SUFFIX, METRICS
from evalkit.core.errors import DataError, NotEnoughImagesError
from evalkit.core.intervals import (
    check_level,
    wilson_interval_of_hits,
)
from evalkit.core.pixels import RGBImage, read_rgb
from evalkit.core.results import Interval, ResultRecord
from evalkit.datasets.shapes.captions import mentions
from evalkit.datasets.shapes.detector import MIN_CONFIDENCE, Detection, detect
from evalkit.datasets.shapes.scene import Scene
from evalkit.metrics.draws import joined_draws, ties_of
from evalkit.metrics.paired_rates import paired_share_difference
from evalkit.metrics.pairing import NOTHING_SHARED, why_by_caption
from evalkit.metrics.shares import ClusteredShare, share_of
from evalkit.metrics.source_run import SourceRun
from evalkit.metrics.task import Metric, Need, Task, declared_record
from evalkit.options import MeasureOptions

DETECTOR_VERSION = 1
NAME = "composition"
PAIRS = "composition-pairs"
"""The rate that comparisons use: every prompted shape and colour is in the image."""
MIN_DISTANCE_PX = 4.0
"""Centres closer than this along both axes have no relation."""
_NUM_SHUFFLES = 3

Source = RGBImage | Path | str | bytes | None
SceneLike = Scene | Mapping[str, Any]


@dataclass(frozen=True)
class SceneCheck:
    """Counts for one image: what its caption requests and what the image shows of it."""

    objects: int
    """Objects requested."""
    objects_found: int
    """Of these, found with the right shape and colour; each detected object counts once."""
    attributes: int
    """Shapes, colours and (if the caption mentions them) sizes requested."""
    attributes_found: int
    """Of these, found on the best matching objects."""
    relations: int
    """Relations requested."""
    relations_found: int
    """Of these, true of objects with the right shape and colour."""
    pairs_found: int
    """1 if every requested (shape, colour) is present at least once, else 0."""
    exact: int
    """1 if the image shows the requested objects, no others, and every relation, else 0."""


def check(image: RGBImage, scene: Scene, *, caption: str | None = None) -> SceneCheck:
    """Compare one image with the scene that its caption describes.

    Args:
        image: RGB 0-255 of any size.
        scene: The scene of the caption.
        caption: The caption; sizes count only if it mentions them. None: sizes don't count.
    """
    return compare(detect(image), scene, caption=caption)


def compare(
    detections: Sequence[Detection], scene: Scene, *, caption: str | None = None
) -> SceneCheck:
    """Compare detected objects with the scene that the caption describes."""
    with_sizes = caption is not None and "size" in mentions(caption)
    wanted = Counter((item.shape, item.colour) for item in scene.objects)
    found = Counter((item.shape, item.colour) for item in detections)
    relations_found = _count_true_relations(detections, scene)
    return SceneCheck(
        objects=len(scene.objects),
        objects_found=(wanted & found).total(),
        attributes=len(scene.objects) * (3 if with_sizes else 2),
        attributes_found=_count_attributes(detections, scene, with_sizes=with_sizes),
        relations=len(scene.relations),
        relations_found=relations_found,
        pairs_found=int(set(wanted) <= set(found)),
        exact=int(wanted == found and relations_found == len(scene.relations)),
    )


def read_relation(one: tuple[float, float], other: tuple[float, float]) -> str | None:
    """Return the relation of one centre (x, y) to another, along the axis of larger distance.

    >>> read_relation((10.0, 30.0), (40.0, 35.0))
    'left of'
    >>> read_relation((30.0, 50.0), (32.0, 10.0))
    'below'
    """
    dx, dy = one[0] - other[0], one[1] - other[1]
    if max(abs(dx), abs(dy)) < MIN_DISTANCE_PX:
        return None
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def _count_true_relations(detections: Sequence[Detection], scene: Scene) -> int:
    def matching(number: int) -> list[Detection]:
        item = scene.objects[number]
        return [d for d in detections if (d.shape, d.colour) == (item.shape, item.colour)]

    return sum(
        any(
            read_relation(one.centre, other.centre) == relation.relation
            for one in matching(relation.subject)
            for other in matching(relation.object)
        )
        for relation in scene.relations
    )


def _count_attributes(detections: Sequence[Detection], scene: Scene, *, with_sizes: bool) -> int:
    """Count matching attributes under the best matching of requested and found objects."""
    if not detections:
        return 0
    agree = np.array(
        [
            [
                (item.shape == found.shape)
                + (item.colour == found.colour)
                + (with_sizes and item.size == found.size)
                for found in detections
            ]
            for item in scene.objects
        ]
    )
    rows, columns = linear_sum_assignment(agree, maximize=True)
    return int(agree[rows, columns].sum())


@dataclass(frozen=True)
class Composition:
    """A set of images with their detected objects, and the scenes of their captions."""

    detections: Sequence[Sequence[Detection]]
    scenes: Sequence[Scene]
    captions: Sequence[str] | None
    missing: int
    """Number of images that were never generated; they show nothing."""

    @classmethod
    def of(
        cls,
        images: Sequence[Source],
        scenes: Sequence[SceneLike],
        captions: Sequence[str] | None = None,
    ) -> Composition:
        """Detect the objects of all images.

        Args:
            images: Pixels, files or file contents; None (nothing was generated) shows nothing.
            scenes: The scene of each image's caption, as an object or as in an annotation.
            captions: The captions; sizes count only where they mention them.

        Raises:
            NotEnoughImagesError: There is no image.
            DataError: The numbers of images, scenes and captions differ, or a file is not an image.
        """
        _check_lengths(images, scenes, captions)
        missing = sum(image is None for image in images)
        detections = [_detect_source(image) for image in images]
        return cls(detections, _as_scenes(scenes), captions, missing)

    @cached_property
    def counts(self) -> dict[str, Int[np.ndarray, " images"]]:
        """The counts of `SceneCheck`, one array each, in the order of the images."""
        return _as_arrays(self.detections, self.scenes, self.captions)

    def records(
        self, *, ids: Sequence[str] | None = None, level: float = 0.95, seed: int = 0
    ) -> list[ResultRecord]:
        """Return shares and rates with intervals and chance levels.

        Shares (`composition-objects`, `-attributes`, `-relations`) are found over requested, summed
        over images. Rates (`composition-pairs`, `composition-exact`) are shares of images. All have
        Wilson intervals at the effective number of draws.
        `composition-pairs-shuffled` is the rate of the same images against other images' captions:
        the chance level of `composition-pairs`.

        Args:
            ids: One id per image; images with the same id (samples of one caption) are one draw.
            level: Level of the intervals.
            seed: Seed of the shuffled captions.

        Raises:
            ConfigError: A level outside (0, 1).
        """
        check_level(level)
        shuffled = _shuffled_counts(self.detections, self.scenes, self.captions, seed)
        summary = _Summary(self.counts, shuffled, self.scenes, ids, level)
        records = [
            summary.rate("pairs_found", PAIRS),
            summary.shuffled_rate("pairs_found", f"{PAIRS}-shuffled"),
            summary.rate("exact", "composition-exact"),
            summary.share("objects", "composition-objects"),
            summary.share("attributes", "composition-attributes"),
            summary.share("relations", "composition-relations"),
        ]
        details = {"missing_images": self.missing} if self.missing else {}
        fingerprint = {**self.identity, "shuffle_seed": seed}
        return [
            replace(record, fingerprint=fingerprint, details={**record.details, **details})
            for record in records
        ]

    @property
    def identity(self) -> dict[str, Any]:
        """What determines the counts, for fingerprints."""
        return {
            "checker": f"evalkit shape detector {DETECTOR_VERSION}",
            "min_confidence": MIN_CONFIDENCE,
            "sizes_asked": self.captions is not None,
        }


def _as_scenes(scenes: Sequence[SceneLike]) -> list[Scene]:
    return [scene if isinstance(scene, Scene) else Scene.from_json(scene) for scene in scenes]


def _check_lengths(
    images: Sequence[Source], scenes: Sequence[SceneLike], captions: Sequence[str] | None
) -> None:
    if len(images) == 0:
        raise NotEnoughImagesError(
            "Composition needs at least 1 image, got 0. Generate images first."
        )
    for name, others in (("scenes", scenes), ("captions", captions)):
        if others is not None and len(others) != len(images):
            raise DataError(f"Composition got {len(images)} images but {len(others)} {name}.")


def _detect_source(image: Source) -> list[Detection]:
    if image is None:
        return []
    return detect(image if isinstance(image, np.ndarray) else read_rgb(image))


def _as_arrays(
    detections: Sequence[Sequence[Detection]],
    scenes: Sequence[Scene],
    captions: Sequence[str] | None,
) -> dict[str, Int[np.ndarray, " images"]]:
    texts: Sequence[str | None] = [None] * len(scenes) if captions is None else captions
    checks = [
        compare(found, scene, caption=text)
        for found, scene, text in zip(detections, scenes, texts, strict=True)
    ]
    return {
        field.name: np.array([getattr(one, field.name) for one in checks], dtype=np.int64)
        for field in fields(SceneCheck)
    }


def _shuffled_counts(
    detections: Sequence[Sequence[Detection]],
    scenes: Sequence[Scene],
    captions: Sequence[str] | None,
    seed: int,
) -> dict[str, Int[np.ndarray, " images"]] | None:
    """Count each image against other images' scenes; None if there is no other image."""
    count = len(scenes)
    if count < 2:
        return None
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    rounds = []
    for shift in range(1, min(_NUM_SHUFFLES, count - 1) + 1):
        # Image order[k] gets the scene of order[k + shift], never its own.
        other = np.empty(count, dtype=np.int64)
        other[order] = np.roll(order, -shift)
        texts = None if captions is None else [captions[k] for k in other.tolist()]
        rounds.append(_as_arrays(detections, [scenes[k] for k in other.tolist()], texts))
    return {name: np.concatenate([r[name] for r in rounds]) for name in rounds[0]}


@dataclass(frozen=True)
class _Summary:
    """Turn per-image counts into records."""

    counts: Mapping[str, Int[np.ndarray, " images"]]
    shuffled: Mapping[str, Int[np.ndarray, " checks"]] | None
    scenes: Sequence[Scene]
    ids: Sequence[str] | None
    level: float

    def rate(self, name: str, metric: str) -> ResultRecord:
        """Return the share of images that satisfy a condition."""
        hits = self.counts[name]
        details: dict[str, Any] = {"by_group": self._by_group(hits)}
        if self.shuffled is not None:
            details["chance"] = float(self.shuffled[name].mean())
        share = share_of(hits, ids=self.ids, level=self.level)
        return self._shown(metric, share, n=len(hits), details=details)

    def shuffled_rate(self, name: str, metric: str) -> ResultRecord:
        """Return the same share with other images' captions: the chance level."""
        n, record = len(self.scenes), _record(metric)
        if self.shuffled is None:
            reason = "shuffled captions need at least 2 images"
            return record(value=None, n=n, state="not_applicable", reason=reason)
        # The rounds share their images, so they are n observations, not rounds times n.
        means = self.shuffled[name].reshape(-1, n).mean(axis=0)
        share = share_of(means, ids=self.ids, level=self.level)
        return self._shown(metric, share, n=n)

    def share(self, name: str, metric: str) -> ResultRecord:
        """Return found over requested, summed over images."""
        found, asked = self.counts[f"{name}_found"], self.counts[name]
        record = partial(_record(metric), n=len(asked))
        if asked.sum() == 0:
            reason = f"no caption asks for {name}"
            return record(value=None, state="not_applicable", reason=reason)
        details: dict[str, float] = {"asked": int(asked.sum()), "found": int(found.sum())}
        if self.shuffled is not None and self.shuffled[name].sum() > 0:
            chance = self.shuffled[f"{name}_found"].sum() / self.shuffled[name].sum()
            details["chance"] = float(chance)
        share = share_of(found, asked, ids=self.ids, level=self.level)
        return self._shown(metric, share, n=len(asked), details=details)

    def _shown(
        self,
        metric: str,
        share: ClusteredShare,
        *,
        n: int,
        details: Mapping[str, Any] | None = None,
    ) -> ResultRecord:
        return _record(metric)(
            value=share.value,
            n=n,
            standard_error=share.standard_error,
            interval=Interval(
                low=share.low, high=share.high, level=self.level, method=share.method
            ),
            details=details or {},
        )

    def _by_group(self, hits: Int[np.ndarray, " images"]) -> dict[str, dict[str, float]]:
        """Return the rate by kind of scene, and for combinations seen in training or held out."""
        groups: dict[str, list[int]] = {}
        for hit, scene in zip(hits.tolist(), self.scenes, strict=True):
            groups.setdefault(scene.kind, []).append(hit)
            groups.setdefault("held out" if scene.held_out else "seen", []).append(hit)
        return {
            name: {"value": sum(group) / len(group), "n": len(group)}
            for name, group in sorted(groups.items())
        }


def wilson_interval(hits: int, n: int, *, level: float = 0.95) -> Interval:
    """Compute Wilson's score interval for a share of independent images (Wilson 1927).

    >>> interval = wilson_interval(8, 10)
    >>> round(interval.low, 3), round(interval.high, 3)
    (0.49, 0.943)
    """
    low, high = wilson_interval_of_hits(hits, n, level=level)
    return Interval(low=low, high=high, level=level, method="Wilson score over images")


def _needs(options: MeasureOptions) -> Sequence[Need]:
    del options
    return []


def _records(task: Task) -> list[ResultRecord]:
    if task.run is not None and task.run.has_scenes:
        found = task.once(_of_task).records(ids=_ids(task)[0], level=task.options.level)
        return [
            replace(
                record,
                fingerprint={**record.fingerprint, **task.counted_copies(None)},
                details={**record.details, **task.counted_copies(None)},
            )
            for record in found
        ]
    where = " or ".join(name for name, row in DATASETS.own.items() if row.has_scenes)
    reason = f"it needs the scenes behind the captions: a run of a text model on {where}"
    n = len(task.items)
    return [
        _record(PAIRS)(
            value=None,
            n=n,
            state="not_applicable",
            reason=reason,
            fingerprint=task.counted_copies(None),
        )
    ]


_COMPARED = (
    ("pairs", "pairs_found", None),
    ("exact", "exact", None),
    ("objects", "objects_found", "objects"),
    ("attributes", "attributes_found", "attributes"),
    ("relations", "relations_found", "relations"),
)
"""Records that have a difference: the name, the count found, and the count asked for."""


def _difference(first: Task, second: Task) -> list[ResultRecord]:
    """Compute the differences over the captions that both runs share.

    Return no record if one of the sets is not a run with scenes.
    """
    runs = (first.run, second.run)
    if not all(run is not None and run.has_scenes for run in runs):
        return []
    rows = [_rows_by_caption(task) for task in (first, second)]
    shared = sorted(rows[0].keys() & rows[1].keys())
    if not shared:
        record = _record(f"{PAIRS}{DIFFERENCE_SUFFIX}")
        return [record(value=None, n=0, state="not_applicable", reason=NOTHING_SHARED)]
    draws, _ = _ids(first, second)
    why = why_by_caption(rows, len(shared))
    details = {"shared_ids": len(shared), **({"compared_on": why} if why else {})}
    ids = [draws[rows[0][name][0]] for name in shared]
    records = []
    for name, found, asked in _COMPARED:
        means = [
            _means(task, found, [one[caption] for caption in shared])
            for task, one in zip((first, second), rows, strict=True)
        ]
        units = None
        if asked is not None:
            units = _means(first, asked, [rows[0][caption] for caption in shared])
            if not units.any():
                continue
        difference = paired_share_difference(
            means[0], means[1], units, ids=ids, level=first.options.level
        )
        records.append(
            _record(f"composition-{name}{DIFFERENCE_SUFFIX}")(
                value=difference.value,
                n=len(shared),
                interval=Interval(
                    low=difference.low,
                    high=difference.high,
                    level=difference.level,
                    method=difference.method,
                ),
                fingerprint=first.once(_of_task).identity,
                details={
                    "p_value": difference.p_value,
                    **details,
                    "only_first": int((means[0] > means[1]).sum()),
                    "only_second": int((means[1] > means[0]).sum()),
                },
            )
        )
    return records


def _record(name: str) -> partial[ResultRecord]:
    return declared_record(NAME, METRICS[NAME], name)


def _of_task(task: Task) -> Composition:
    """Read a run's images and pair them with the scenes of their captions."""
    run = _run(task)
    images = [run.folder.image_path(row) if row.file else None for row in run.rows]
    captions = run.captions
    scenes = [caption.scene for caption in captions if caption.scene]
    return Composition.of(images, scenes, [caption.text for caption in captions])


def _rows_by_caption(task: Task) -> dict[str, list[int]]:
    """Return the places of each caption's rows in the manifest."""
    found: dict[str, list[int]] = {}
    for place, row in enumerate(_run(task).rows):
        found.setdefault(row.caption_id, []).append(place)
    return found


def _means(task: Task, count: str, places: Sequence[Sequence[int]]) -> Float64[np.ndarray, " n"]:
    """Return a count's mean over the images of each caption."""
    counts = task.once(_of_task).counts[count]
    return np.array([counts[of].mean() for of in places], np.float64)


def _ids(*tasks: Task) -> list[list[str]]:
    """Return the draw of each row of each run: its reference image, else its caption."""
    sets = [
        [
            ties_of(image_id=row.image_id, caption_id=row.caption_id, sha256=None)
            for row in _run(task).rows
        ]
        for task in tasks
    ]
    return joined_draws(*sets)


def _run(task: Task) -> SourceRun:
    assert task.run is not None
    return task.run


COMPOSITION = Metric(_needs, _records, _difference)
