"""Folders of tiny random pipelines, built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Pipelines = Callable[[str], Path]


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Pipelines:
    pytest.importorskip("diffusers")
    from tiny_pipelines import build

    root = tmp_path_factory.mktemp("pipelines")

    def folder(kind: str) -> Path:
        place = root / kind
        return place if place.is_dir() else build(kind, place)

    return folder
