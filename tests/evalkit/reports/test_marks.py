"""Whatever a run's own table and page mark, a comparison marks as well."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from evalkit.core.results import ResultRecord
from evalkit.reports.difference_table import difference_table
from evalkit.reports.html import ComparisonReport, RunReport, render, render_comparison
from evalkit.reports.tables import comparison_table, metrics_tables, terminal_table
from evalkit.reports.views import difference_view, record_view
from tests.evalkit.reports.examples import make_record

OTHER_WEIGHTS = {"extractor": {"name": "inception", "weights_sha256": "00" * 32}}
MARKS: dict[str, dict[str, Any]] = {
    "weights not the 2015 ones": {"fingerprint": OTHER_WEIGHTS},
    "re-ranked": {"fingerprint": {"reranked": {"by": "clip:tiny", "candidates": 4}}},
    "n <= d": {"details": {"mark": "n <= d"}, "reason": "singular"},
    "trained on this data set": {"fingerprint": {"training_relation": "trained on this data set"}},
    "zero-shot": {"fingerprint": {"training_relation": "zero-shot"}},
    "unknown whether zero-shot": {"fingerprint": {"training_relation": "unknown"}},
    "3 samples are reference images": {"fingerprint": {"copies": {"samples_in_reference": 3}}},
    "2 samples are copies of another": {"fingerprint": {"copies": {"repeated_samples": 2}}},
}  # fmt: skip


def printed(table: RenderableType) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def words(table: RenderableType) -> str:
    """What a table says, wherever its lines break."""
    return " ".join(printed(table).split())


def records(mark: str) -> list[ResultRecord]:
    """Two models, of which the first one has the mark."""
    plain = make_record("fid", 12.0, subject="plain", direction="lower", fingerprint={})
    marked = make_record(
        "fid", 13.0, subject="marked", direction="lower", **{"fingerprint": {}, **MARKS[mark]}
    )
    return [marked, plain]


@pytest.mark.parametrize("mark", MARKS)
def test_every_mark_of_a_run_is_in_a_comparison(mark: str) -> None:
    marked, plain = records(mark)
    own = render(RunReport(title="t", question="q", records=[marked]))
    assert mark in words(terminal_table([marked])) or mark in own.replace("&lt;", "<")
    page = render_comparison(
        ComparisonReport(
            title="t", question="q", records=[marked, plain], subjects=["marked", "plain"]
        )
    ).replace("&lt;", "<")
    matrix = page[page.index('id="numbers"') : page.index('id="records"')]
    assert mark in matrix
    assert mark in words(comparison_table([marked, plain]))
    assert mark in words(metrics_tables([marked, plain]))
    unmarked = [replace(plain, subject=name) for name in ("one", "two")]
    assert mark not in words(comparison_table(unmarked))


def test_a_note_names_what_it_applies_to_once() -> None:
    """All of a model, all of a metric, or one number."""
    trained = {"training_relation": "trained on this data set"}
    rows = [
        make_record(metric, 1.0, subject=subject, reason=reason, fingerprint=fingerprint)
        for subject, fingerprint in (("a", trained), ("b", {}))
        for metric, reason in (
            ("kid", "few images"), ("clip-score", "alone" if subject == "b" else "")
        )
    ]  # fmt: skip
    text = printed(metrics_tables(rows))
    assert "\na: trained on this data set." in text
    assert "\nKID: few images." in text
    assert "\nb, CLIP score: alone." in text


def test_a_corrected_test_decides_whom_a_difference_favours() -> None:
    found = make_record(
        "kid-full-difference", -2.0, subject="a - b", direction="lower", half_width=1.0,
        details={"p_value": 0.01, "p_holm": 0.03, "num_tests": 3},
    )  # fmt: skip
    view = difference_view(record_view(found))
    assert (view.p_value, view.correction, view.favours) == ("p = 0.03", "Holm, 3 tests", "a")
    undone = replace(found, details={"p_value": 0.01, "p_holm": 0.2, "num_tests": 20})
    view = difference_view(record_view(undone))
    assert (view.p_value, view.favours) == ("p = 0.2", "")
    assert view.verdict == "none detected"
    alone = replace(found, details={"p_value": 0.01, "p_holm": 0.01, "num_tests": 1})
    view = difference_view(record_view(alone))
    assert (view.p_value, view.correction, view.favours) == ("p = 0.01", "", "a")


def test_why_a_difference_departs_from_the_table_is_said() -> None:
    why = "not that of the two values: compared on the 20 captions that both models have"
    found = make_record(
        "kid-full-difference", -2.0, subject="a - b", direction="lower", half_width=1.0,
        reason=why, details={"p_value": 0.01, "p_holm": 0.03, "num_tests": 3},
    )  # fmt: skip
    text = words(difference_table([found]))
    assert f"KID, full set: {why}." in text
    assert "p (Holm)" in text
    page = render_comparison(
        ComparisonReport(title="t", question="q", records=[found], subjects=["a", "b"])
    )
    assert why in page[page.index('id="differences"') : page.index('id="records"')]
    assert "p (Holm, 3 tests)</th>" in page
    assert ">0.03</td>" in page
