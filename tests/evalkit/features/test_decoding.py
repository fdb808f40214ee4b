"""Worker processes give what threads give, in order, also of archives and of damaged images."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import DataError
from evalkit.features.base import PreparedExtractor
from evalkit.features.clip_preprocessing import ClipPreprocessing, SquashTo
from evalkit.features.decoding import Job, decode_in_processes, decode_in_threads
from evalkit.features.pipeline import PassOptions, extract_set
from evalkit.features.sources import ArrayImage, ImageItem, Preparation, image_items
from evalkit.features.store import FeatureStore

PREPARERS = {"small": SquashTo(6), "clip": ClipPreprocessing(size_px=10)}


@pytest.fixture
def items(picture_folder: Path, tmp_path: Path) -> list[ImageItem]:
    """Files, one of them damaged, members of an archive, and an array."""
    (picture_folder / "07.png").write_bytes(b"no image")
    archive = tmp_path / "pictures.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(picture_folder.glob("0[1-3].png")):
            file.write(path, path.name)
    array = ArrayImage("batch[0]", np.full((9, 9, 3), 200, np.uint8))
    return [*image_items(picture_folder), *image_items(archive), ImageItem(array)]


def test_processes_give_what_threads_give(items: list[ImageItem]) -> None:
    jobs = [Job(item, ("small",) if i % 3 else ("small", "clip")) for i, item in enumerate(items)]
    preparation = Preparation(crop="center")
    ways = [
        list(decode_in_threads(jobs, preparation, PREPARERS, threads=2, ahead=4)),
        list(decode_in_processes(jobs, preparation, PREPARERS, processes=2, ahead=5)),
    ]
    assert [len(way) for way in ways] == [24, 24]
    for job, theirs, ours in zip(jobs, *ways, strict=True):
        if isinstance(theirs, DataError):
            assert "07.png" in str(ours)
            assert str(ours) == str(theirs)
            continue
        assert not isinstance(ours, DataError)
        assert tuple(ours) == tuple(theirs) == job.names
        for name in job.names:
            np.testing.assert_array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype
    assert sum(isinstance(found, DataError) for found in ways[1]) == 1


class Small(PreparedExtractor):
    """Pixels of a small version of the image; refuses to prepare in this process."""

    name = "small"

    def __init__(self) -> None:
        self.layers: Mapping[str, int] = {"pixels": 108}
        self.preparer = SquashTo(6)

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"extractor": "small"}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        raise AssertionError("the workers were to do this")

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        return {"pixels": prepared.reshape(len(prepared), -1).astype(np.float32)}


def test_a_pass_with_worker_processes(picture_folder: Path, tmp_path: Path) -> None:
    found = extract_set(
        image_items(picture_folder),
        [Small()],
        store=FeatureStore(tmp_path),
        how=PassOptions(workers=1),
    )
    expected = [
        SquashTo(6)(np.asarray(Image.open(path))).reshape(-1)
        for path in sorted(picture_folder.glob("*.png"))
    ]
    np.testing.assert_array_equal(found.of(Small())[:], np.stack(expected))
