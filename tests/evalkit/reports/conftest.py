"""The reports of `examples.py` as fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalkit.reports.html import ComparisonReport, RunReport
from tests.evalkit.reports.examples import comparison_report, draw_scene, run_report


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Sixteen drawn images."""
    folder = tmp_path_factory.mktemp("scenes")
    return [draw_scene(folder / f"{seed:03d}.png", seed) for seed in range(16)]


@pytest.fixture(scope="session")
def report(scenes: list[Path]) -> RunReport:
    """A run with every kind of record and sample; one of its images is cut off."""
    truncated = scenes[0].with_name("truncated.png")
    truncated.write_bytes(scenes[0].read_bytes()[:200])
    return run_report(scenes, truncated)


@pytest.fixture(scope="session")
def comparison(scenes: list[Path]) -> ComparisonReport:
    """Four models side by side."""
    return comparison_report(scenes)
