"""`make docs` builds the API pages without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_pages_are_built_without_a_warning(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "docs/api_pages.py", str(tmp_path / "site")],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    page = (tmp_path / "site" / "evalkit.html").read_text("utf-8")
    for name in ("score", "compare", "generate", "Results", "MeasureOptions"):
        assert f'id="{name}"' in page
    assert (tmp_path / "site" / "evalkit" / "metrics" / "torch_modules.html").is_file()
    assert not list((tmp_path / "site" / "evalkit").glob("cli*")), "only what programs use"


def test_the_makefile_builds_them_so(root: Path) -> None:
    assert "python -W error docs/api_pages.py" in (root / "Makefile").read_text("utf-8")
