"""A package of somebody else, as an installed one looks: modules beside a dist-info folder."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def install_package(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Mapping[str, str]],
) -> None:
    """Put modules and their entry points on the path, without pip, until the test ends.

    Args:
        folder: An empty folder.
        monkeypatch: Takes them off again.
        modules: Source by module name.
        entry_points: Target by name, by group, such as `{"evalkit.metrics": {"a/b": "m:ROW"}}`.
    """
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source, "utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    info = folder / "somebodys_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-package\nVersion: 1.0\n")
    sections = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items())
        for group, points in entry_points.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections), "utf-8")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
