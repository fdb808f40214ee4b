"""Metrics of runs: what images alone don't tell, and the folder that they came from does.

`composition` needs the scene behind each caption, `images-per-second` the seconds of each batch.
They are asked for by name like the metrics of `evalkit.metrics.score`; of images that are no run
they are recorded as not applicable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.core.errors import RunFolderError
from evalkit.core.intervals import NO_FINITE_END, check_level, log_scale_interval, t_quantile
from evalkit.core.results import Interval, ResultRecord
from evalkit.core.run import ManifestRow, RunFolder
from evalkit.datasets.base import Caption, hash_captions
from evalkit.datasets.open import open_dataset

if TYPE_CHECKING:  # It brings scipy.stats and the checker, a second that other sets need not wait.
    from evalkit.metrics.composition import Composition

COMPOSITION = "composition"
SPEED = "images-per-second"
RUN_METRICS = (COMPOSITION, SPEED)
"""Names of the command line."""
WITH_SCENES = ("shapes",)
"""Data sets whose captions come with the scene that they describe."""


def has_scenes(run: RunFolder | None) -> bool:
    """Whether a run drew captions that say what is to be seen, of a data set found by name."""
    if run is None or run.config["conditioning"] != "text":
        return False
    return run.config["dataset"]["name"] in WITH_SCENES


@dataclass(frozen=True)
class RunMeasurer:
    """The metrics of one run, each computed when it is first asked for."""

    run: RunFolder | None
    """None for images that are no run."""
    num_images: int
    captions: Sequence[Caption] | None = None
    """Of the run; None opens its data set again."""
    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)

    def records(self, metrics: Sequence[str]) -> list[ResultRecord]:
        """Records of those of `RUN_METRICS` that are named, in their order.

        Raises:
            RunFolderError: The run's data set is no longer what it was.
        """
        ways = {COMPOSITION: self._composition_records, SPEED: self._speed_records}
        return [record for name in metrics if name in ways for record in ways[name]()]

    @cached_property
    def asked(self) -> Sequence[Caption]:
        """The caption behind each row of the manifest."""
        captions = self.captions or _captions(self._whole_run, self.rows)
        by_id = {caption.id: caption for caption in captions}
        return [by_id[row.caption_id] for row in self.rows]

    @cached_property
    def rows(self) -> Sequence[ManifestRow]:
        """The manifest."""
        return self._whole_run.rows()

    @cached_property
    def composition(self) -> Composition:
        """The run's images beside the scenes of their captions."""
        from evalkit.metrics.composition import Composition

        images: list[Any] = [
            self._whole_run.image_path(row) if row.file else None for row in self.rows
        ]
        scenes: list[Any] = [caption.scene for caption in self.asked]
        return Composition.of(images, scenes, [caption.text for caption in self.asked])

    @property
    def _whole_run(self) -> RunFolder:
        assert self.run is not None
        return self.run

    def _composition_records(self) -> list[ResultRecord]:
        given = self.captions is not None and all(caption.scene for caption in self.captions)
        if given or has_scenes(self.run):
            return self.composition.records(level=self.level)
        where = " or ".join(WITH_SCENES)
        reason = f"it needs the scenes behind the captions: a run of a text model on {where}"
        return [self._not_applicable(f"{COMPOSITION}-pairs", reason)]

    def _speed_records(self) -> list[ResultRecord]:
        timings = self.run.timings() if self.run is not None else []
        if not timings:
            return [self._not_applicable(SPEED, "it needs the seconds of each batch: a run")]
        return [_speed(timings, self.level)]

    def _not_applicable(self, metric: str, reason: str) -> ResultRecord:
        return ResultRecord(
            metric=metric, value=None, n=self.num_images, direction="higher",
            state="not_applicable", reason=reason,
        )  # fmt: skip


def composition_difference(first: RunMeasurer, second: RunMeasurer) -> list[ResultRecord]:
    """How much oftener one run shows what was prompted, over the captions that both had.

    Returns:
        One record; none where one of them is no run with scenes.
    """
    if not (has_scenes(first.run) and has_scenes(second.run)):
        return []
    from evalkit.metrics.composition import PAIRS
    from evalkit.metrics.paired_rates import paired_rate_difference

    record = partial(
        ResultRecord, metric=f"{PAIRS}-difference", direction="higher", unit="share of images"
    )
    found = [_found_by_caption(one) for one in (first, second)]
    shared = sorted(found[0].keys() & found[1].keys())
    if not shared:
        reason = "the two sets share no caption ids"
        return [record(value=None, n=0, state="not_applicable", reason=reason)]
    right = [np.array([one[name] for name in shared]) for one in found]
    difference = paired_rate_difference(right[0], right[1], level=first.level)
    return [
        record(
            value=difference.value,
            n=len(shared),
            interval=Interval(
                low=difference.low,
                high=difference.high,
                level=difference.level,
                method=difference.method,
            ),
            fingerprint=first.composition.identity,
            details={
                "p_value": difference.p_value,
                "shared_ids": len(shared),
                "only_first": difference.only_first,
                "only_second": difference.only_second,
            },
        )
    ]


def _found_by_caption(measurer: RunMeasurer) -> dict[str, bool]:
    pairs = measurer.composition.counts["pairs_found"].astype(bool).tolist()
    return {row.caption_id: hit for row, hit in zip(measurer.rows, pairs, strict=True)}


def _captions(run: RunFolder, rows: Sequence[ManifestRow]) -> Sequence[Caption]:
    """The captions that a run drew, from the data set that it names.

    Raises:
        RunFolderError: The data set doesn't have them, or no longer as they were.
    """
    wanted = {row.caption_id for row in rows}
    dataset = open_dataset(run.config["dataset"]["name"])
    captions = [caption for caption in dataset.captions if caption.id in wanted]
    if hash_captions(captions) != run.config["dataset"]["captions_sha256"]:
        raise RunFolderError(
            f"{run.path}: {dataset.name} no longer has the captions that this run drew; "
            "measure it with the evalkit that made it, or generate it again"
        )
    return captions


def _speed(timings: Sequence[dict[str, float]], level: float) -> ResultRecord:
    """Images over seconds, with a t interval of the log rate over the batches.

    The rate is a ratio of sums, so a batch's residual is what it took less what its images should
    have taken.
    """
    seconds = np.array([row["elapsed_s"] for row in timings])
    images = np.array([row["num_images"] for row in timings])
    n, batches = int(images.sum()), len(timings)
    rate = n / float(seconds.sum())
    record = partial(
        ResultRecord, metric=SPEED, value=rate, n=n, direction="higher", unit="images/s"
    )
    if batches < 2:
        return record(reason="no interval: one batch has no spread")
    residuals = seconds - images / rate
    error = float(np.sqrt(batches / (batches - 1) * np.sum(residuals**2))) / float(seconds.sum())
    reach = t_quantile(level, batches - 1) * error
    ends = log_scale_interval(rate, -reach, reach)
    method = f"t interval of the log rate over {batches} batches of this run and machine"
    return record(
        standard_error=rate * error,
        interval=ends and Interval(low=ends[0], high=ends[1], level=level, method=method),
        reason="" if ends else NO_FINITE_END,
        details={"batches": batches, "seconds": float(seconds.sum())},
    )
