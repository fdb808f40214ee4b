"""Images per second: the sampling speed of a run, on the machine that made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from evalkit.core.intervals import NO_FINITE_END, log_scale_interval, t_quantile
from evalkit.core.results import Interval, ResultRecord
from evalkit.metrics.task import Metric, Need, Task, declared_record
from evalkit.options import MeasureOptions


def _needs(options: MeasureOptions) -> Sequence[Need]:
    del options
    return []


def _records(task: Task) -> list[ResultRecord]:
    record = declared_record(task.name, task.row, task.name)
    timings = task.run.timings() if task.run is not None else []
    if task.run is not None and task.run.folder.config.get("compiled"):
        timings = timings[1:] or timings  # the first batch waits for the compiler
    if timings:
        return [_speed(record, timings, task.options.level)]
    reason = "it needs the seconds of each batch: a run"
    return [record(value=None, n=len(task.items), state="not_applicable", reason=reason)]


def _speed(
    record: partial[ResultRecord], timings: Sequence[Mapping[str, float]], level: float
) -> ResultRecord:
    """Compute images per second, with a t interval of the log rate over the batches.

    The rate is a ratio of sums, so a batch's residual is its time minus the time that its number of
    images predicts.
    """
    seconds = np.array([row["elapsed_s"] for row in timings])
    images = np.array([row["num_images"] for row in timings])
    n, batches = int(images.sum()), len(timings)
    rate = n / float(seconds.sum())
    if batches < 2:
        return record(value=rate, n=n, reason="no interval: one batch has no spread")
    residuals = seconds - images / rate
    error = float(np.sqrt(batches / (batches - 1) * np.sum(residuals**2))) / float(seconds.sum())
    reach = t_quantile(level, batches - 1) * error
    ends = log_scale_interval(rate, -reach, reach)
    method = f"t interval of the log rate over {batches} batches of this run and machine"
    return record(
        value=rate,
        n=n,
        standard_error=rate * error,
        interval=ends and Interval(low=ends[0], high=ends[1], level=level, method=method),
        reason="" if ends else NO_FINITE_END,
        details={"batches": batches, "seconds": float(seconds.sum())},
    )


IMAGES_PER_SECOND = Metric(_needs, _records)
