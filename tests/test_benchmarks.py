"""The benchmarks start, and their index lists every one of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


def test_they_can_be_imported(root: Path) -> None:
    code = "\n".join(
        f"import {name}; assert callable({name}.main)" for name in sorted(commands(root))
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
