"""The template package installs and runs beside evalkit, offline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="needs: pip install '.[dev]'")

EXAMPLE = Path(__file__).parents[1] / "examples" / "generator-package"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the package is installed."""
    target = tmp_path_factory.mktemp("site-packages")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target)]
    done = subprocess.run([*command, str(EXAMPLE)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    path = os.pathsep.join([str(target), str(EXAMPLE.parents[1])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def run(arguments: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_template_is_listed_and_generates(installed: dict[str, str], tmp_path: Path) -> None:
    listed = run(["-m", "evalkit.cli", "list", "models"], {**installed, "COLUMNS": "200"}, tmp_path)
    assert "mine/gradient" in listed
    assert "a gradient whose colours come from the prompt" in listed
    run(
        ["-m", "evalkit.cli", "generate", "--model", "mine/gradient", "--prompt", "a red circle",
         "--n", "3", "--steps", "4", "--device", "cpu", "--out", "run"],
        installed, tmp_path,
    )  # fmt: skip
    config = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert config["settings"]["base"]["steps"] == 4
    assert len(list((tmp_path / "run" / "images").rglob("*.png"))) == 3


def test_the_template_passes_its_own_tests(installed: dict[str, str], tmp_path: Path) -> None:
    tests = str(EXAMPLE / "tests")
    run(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", tests],
        installed,
        tmp_path,
    )
