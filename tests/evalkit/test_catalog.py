"""The rows of the metrics, held against the metrics that they lead to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from jaxtyping import TypeCheckError

from evalkit.catalog import METRICS, MetricRow, RecordRow, describe
from evalkit.core.errors import ConfigError
from evalkit.metrics.loading import load_metric
from evalkit.metrics.task import declared_record
from evalkit.options import MeasureOptions

OWN = sorted(METRICS.own)


@pytest.mark.parametrize("name", OWN)
def test_a_row_and_its_metric_agree(name: str) -> None:
    row, metric = METRICS[name], load_metric(name)
    assert row.pairs == (metric.difference is not None)
    needs = metric.needs(MeasureOptions())
    assert row.needs_reference == any(need.reference for need in needs)
    assert row.needs_captions == any(need.prefix is not None for need in needs)


def test_a_record_is_found_by_its_name() -> None:
    for row in METRICS.own.values():
        for line in row.records:
            found = describe(line.name.replace("{k}", "7"))
            assert found is not None
            assert found.line == line
            assert found.fields == ({"k": "7"} if "{k}" in line.name else {})
    assert describe("precision-k3-extra") is None
    assert describe("unheard-of") is None


def test_a_difference_is_as_good_as_what_differs() -> None:
    record = declared_record("composition", METRICS["composition"], "composition-pairs-difference")
    made = record(value=0.5, n=3)
    assert (made.direction, made.unit) == ("higher", "share of images")


@pytest.mark.parametrize(
    ("metric", "record"),
    [
        ("fid", "fud"),
        ("images-per-second", "images-per-second-difference"),
        ("fid", "fid-infinity-2"),
    ],
)
def test_a_record_that_is_not_declared_is_refused(metric: str, record: str) -> None:
    with pytest.raises(ConfigError, match=f"{metric} yields a record '{record}'.* it declares"):
        declared_record(metric, METRICS[metric], record)


@pytest.mark.parametrize(
    ("label", "summary"), [("X {network}", ""), ("X", "by {features}"), ("X {k}", "")]
)
def test_words_that_nothing_fills_are_refused(label: str, summary: str) -> None:
    with pytest.raises(ValueError, match="known are"):
        RecordRow(name="x", label=label, direction="none", summary=summary)


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (lambda: RecordRow(name="a", label="A", direction="up"), "direction"),  # type: ignore[arg-type]
        (lambda: RecordRow(name="a-{k}-{k}", label="A", direction="lower"), "can't be matched"),
        (lambda: metric_row(records=("a",)), "records|RecordRow"),
        (lambda: metric_row(records=()), "needs a RecordRow for each record"),
        (lambda: metric_row(needs="stuff"), "needs"),
        (lambda: metric_row(min_n="two"), "min_n"),
    ],
)
def test_a_row_that_is_none_is_refused_where_it_is_made(
    row: Callable[[], object], complaint: str
) -> None:
    # Where types are checked, the checker may be first.
    with pytest.raises((ValueError, TypeCheckError), match=complaint):
        row()


def metric_row(**changes: object) -> MetricRow:
    good = {
        "target": "m:A", "summary": "s", "min_n": 1, "needs": "reference", "pairs": False,
        "paper": "p", "records": (RecordRow(name="a", label="A", direction="lower"),),
    }  # fmt: skip
    return MetricRow(**{**good, **changes})  # type: ignore[arg-type]


def test_a_record_is_asked_for_by_its_own_name() -> None:
    (field,) = (one for one in dataclasses.fields(MeasureOptions) if one.name == "metrics")
    parse = field.metadata["parse"]
    assert parse("fd-infinity, fid-infinity,fid,precision-k5") == ("fd", "fid", "prdc")
    assert parse("fid-infinite") == ("fid-infinite",)
