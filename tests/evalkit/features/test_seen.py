"""Images of a run that were altered or deleted after they were measured."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import DataError
from evalkit.features import seen
from evalkit.features.base import PreparedExtractor
from evalkit.features.pipeline import PassOptions, encode_texts, extract_set
from evalkit.features.sources import ImageItem
from evalkit.features.store import FeatureStore


class Colour(PreparedExtractor):
    """The mean colour as features; counts what it encodes."""

    name = "colour"
    layers: Mapping[str, int] = {"mean": 3}

    def __init__(self) -> None:
        self.encoded = 0

    @property
    def identity(self) -> Mapping[str, Any]:
        return {"extractor": "colour"}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        return image.reshape(-1, 3).mean(axis=0).astype(np.float32)

    def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
        self.encoded += len(prepared)
        return {"mean": prepared}

    def encode_text(self, captions: Sequence[str]) -> np.ndarray:
        self.encoded += len(captions)
        return np.array([[len(text), 0, 1] for text in captions], np.float32)


@pytest.fixture
def run(tmp_path: Path) -> list[ImageItem]:
    """Six images with the hashes that a manifest records, made a while ago."""
    items = []
    for index in range(6):
        path = tmp_path / "run" / f"{index // 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (40 * index, 0, 0)).save(path)
        items.append(ImageItem(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    return items


def measure(items: Sequence[ImageItem], root: Path, **how: bool) -> np.ndarray:
    store = FeatureStore(root / "store")
    found = extract_set(items, [Colour()], store=store, how=PassOptions(**how))
    return found.of(Colour()).load()


def test_an_altered_image_is_an_error_though_its_features_are_stored(
    run: list[ImageItem], tmp_path: Path
) -> None:
    measure(run, tmp_path)
    path = run[4].path
    assert isinstance(path, Path)
    kept = path.read_bytes()
    Image.new("RGB", (4, 4), "white").save(path)
    with pytest.raises(DataError, match=r"4\.png: the file's sha256 is not the recorded .*changed"):
        measure(run, tmp_path)
    assert len(measure(run, tmp_path, skip_bad=True)) == 5
    path.write_bytes(kept)
    assert len(measure(run, tmp_path)) == 6


def test_deleted_images_are_an_error_that_counts_them(run: list[ImageItem], tmp_path: Path) -> None:
    measure(run, tmp_path)
    for index in (1, 3):
        assert isinstance(run[index].path, Path)
        run[index].path.unlink()
    with pytest.raises(DataError, match=r"1\.png: can't read the image .* 1 more images"):
        measure(run, tmp_path)


def test_files_that_did_not_change_are_not_read_again(
    run: list[ImageItem], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are compared with a tick of 2 s, so files of this moment would be read again."""
    monkeypatch.setattr(seen, "_TICK_NS", -1)
    measure(run, tmp_path)
    read: list[str] = []
    whole = Path.read_bytes

    def noted(path: Path) -> bytes:
        read.append(path.name)
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", noted)
    measure(run, tmp_path)
    assert not [name for name in read if name.endswith(".png")]
    assert isinstance(run[2].path, Path)
    os.utime(run[2].path, (0, 0))
    measure(run, tmp_path)
    assert [name for name in read if name.endswith(".png")] == ["2.png"]


def test_files_of_this_moment_are_not_trusted(run: list[ImageItem], tmp_path: Path) -> None:
    """Within one tick of the clock, a file may change without a trace in its times."""
    path = run[0].path
    assert isinstance(path, Path)
    files = seen.SeenFiles(tmp_path / "store", [path.parent])
    files.add(path, "0" * 64)
    assert not files.is_unchanged(path, "0" * 64)
    os.utime(path, ns=(0, 0))
    later = time.time_ns() + 10**10
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: later)
        files.add(path, "0" * 64)
    assert files.is_unchanged(path, "0" * 64)
    assert not files.is_unchanged(path, "1" * 64)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"0.png": 5}', b"\xff"])
def test_a_damaged_note_costs_time_only(
    content: bytes, run: list[ImageItem], tmp_path: Path
) -> None:
    measure(run, tmp_path)
    folder = tmp_path / "store" / seen.SEEN
    folder.mkdir(exist_ok=True)
    assert isinstance(run[0].path, Path)
    seen._file_of(tmp_path / "store", run[0].path.parent).write_bytes(content)
    assert len(measure(run, tmp_path)) == 6


def test_clearing_the_store_does_not_break_a_running_measurement(
    run: list[ImageItem], tmp_path: Path
) -> None:
    store, colour = FeatureStore(tmp_path / "store"), Colour()
    found = extract_set(run, [colour], store=store)
    texts = encode_texts(["a", "bb"], colour, store=store)
    before, part = found.of(colour).load(), found.of(colour).subset(np.array([5, 0]))
    assert colour.encoded == 8
    assert FeatureStore(tmp_path / "store").clear() > 0
    np.testing.assert_array_equal(found.of(colour).load(), before)
    np.testing.assert_array_equal(part.load(), before[[5, 0]])
    np.testing.assert_array_equal(texts.load()[:, 0], [1, 2])
    assert colour.encoded == 16


def test_clearing_the_store_while_features_are_computed(
    run: list[ImageItem], tmp_path: Path
) -> None:
    class Cleared(Colour):
        def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
            FeatureStore(tmp_path / "store").clear()
            return super().encode(prepared)

    store = FeatureStore(tmp_path / "store")
    found = extract_set(run, [Cleared()], store=store, how=PassOptions(batch_size=2))
    assert found.of(Cleared()).load()[:, 0].tolist() == [0, 40, 80, 120, 160, 200]
