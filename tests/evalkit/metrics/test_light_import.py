"""Importing the metrics' names costs nothing; numbers from arrays need no torch."""

from __future__ import annotations

import subprocess
import sys


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_package_imports_neither_torch_nor_scipy() -> None:
    assert not {"torch", "scipy", "numpy"} & modules_after("import evalkit.metrics")


def test_the_frechet_distance_needs_no_torch() -> None:
    found = modules_after("from evalkit.metrics import Moments, frechet_interval")
    assert "torch" not in found
    assert "scipy" in found  # the test can fail
