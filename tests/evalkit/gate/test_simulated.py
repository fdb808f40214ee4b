"""Simulated gates with a known truth: the level at the margin, the power between equal models.

The short form of `python -m benchmarks.metrics.gate`, which runs 2,000 gates a cell.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.metrics.gate import CELLS, Cell, plan, read, run, shares, simulate, table

FAST, FRECHET = CELLS[0], CELLS[2]


def passed(cell: Cell, situation: str, num: int, kind: str = "non-inferior") -> float:
    verdicts = [simulate(cell, situation, number) for number in range(num)]
    return shares(verdicts, kind).get("passed", 0.0)


def test_a_score_of_images_passes_at_its_margin_in_five_percent() -> None:
    assert 4 <= passed(FAST, "at the margin", 2_000) <= 6
    assert passed(FAST, "at the margin", 2_000, "equivalent") <= 6
    assert passed(FAST, "twice the margin", 500) < 1


def test_equal_models_pass_with_the_planned_power() -> None:
    assert passed(FAST, "equal", 2_000) == pytest.approx(80, abs=3)
    assert 4 <= passed(FAST, "equal", 2_000, "superior") <= 6


@pytest.mark.slow
def test_the_paired_frechet_difference_too() -> None:
    """150 gates: 13 or more passes at 5 % come in 4 % of tries, 16 or more in 0.3 %."""
    margin, _ = plan(FRECHET)
    assert margin > 0
    assert passed(FRECHET, "at the margin", 150) <= 100 * 15 / 150
    assert passed(FRECHET, "equal", 150) == pytest.approx(80, abs=12)


def test_it_resumes_and_the_cells_are_not_changed_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.metrics.gate.CELLS", (FAST,))
    monkeypatch.setattr("benchmarks.metrics.gate.CHUNK", 7)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(whole, 20, 1e9)
    for minutes in (0, 0, 1e9):
        run(parts, 20, minutes)
    assert read(parts) == read(whole)
    (row,) = [line for line in table(read(whole)) if "skewed" in line]
    assert row.count("% (20)") == 5
