"""Weights, pictures and tiny extractors for the tests of features."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.features.base import PreparedExtractor
from tests.reference.inception_weights import write_inception_weights


@pytest.fixture(scope="session")
def inception_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the format of the Inception-2015 network."""
    return write_inception_weights(tmp_path_factory.mktemp("weights") / "inception.pth")


@pytest.fixture(scope="session")
def photographs() -> list[np.ndarray]:
    """Crops of real photographs, of mixed sizes and shapes."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    full = [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(0)
    crops = []
    for image in full:
        for height, width in ((96, 128), (300, 200), (64, 64), (299, 299)):
            top = rng.integers(image.shape[0] - height + 1)
            left = rng.integers(image.shape[1] - width + 1)
            crops.append(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return crops


class ColourExtractor(PreparedExtractor):
    """Mean colour of each channel and their squares; counts what it is asked for."""

    name = "colour"

    def __init__(self) -> None:
        self.layers: Mapping[str, int] = {"mean": 3, "square": 3}
        self.num_prepared = 0
        self.batches: list[int] = []

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"extractor": "colour"}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        self.num_prepared += 1
        return image.reshape(-1, 3).mean(axis=0).astype(np.float32)

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        self.batches.append(len(prepared))
        return {"mean": prepared, "square": prepared**2}


@pytest.fixture
def colour() -> ColourExtractor:
    return ColourExtractor()


@pytest.fixture
def picture_folder(tmp_path: Path) -> Path:
    """Twenty small pictures of different sizes and colours."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(3)
    for i in range(20):
        pixels = rng.integers(0, 256, (8 + i, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder
