"""Load metrics by name, and check them against their rows."""

from __future__ import annotations

from collections.abc import Sequence

from evalkit.catalog import METRICS, MetricRow
from evalkit.core.errors import ConfigError, EvalkitError
from evalkit.core.registry import load
from evalkit.metrics.task import Metric, Need
from evalkit.options import MeasureOptions


def load_metric(name: str) -> Metric:
    """Load a metric by name.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Its row's target is not a metric, or contradicts the row.
    """
    row = METRICS[name]
    try:
        found = load(row.target)
    except EvalkitError:
        raise
    except Exception as error:  # a foreign module may raise anything on import
        if name in METRICS.own:
            raise
        raise _broken(name, f"{row.target!r} can't be loaded ({error})") from error
    if not isinstance(found, Metric):
        raise _broken(name, f"{row.target!r} is a {type(found).__name__}, expected a Metric")
    if row.pairs != (found.difference is not None):
        defined = "no difference" if row.pairs else "a difference"
        raise _broken(name, f"its row says pairs={row.pairs}, but {row.target!r} has {defined}")
    return found


def metric_needs(name: str, options: MeasureOptions) -> Sequence[Need]:
    """Return the features that a metric needs.

    Raises:
        UnknownNameError: No such metric.
        ConfigError: Options that the metric does not support, or a row that contradicts it.
    """
    row, needs = METRICS[name], load_metric(name).needs(options)
    _check_row(name, row, needs)
    return needs


def _check_row(name: str, row: MetricRow, needs: Sequence[Need]) -> None:
    """Check that a metric needs no more than its row declares."""
    for what, wanted, said in (
        ("the reference", any(need.reference for need in needs), row.needs_reference),
        ("captions", any(need.prefix is not None for need in needs), row.needs_captions),
    ):
        if wanted and not said:
            raise _broken(name, f"its row says needs={row.needs!r}, but it takes {what} as well")


def _broken(name: str, why: str) -> ConfigError:
    return ConfigError(f"Metric {name}: {why}. Repair or remove the package that registers it.")
