"""Windows and macOS: no `fcntl` and no `posix_fallocate`, tried here with both hidden."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HIDDEN = """
import os, sys
sys.modules["fcntl"] = None  # importing it raises, as where it doesn't exist
del os.posix_fallocate
"""
IMPORTS = """
import importlib, pkgutil
import evalkit, generators, drawbench
for package in (evalkit, generators, drawbench):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.startswith(("drawbench.pages", "drawbench.store.migrations")):
            importlib.import_module(module.name)
"""
RUN = """
from evalkit import cli

for words in (
    ["generate", "--model", "ddpm:tiny", "--data", "shapes", "--n", "4", "--steps", "2",
     "--out", "run"],
    ["score", "run", "--against", "shapes", "--metrics", "kid", "--kid-subset-size", "2",
     "--features", "shapes-clip", "--workers", "1"],
):
    sys.argv = ["evalkit", *words]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
"""


def run_hidden(code: str, folder: Path, root: Path) -> str:
    script = folder / "hidden.py"
    script.write_text(f"{HIDDEN}\nsys.path.insert(0, {str(root)!r})\nif __name__ == '__main__':\n"
                      + "".join(f"    {line}\n" for line in code.splitlines()))  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr


def test_every_module_imports(tmp_path: Path, root: Path) -> None:
    run_hidden(IMPORTS, tmp_path, root)


def test_a_run_is_made_and_measured(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without locks a note says so; decoding processes share a file that is not reserved."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    said = run_hidden(RUN, tmp_path, root)
    assert "this system has no file locks" in said
