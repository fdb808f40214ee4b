"""Who may import whom, and that the command line starts light; each rule can be seen to fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from PIL import Image

PACKAGES = ("evalkit", "generators", "drawbench", "benchmarks")
HEAVY = {"torch", "pandas", "sqlalchemy", "scipy", "numpy", "streamlit", "transformers"}

VIOLATIONS = {
    "evalkit/core/run.py": ("evalkit.metrics.score", "Packages, from top to bottom"),
    "evalkit/core/errors.py": ("torch", "Without torch"),
    "evalkit/features/store.py": ("evalkit.commands.fid", "Subpackages of evalkit"),
    "generators/base.py": ("drawbench.votes", "Packages, from top to bottom"),
    "generators/settings.py": ("generators.catalog", "No import cycles"),
    "drawbench/votes.py": ("generators.base", "Packages, from top to bottom"),
    "drawbench/store/store.py": ("torch", "Without torch"),
    "drawbench/study/folder.py": ("drawbench.store", "Subpackages of drawbench"),
    "drawbench/rating/session.py": ("streamlit", "Only the pages import"),
}
"""A file, what it is made to import, and the contract that this breaks."""


def lint(folder: Path) -> str:
    """What import-linter says of the packages in a folder."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--no-logo", "--no-cache", "--verbose"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """The packages' sources and the contracts, in a folder of their own."""
    for package in PACKAGES:
        shutil.copytree(
            root / package, tmp_path / package, ignore=lambda folder, names: _no_sources(names)
        )
    shutil.copy(root / "pyproject.toml", tmp_path)
    return tmp_path


def _no_sources(names: list[str]) -> set[str]:
    return {name for name in names if "." in name and not name.endswith(".py")}


def test_nobody_imports_upwards_or_in_a_circle(copied: Path) -> None:
    assert ", 0 broken." in lint(copied)


def test_a_violation_of_each_contract_is_caught(copied: Path) -> None:
    """All at once, since drawing the graph is what takes the time."""
    for file, (imported, _) in VIOLATIONS.items():
        path = copied / file
        path.write_text(f"{path.read_text('utf-8')}\nimport {imported}\n", "utf-8")
    said = lint(copied)
    for file, (imported, contract) in VIOLATIONS.items():
        module = file.removesuffix(".py").replace("/", ".")
        assert f"{module} -> {imported}" in said or "cycles" in contract, said
        assert any(contract in line and "BROKEN" in line for line in said.splitlines()), contract


def test_an_import_for_types_alone_is_none(copied: Path) -> None:
    path = copied / "evalkit" / "core" / "errors.py"
    source = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import evalkit.metrics.score\n"
    )
    path.write_text(path.read_text("utf-8") + source, "utf-8")
    assert ", 0 broken." in lint(copied)


def loaded_by(code: str, heavy: Collection[str] = HEAVY, *, complaint: str = "") -> set[str]:
    """Heavy modules that a fresh interpreter holds after running some code that complains so."""
    script = f"{code}\nimport sys, json; print('LOADED', json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ
    )
    assert complaint in done.stderr
    modules = json.loads(done.stdout.split("LOADED ", 1)[1])
    return {name.split(".")[0] for name in modules} & set(heavy)


RUN = """
import sys
sys.argv = {argv}
from evalkit.cli import main
try:
    main()
except SystemExit:
    pass
"""


@pytest.mark.parametrize(
    "argv", [["evalkit", "--help"], ["evalkit", "list"], ["evalkit", "list", "metrics"]]
)
def test_help_and_list_start_light(argv: list[str]) -> None:
    assert loaded_by(RUN.format(argv=argv)) == set()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("fid --model glide --coco --device cpu", "--coco-root"),
        ("fid --model glide:tiny --data shapes --features inception", "6726825d"),
        ("generate --model glide --coco --device cpu", "--coco-root"),
        ("generate --model glide:tiny --coco --device cpu", "--coco-root"),
        ("fid --model glide:tiny --data no/folder --features shapes-clip", "no such folder"),
        ("fid --model glide:tiny --data shapes --features ViT-B/32", "CLIP weights ViT-B-32"),
        ("fid --model glide:tiny --data shapes --features dinov2", "DINOv2 weights"),
        ("score IMAGES --against IMAGES --features ViT-L/14", "CLIP weights ViT-L-14"),
    ],
)
def test_what_is_missing_is_told_without_torch(
    arguments: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    argv = ["evalkit", *arguments.replace("IMAGES", str(tmp_path)).split()]
    assert loaded_by(RUN.format(argv=argv), ("torch",), complaint=complaint) == set()


def test_measuring_starts_without_what_it_does_not_use() -> None:
    # Each of these takes a second or more, and torchvision brings torch's compiler along.
    unused = ("torchvision", "torch_fidelity", "pandas", "sympy", "open_clip", "transformers")
    code = "import evalkit.commands.score, evalkit.features.inception"
    assert loaded_by(code, (*unused, "torch")) == {"torch"}


def test_metrics_that_need_no_network_load_without_torch() -> None:
    code = "from evalkit.metrics.loading import load_metric\nload_metric({!r})"
    for name in ("composition", "images-per-second"):
        assert loaded_by(code.format(name), ("torch",)) == set()


def test_a_heavy_start_would_be_noticed() -> None:
    assert loaded_by("import scipy") >= {"scipy", "numpy"}
