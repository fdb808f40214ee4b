"""Crops of photographs, and random weights in Inception's format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evalkit.commands.conftest import inception_weights, photographs

__all__ = ["inception_weights"]


def write_crops(folder: Path, n: int, seed: int, suffix: str = ".jpg") -> Path:
    """Write crops of photographs, not square, of 100 to 230 px."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    sources = photographs()
    for number in range(n):
        photo = sources[number % len(sources)]
        width, height = (int(side) for side in rng.integers(100, 230, 2))
        left = int(rng.integers(0, photo.width - 230))
        top = int(rng.integers(0, photo.height - 230))
        crop = photo.crop((left, top, left + width, top + height))
        crop.convert("L" if number % 9 == 4 else "RGB").save(folder / f"{number:04d}{suffix}")
    return folder


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Samples and reference."""
    folder = tmp_path_factory.mktemp("crops")
    samples = write_crops(folder / "samples", 24, 0, ".png")
    return samples, write_crops(folder / "reference", 28, 1)


def squares(folder: Path, n: int, size_px: int) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for number in range(n):
        noise = rng.integers(0, 255, (size_px // 8, size_px // 8, 3), np.uint8)
        Image.fromarray(noise).resize((size_px, size_px)).save(folder / f"{number:03d}.png")
    return folder
