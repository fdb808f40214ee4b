"""The tutorial notebook: its cells run one after the other, and its output is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest


def cells(root: Path) -> list[dict[str, Any]]:
    notebook = json.loads((root / "docs" / "tutorial.ipynb").read_text("utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_its_cells_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one namespace, in an empty folder, without a network."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for number, cell in enumerate(cells(root), start=1):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
    said = capsys.readouterr().out
    assert "CLIP score" in said
    assert "(48, 3, 64, 64) uint8" in said
    assert r"\toprule" in said
    compared = namespace["compared"]
    assert {record.state for record in compared} == {"ok"}
    assert compared["clip-score-difference"].interval is not None
    assert (tmp_path / "tutorial" / "results.html").is_file()
    in_memory, on_disk = namespace["in_memory"], compared.record("clip-score", "free")
    assert in_memory[0].value == pytest.approx(on_disk.value)


def test_its_output_is_that_of_one_run(root: Path) -> None:
    """`make tutorial` keeps it; no cell failed, and no path of a machine is in it."""
    found = cells(root)
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    text = json.dumps(found)
    assert not [output for cell in found for output in cell["outputs"]
                if output["output_type"] == "error"]  # fmt: skip
    shown = re.sub(r'"image/\w+": (".*?"|\[.*?\])', "", text).replace("\\n", "\n")
    assert re.findall(r"(?<![\w/<.:-])/(?:[\w.-]+/)+", shown) == []
