"""CSV and terminal: complete, tidy, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from evalkit.core.results import Interval, read_records, write_records
from evalkit.reports.difference_table import difference_table
from evalkit.reports.tables import (
    COLUMNS,
    comparison_table,
    metrics_tables,
    models_table,
    safe_cell,
    terminal_table,
    tidy_row,
    write_csv,
)
from tests.evalkit.reports.examples import (
    EXTRACTOR,
    MEASURING,
    comparison_records,
    make_record,
    run_records,
)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def printed(table: RenderableType, width: int = 160) -> str:
    buffer = io.StringIO()
    Console(file=buffer, width=width, color_system=None).print(table)
    return buffer.getvalue()


def test_every_record_is_a_row_with_all_its_digits(tmp_path: Path) -> None:
    records = run_records()
    write_csv(tmp_path / "results.csv", records)
    rows = read_rows(tmp_path / "results.csv")
    assert [row["metric"] for row in rows] == [record.metric for record in records]
    for row, record in zip(rows, records, strict=True):
        assert (float(row["value"]) if row["value"] else None) == record.value
        assert (row["state"], row["reason"], int(row["n"])) == (
            record.state,
            record.reason,
            record.n,
        )
        if record.interval:
            assert float(row["low"]) == record.interval.low
            assert float(row["level"]) == record.interval.level


def test_fixed_columns_come_first_then_the_fingerprint(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", run_records())
    header = (tmp_path / "results.csv").read_text("utf-8").splitlines()[0].split(",")
    assert tuple(header[: len(COLUMNS)]) == COLUMNS
    assert all(name.startswith("fingerprint.") for name in header[len(COLUMNS) :])
    assert "fingerprint.steps.base" in header
    assert len(header) == len(set(header))


def test_a_csv_without_records_has_its_header(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", [])
    assert (tmp_path / "results.csv").read_text("utf-8") == ",".join(COLUMNS) + "\n"


def test_json_and_csv_agree_after_a_round_trip(tmp_path: Path) -> None:
    records = comparison_records()
    write_records(tmp_path / "results.json", records)
    again = read_records(tmp_path / "results.json")
    assert [tidy_row(record) for record in again] == [tidy_row(record) for record in records]


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+SUM(A1)", "-cmd|' /C calc'!A0", "@import", "\tx", "\rx", "\n=1", "  =1+1", "＝1"],
)
def test_formulas_are_neutralised(text: str, tmp_path: Path) -> None:
    record = make_record(subject=text, reason=text, fingerprint={"prompt": text})
    write_csv(tmp_path / "results.csv", [record])
    row = read_rows(tmp_path / "results.csv")[0]
    assert {row["subject"], row["reason"], row["fingerprint.prompt"]} == {f"'{text}"}


@pytest.mark.parametrize("text", ["-0.5", "+3", "-1.5e-07", "a=b", "glide:tiny", "", "עברית", "'="])
def test_numbers_and_plain_text_stay_as_they_are(text: str) -> None:
    assert safe_cell(text) == text


@pytest.mark.parametrize("text", ["-1.5x", "-inf", "+1_000", "-1,5", "-٣"])
def test_what_only_resembles_a_number_is_neutralised(text: str) -> None:
    assert safe_cell(text) == f"'{text}"


def test_text_that_no_encoding_holds_does_not_break_the_file(tmp_path: Path) -> None:
    write_csv(tmp_path / "results.csv", [make_record(subject="broken \ud800 emoji")])
    assert read_rows(tmp_path / "results.csv")[0]["subject"] == "broken ? emoji"


def test_the_terminal_shows_values_states_and_reasons() -> None:
    text = printed(terminal_table(run_records(), title="A run"))
    for wanted in (
        "3.81 [3.57, 4.06]",
        "FD (shapes-clip) ↓",
        "not an FID",
        "value [95 % interval]",
        "not applicable",
        "needs 100 distinct captions",
        "failed",
        "4.62",
        "(images/s)",
        "All rows: trained on this data set.",
    ):
        assert wanted in text


def test_standard_error_stands_in_where_there_is_no_interval() -> None:
    record = make_record(value=12.2431, standard_error=0.23, reason="no interval: n <= d")
    assert "12.24 (s.e. 0.23)" in printed(terminal_table([record]))


def test_levels_are_shown_where_they_differ() -> None:
    interval = Interval(low=0.9, high=1.1, level=0.9, method="bootstrap")
    ninety = make_record("kid", 1.0, interval=interval)
    text = printed(terminal_table([make_record(half_width=0.4), ninety]))
    assert "95 %" in text
    assert "90 %" in text


def test_markup_of_rich_in_names_stays_text() -> None:
    record = make_record(subject="[red]model[/red]", reason="[link=x]no[/link] interval")
    others = make_record(subject="[/]")
    text = printed(terminal_table([record, others])) + printed(comparison_table([record, others]))
    assert "[red]model[/red]" in text
    assert "[link=x]no[/link]" in text


def test_the_comparison_on_the_terminal() -> None:
    text = printed(comparison_table(comparison_records()))
    for wanted in ("30.44 (a)", "28.02 (b)", "[3.05, 3.65]", "failed: too few", "not measured"):
        assert wanted in text
    assert "a and b are not comparable" in text
    assert "re-ranked" in text


def test_two_records_of_one_cell_are_both_shown() -> None:
    records = [
        make_record(value=value, subject="m", fingerprint=MEASURING | {"guidance": value})
        for value in (1.5, 3.25)
    ]
    text = printed(comparison_table(records))
    assert "1.5 (a)" in text
    assert "3.25 (b)" in text


def test_one_run_fits_eighty_columns_without_losing_a_digit() -> None:
    text = printed(terminal_table(run_records()), width=80)
    assert "…" not in text
    assert text.count("1,000") == sum(record.n == 1000 for record in run_records())
    assert "0.7312 [0.7125, 0.7499]" in text
    assert max(map(len, text.splitlines())) <= 80


def test_many_metrics_of_two_models_fit_eighty_columns() -> None:
    records = [
        make_record(metric, value, subject=subject, half_width=0.4)
        for subject, shift in (("first model", 0.0), ("second model", 1.0))
        for metric, value in (("fid", 12 + shift), ("kid", 1 + shift), ("is", 5), ("sfid", 9))
    ]
    text = printed(models_table(records), width=80)
    assert max(map(len, text.splitlines())) <= 80
    for wanted in ("first model", "second model", "13.00 [12.60, 13.40]", "sFID"):
        assert wanted in text
    assert text.index("FID") < text.index("KID")
    # A model that lacks a metric says so; few metrics stand side by side; many models in parts.
    assert "not measured" in printed(metrics_tables(records[:-1]))
    few = [record for record in records if record.metric in ("fid", "kid")]
    assert printed(models_table(few)) == printed(comparison_table(few))
    many = [replace(record, subject=f"{record.subject} {i}") for i in (1, 2) for record in records]
    text = printed(models_table(many, title="Four"), width=80)
    assert max(map(len, text.splitlines())) <= 80
    headings = [line.split("metric")[1] for line in text.splitlines() if "metric [95" in line]
    assert [heading.count("model") for heading in headings] == [2, 2]
    assert text.count("Four") == 1
    assert text.count("sFID") == 2


def test_paired_differences_say_whom_they_favour() -> None:
    records = [
        make_record(
            "fid-difference", -1.5, subject="one - two", half_width=0.4, details={"p_value": 0.004},
            direction="lower",
        ),
        make_record(
            "clip-score-difference", 0.1, subject="one - two", direction="higher", half_width=0.4,
            details={"p_value": 0.6},
        ),
        make_record("kid-full-difference", None, subject="one - two", state="not_applicable",
                    reason="no features"),
    ]  # fmt: skip
    text = printed(difference_table(records, ["A note."]), width=80)
    lines = {line.split()[0]: line for line in text.splitlines() if line.split()}
    assert lines["FID"].split()[-1] == "one"
    assert "0.004" in lines["FID"]
    assert "none detected" in lines["CLIP"]
    assert "interval contains 0" in text
    assert "not applicable" in text
    assert "no features" in text
    assert "A note." in text
    assert "one - two" in text


def test_tables_of_nothing() -> None:
    assert printed(metrics_tables([])) is not None
    assert printed(difference_table([])) is not None
    assert printed(terminal_table([])) is not None
    assert printed(comparison_table([])) is not None


def test_tidy_row_keeps_the_fingerprint_apart_from_the_record() -> None:
    row = tidy_row(make_record(fingerprint={"n": 5, **EXTRACTOR}))
    assert (row["n"], row["fingerprint.n"]) == (1000, 5)
    assert row["fingerprint.extractor.name"] == "shapes-clip"
