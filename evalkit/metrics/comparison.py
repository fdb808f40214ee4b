"""Paired differences of two models on the same captions, with intervals and p-values.

Each metric defines its own difference (`Metric.difference`); this module prepares the sets and
pairs their tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from evalkit.catalog import DIFFERENCE_SUFFIX, METRICS
from evalkit.core.errors import ConfigError
from evalkit.core.progress import ProgressFactory, silent
from evalkit.core.results import ResultRecord
from evalkit.features.sources import ImageItem
from evalkit.metrics.frechet.products import products_on
from evalkit.metrics.score import PreparedSet, ReferenceStatistics, Scorer
from evalkit.metrics.task import Metric, Task, declared_line
from evalkit.options import MeasureOptions

_ROUNDING = 1e-6
"""Relative difference of two values that is rounding."""


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


def holm_corrected(records: Sequence[ResultRecord]) -> list[ResultRecord]:
    """Correct the p-values of all records that have one, over all of them (Holm 1979).

    The probability of any false alarm among them is then at most the level. The corrected p-value
    is in the details as `p_holm`, with the number of tests as `num_tests`.
    """
    p_values = {
        place: float(record.details["p_value"])
        for place, record in enumerate(records)
        if record.details.get("p_value") is not None
    }
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        replace(
            record,
            details={
                **record.details, "p_holm": corrected[place], "num_tests": len(p_values),
            },
        )
        if place in corrected
        else record
        for place, record in enumerate(records)
    ]  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979), in their order.

    >>> holm([0.03, 0.01, 0.9])
    [0.06, 0.03, 0.9]
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def said_against_table(
    differences: Sequence[ResultRecord],
    first: Sequence[ResultRecord],
    second: Sequence[ResultRecord],
) -> list[ResultRecord]:
    """Say of each difference that is not that of the two sets' own records why it isn't.

    Args:
        differences: The paired differences of two sets.
        first: The records of the first set.
        second: The records of the second set.

    Returns:
        The differences; where one departs from its records, `table_difference` is in its details,
        and its reason says why.
    """
    values = [{record.metric: record.value for record in records} for records in (first, second)]
    return [_against_table(record, values) for record in differences]


def _against_table(
    record: ResultRecord, values: Sequence[Mapping[str, float | None]]
) -> ResultRecord:
    stem = record.metric.removesuffix(DIFFERENCE_SUFFIX)
    # The difference of a distance is that of its corrected values.
    names = [name for name in (f"{stem}-infinity", stem) if name in values[0]]
    of = [one.get(names[0]) for one in values] if names else [None]
    if record.value is None or None in of:
        return record
    shown = float(of[0] or 0.0) - float(of[1] or 0.0)
    size = max(abs(float(value or 0.0)) for value in of)
    if abs(record.value - shown) <= _ROUNDING * size:
        return record
    why = record.details.get("compared_on") or "the difference is estimated by itself"
    return replace(
        record,
        reason="; ".join(filter(None, [record.reason, f"not that of the two values: {why}"])),
        details={**record.details, "table_difference": shown},
    )


def _difference(metric: Metric, first: Task, second: Task) -> list[ResultRecord]:
    with products_on(first.options.device):
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
