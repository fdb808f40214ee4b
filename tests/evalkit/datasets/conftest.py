"""Small data sets in COCO's format, made in the test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the cache of whoever runs it."""
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EVALKIT_COCO", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def annotations(num_images: int = 3, per_image: int = 2) -> dict[str, Any]:
    """Ids that are not in order, as in COCO: image 30, 20, 10; captions downwards too."""
    ids = [10 * (num_images - k) for k in range(num_images)]
    return {
        "info": {},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"COCO_{i:06d}.jpg", "width": 8, "height": 6} for i in ids
        ],
        "annotations": [
            {"id": 1000 + i + k, "image_id": i, "caption": f" Caption {k} of image {i}. \n"}
            for i in ids
            for k in reversed(range(per_image))
        ],
    }


@pytest.fixture
def write_coco(tmp_path: Path) -> Callable[..., Path]:
    def write(data: Any = None, *, split: str = "val2014", nested: bool = False) -> Path:
        root = tmp_path / "coco"
        data = annotations() if data is None else data
        folder = root / "images" / split if nested else root / split
        folder.mkdir(parents=True, exist_ok=True)
        for number in (10, 20, 30):
            Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(
                folder / f"COCO_{number:06d}.jpg"
            )
        path = root / "annotations" / f"captions_{split}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return root

    return write


@pytest.fixture
def coco_annotations() -> Callable[..., dict[str, Any]]:
    return annotations
