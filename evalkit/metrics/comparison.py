"""Paired differences of two models on the same captions, with intervals and p-values.

Each metric defines its own difference (`Metric.difference`); this module prepares the sets and
pairs their tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from evalkit.catalog import METRICS
from evalkit.core.errors import ConfigError
from evalkit.core.progress import ProgressFactory, silent
from evalkit.core.results import ResultRecord
from evalkit.features.sources import ImageItem
from evalkit.metrics.score import PreparedSet, ReferenceStatistics, Scorer
from evalkit.metrics.task import Metric, Task, declared_line
from evalkit.options import MeasureOptions


def compare_sets(
    first: Sequence[ImageItem],
    second: Sequence[ImageItem],
    reference: Sequence[ImageItem] | ReferenceStatistics | None,
    metrics: Sequence[str],
    options: MeasureOptions | None = None,
    progress: ProgressFactory = silent,
) -> list[ResultRecord]:
    """Compute the paired differences of two models, the first minus the second.

    Args:
        first: Samples of one model, with the ids of their captions.
        second: Samples of the other.
        reference: Real images, or their statistics.
        metrics: Names of `evalkit.catalog.METRICS` whose row has `pairs`.
        options: As for `score_sets`.
        progress: As for `score_sets`.

    Returns:
        The records `NAME-difference` of each metric; their details hold the p-value.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: A metric without a paired difference.
        DataError: An image or a statistics file is unusable.
        NotEnoughImagesError: Fewer images than a metric is defined for.
        MissingWeightsError: A metric's weights are neither cached nor reachable.
    """
    wrong = [name for name in metrics if not METRICS[name].pairs]
    if wrong:
        raise ConfigError(
            f"{wrong[0]!r} has no paired difference; choose from {', '.join(_pairing())}."
        )
    scorer = Scorer.of(reference, metrics, options, progress)
    for name in metrics:
        missing = scorer.why_missing(name)
        if missing is not None:
            raise missing
    return paired_differences(scorer.prepare(first), scorer.prepare(second))


def paired_differences(first: PreparedSet, second: PreparedSet) -> list[ResultRecord]:
    """Compute the differences of all metrics that both sets have and that define one.

    Raises:
        ConfigError: A metric yields a record that its row doesn't declare.
    """
    return [
        record
        for name, task in first.tasks.items()
        if name in second.tasks
        for record in _difference(first.metrics[name], task, second.tasks[name])
    ]


def _difference(metric: Metric, first: Task, second: Task) -> list[ResultRecord]:
    records = metric.difference(first, second) if metric.difference is not None else []
    for record in records:
        declared_line(first.name, first.row, record.metric)
    return records


def _pairing() -> list[str]:
    """Return the metrics that define a paired difference, without those of broken packages."""
    found = []
    for name in METRICS:
        with suppress(ConfigError):
            found += [name] if METRICS[name].pairs else []
    return found
