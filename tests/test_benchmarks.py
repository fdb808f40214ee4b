"""The benchmarks start, and their index lists every one of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.models import guards

SHARED = {"benchmarks.metrics.worlds", "benchmarks.models.variants"}
"""Code that several benchmarks share, and no command."""


def commands(root: Path) -> set[str]:
    files = (root / "benchmarks").rglob("*.py")
    names = {".".join(file.relative_to(root).with_suffix("").parts) for file in files}
    return {name for name in names if not name.endswith("__init__")} - SHARED


def test_the_index_lists_all_commands(root: Path) -> None:
    index = (root / "benchmarks" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| `python -m (benchmarks[.\w]+)", index, flags=re.MULTILINE)
    assert sorted(listed) == sorted(commands(root))


def test_documents_name_commands_that_exist(root: Path) -> None:
    files = [root / "Makefile", root / "README.md", *(root / "docs").glob("*.md"),
             root / "generators" / "zoo" / "README.md"]  # fmt: skip
    named = {
        name
        for file in files
        for name in re.findall(r"python -m (benchmarks[.\w]+)", file.read_text("utf-8"))
    }
    assert len(named) > 15
    assert named <= commands(root)


def test_the_one_for_gpus_runs_on_the_cpu_in_a_reduced_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = gpu.main(["--small", "--device", "cpu", "--json", str(tmp_path / "rows.json")])
    shown = capsys.readouterr().out
    assert {row.mode for row in rows} >= {"float32", "bfloat16", "bfloat16, channels last"}
    assert all(row.seconds > 0 for row in rows)
    assert "| ADM 64 | bfloat16 | 2 |" in shown
    assert len(json.loads((tmp_path / "rows.json").read_text())) == len(rows)


def test_every_shipped_network_has_a_guard(root: Path) -> None:
    shipped = {file.stem for file in (root / "generators" / "zoo").glob("*.safetensors")}
    assert set(guards.GUARDS) == shipped


@pytest.mark.slow
@pytest.mark.parametrize("name", guards.GUARDS)
def test_no_network_ships_that_its_trivial_rival_beats(name: str) -> None:
    lost = [guard.row() for guard in guards.GUARDS[name](60) if not guard.holds]
    assert not lost


def test_a_guard_holds_if_its_interval_is_above_the_rival() -> None:
    share = guards.of_share("a", "b", 30, 60, "chance", 0.1)
    assert share.holds
    assert not guards.of_share("a", "b", 30, 60, "chance", 0.5).holds
    gain = guards.of_mean("a", "b", np.array([1.5, 1.6, 1.7]), "goal", 1.0)
    assert gain.holds
    assert gain.row().endswith("| goal: 1.000 | yes |")
    tie = guards.Guard("a", "b", 0.5, 0.4, 0.6, "bilinear", 0.6, may_tie=True)
    assert tie.holds


def test_it_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--small", "--device", "cpu", "--minutes", "0"]) == []
    assert "Left out for lack of time" in capsys.readouterr().out


def test_they_can_be_imported(root: Path) -> None:
    code = "\n".join(
        f"import {name}; assert callable({name}.main)" for name in sorted(commands(root))
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
