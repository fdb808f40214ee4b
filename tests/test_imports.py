"""Who may import whom, and that the command line starts light; each rule can be seen to fail."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import pytest
from PIL import Image

FREE = {
    "evalkit.core.registry",
    "evalkit.core.results",
    "evalkit.core.run",
    "evalkit.core.errors",
    "evalkit.core.downloads",
}
"""Anyone may import these; they import only each other, and no torch."""
OURS = ("evalkit", "generators", "drawbench", "app")
HEAVY = {"torch", "pandas", "sqlalchemy", "scipy", "numpy", "streamlit", "transformers"}


def imports_of(source: str) -> set[str]:
    """Modules that a file names, wherever the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "absolute imports only"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def violations(module: str, source: str) -> list[str]:
    """Imports that a module's place forbids."""
    package = module.split(".")[0]
    found = []
    for name in sorted(imports_of(source)):
        top = name.split(".")[0]
        free = any(name == f or name.startswith(f"{f}.") for f in FREE) or name == "evalkit"
        if module in FREE:
            bad = (top in OURS and not free) or top == "torch"
        elif package == "generators":
            bad = top in {"drawbench", "app"} or (top == "evalkit" and not free)
        elif package == "drawbench":
            bad = top in {"generators", "app", "torch"} or (top == "evalkit" and not free)
        elif package == "evalkit":
            composes = module == "evalkit.cli" or module.startswith("evalkit.commands.")
            bad = top in {"generators", "app"} or (top == "drawbench" and not composes)
        else:
            bad = top == "generators" or (top == "evalkit" and not free)
        if bad:
            found.append(f"{module} imports {name}")
    return found


def type_checking_removed(source: str) -> str:
    """The source without what only a type checker sees."""
    tree = ast.parse(source)

    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                return None
            return node

    return ast.unparse(Drop().visit(tree))


def test_every_module_keeps_to_its_place(root: Path) -> None:
    found = []
    for package in OURS:
        for path in sorted((root / package).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(
                ".__init__"
            )
            found += violations(module, type_checking_removed(path.read_text("utf-8")))
    # listing looks up where the recipes lie, and composes the generators' table with others
    allowed = {"evalkit.commands.listing imports generators"}
    assert set(found) <= allowed, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("evalkit.core.run", "import torch"),
        ("evalkit.core.run", "from evalkit.metrics import Moments"),
        ("generators.base", "from evalkit.generation import prepare_run"),
        ("generators.base", "import drawbench"),
        ("drawbench.store", "def f():\n    import torch"),
        ("drawbench.store", "from generators.base import Request"),
        ("evalkit.metrics.x", "import generators.catalog"),
        ("evalkit.metrics.x", "from drawbench.cli import app"),
        ("app.rate", "from evalkit.metrics import Moments"),
    ],
)
def test_the_rules_can_fail(module: str, source: str) -> None:
    assert violations(module, source)


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
        ("fid --model glide --coco --device cpu", "6726825d"),
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
