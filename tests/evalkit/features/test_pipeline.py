"""One pass over a set: each image decoded and encoded once, in order, whatever the batches."""

from __future__ import annotations

import tarfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import DataError, MissingDataError, NotEnoughImagesError
from evalkit.features.pipeline import PassOptions, encode_texts, extract_set
from evalkit.features.sources import ImageItem, Preparation, hash_of, image_items
from evalkit.features.store import FeatureStore
from tests.evalkit.features.conftest import ColourExtractor


def means(folder: Path) -> np.ndarray:
    files = sorted(folder.glob("*.png"))
    return np.stack([np.asarray(Image.open(f)).reshape(-1, 3).mean(0) for f in files])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "store")


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("workers", [1, 4])
def test_order_is_that_of_the_set(
    picture_folder: Path,
    store: FeatureStore,
    colour: ColourExtractor,
    batch_size: int,
    workers: int,
) -> None:
    items = image_items(picture_folder)[::-1]
    found = extract_set(items, [colour], store=store, how=PassOptions(batch_size, workers))
    expected = means(picture_folder)[::-1].astype(np.float32)
    np.testing.assert_array_equal(np.asarray(found.of(colour)), expected)
    np.testing.assert_array_equal(np.asarray(found.of(colour, "square")), expected**2)
    assert found.kept == tuple(range(20))
    assert max(colour.batches) <= batch_size


def test_a_set_is_neither_decoded_nor_encoded_twice(
    picture_folder: Path, store: FeatureStore, colour: ColourExtractor
) -> None:
    items = image_items(picture_folder)
    extract_set(items, [colour], store=store)
    extract_set(items[5:], [colour], store=store)
    extract_set([*items, *items], [colour], store=FeatureStore(store.root))
    assert colour.num_prepared == 20
    assert sum(colour.batches) == 20


def test_equal_files_are_one_image(
    tmp_path: Path, store: FeatureStore, colour: ColourExtractor
) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name)
    items = [ImageItem(tmp_path / "a.png"), ImageItem(tmp_path / "b.png")]
    found = extract_set(items, [colour], store=store)
    assert len(found.of(colour)) == 2
    assert colour.num_prepared == 1


def test_preparation_is_part_of_the_key(
    picture_folder: Path, store: FeatureStore, colour: ColourExtractor
) -> None:
    items = image_items(picture_folder)
    plain = extract_set(items, [colour], store=store)
    cropped = extract_set(
        items, [colour], store=store, preparation=Preparation(crop="center", size_px=6)
    )
    assert colour.num_prepared == 40
    assert (np.asarray(plain.of(colour)) != np.asarray(cropped.of(colour))).any()


def test_what_was_finished_before_a_kill_is_kept(
    picture_folder: Path, store: FeatureStore, colour: ColourExtractor
) -> None:
    items = image_items(picture_folder)

    class Killed(ColourExtractor):
        def encode(self, prepared: np.ndarray) -> dict[str, np.ndarray]:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().encode(prepared)

    with pytest.raises(KeyboardInterrupt):
        extract_set(items, [Killed()], store=store, how=PassOptions(4))
    extract_set(items, [colour], store=store, how=PassOptions(4))
    assert sum(colour.batches) == 20 - 12


class TestBadImages:
    @pytest.fixture
    def broken(self, picture_folder: Path) -> Path:
        path = picture_folder / "07.png"
        path.write_bytes(path.read_bytes()[:60])
        return path

    def test_the_file_is_named_and_the_rest_stays(
        self, picture_folder: Path, broken: Path, store: FeatureStore, colour: ColourExtractor
    ) -> None:
        with pytest.raises(DataError, match=r"07\.png: can't be decoded"):
            extract_set(image_items(picture_folder), [colour], store=store, how=PassOptions(2))
        assert len(store.open({**_identity(colour), "layer": "mean"}, 3)) == 6

    def test_no_thread_is_left_behind(
        self, picture_folder: Path, broken: Path, store: FeatureStore, colour: ColourExtractor
    ) -> None:
        """Threads that only the garbage collector ends can block one that is just starting."""
        before = set(threading.enumerate())
        with pytest.raises(DataError) as caught:
            extract_set(image_items(picture_folder), [colour], store=store, how=PassOptions(2))
        assert caught.traceback, "the error still holds what the pass held"
        assert set(threading.enumerate()) <= before

    def test_skipping_counts_and_names(
        self, picture_folder: Path, broken: Path, store: FeatureStore, colour: ColourExtractor
    ) -> None:
        items = image_items(picture_folder)
        found = extract_set(items, [colour], store=store, how=PassOptions(skip_bad=True))
        assert found.kept == tuple(i for i in range(20) if i != 7)
        assert list(found.skipped) == [str(broken)]
        assert found.of(colour).shape == (19, 3)

    def test_one_in_the_middle_of_ten_thousand(
        self, tmp_path: Path, store: FeatureStore, colour: ColourExtractor
    ) -> None:
        header = b"P6 1 1 255 "
        archive = tmp_path / "many.zip"
        with zipfile.ZipFile(archive, "w") as file:
            for i in range(10_000):
                pixel = bytes([i % 256, i // 256, 7])
                file.writestr(f"{i:05}.png", b"cut" if i == 5_000 else header + pixel)
        items = image_items(archive)
        with pytest.raises(DataError, match=r"many\.zip:05000\.png"):
            extract_set(items, [colour], store=store, how=PassOptions(500))
        found = extract_set(items, [colour], store=store, how=PassOptions(500, skip_bad=True))
        assert len(found.kept) == 9_999
        assert [name for name in found.skipped if name.endswith("05000.png")]
        assert len(found.skipped) == 1
        assert found.of(colour)[[5_000]].round().tolist() == [[5_001 % 256, 5_001 // 256, 7]]
        # What stood before the bad image was stored by the first pass and not decoded again.
        assert sum(colour.batches) == 9_999

    def test_a_file_that_is_gone(self, store: FeatureStore, colour: ColourExtractor) -> None:
        items = [ImageItem(Path("/nowhere/gone.png"))]
        with pytest.raises(DataError, match=r"gone\.png: can't read the image"):
            extract_set(items, [colour], store=store)
        with pytest.raises(NotEnoughImagesError, match="none of the 1 images"):
            extract_set(items, [colour], store=store, how=PassOptions(skip_bad=True))

    def test_a_file_that_changed_since_it_was_listed(
        self, picture_folder: Path, store: FeatureStore, colour: ColourExtractor
    ) -> None:
        (item, *_) = image_items(picture_folder)
        listed = replace(item, sha256="0" * 64)
        with pytest.raises(DataError, match=r"00\.png: the file's sha256 is not the recorded"):
            extract_set([listed], [colour], store=store)


class TestSources:
    def pack(self, folder: Path, kind: str) -> Path:
        files = sorted(folder.glob("*.png"))
        path = folder.parent / f"set.{kind}"
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                for file in files:
                    archive.write(file, f"inside/{file.name}")
                archive.writestr("notes.txt", "no image")
        else:
            with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
                for file in files:
                    archive.add(file, f"inside/{file.name}")
        return path

    @pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
    def test_archives_give_the_features_of_their_files(
        self, picture_folder: Path, store: FeatureStore, colour: ColourExtractor, kind: str
    ) -> None:
        path = self.pack(picture_folder, kind)
        found = extract_set(image_items(path), [colour], store=store, how=PassOptions(workers=4))
        np.testing.assert_array_equal(
            np.asarray(found.of(colour)), means(picture_folder).astype(np.float32)
        )

    def test_sample_batches(
        self, tmp_path: Path, store: FeatureStore, colour: ColourExtractor
    ) -> None:
        images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
        np.savez(tmp_path / "samples.npz", arr_0=images, arr_1=np.arange(5))
        found = extract_set(image_items(tmp_path / "samples.npz"), [colour], store=store)
        expected = images.reshape(5, -1, 3).mean(1).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(found.of(colour)), expected)

    def test_hash_of_a_file_is_that_of_its_bytes(self, picture_folder: Path) -> None:
        import hashlib

        item = image_items(picture_folder)[0]
        assert isinstance(item.path, Path)
        assert hash_of(item) == hashlib.sha256(item.path.read_bytes()).hexdigest()

    def test_preparation(self, picture_folder: Path) -> None:
        from evalkit.features.sources import load_image

        item = image_items(picture_folder)[10]  # 18 x 12
        assert load_image(item, Preparation()).shape == (18, 12, 3)
        assert load_image(item, Preparation(crop="center")).shape == (12, 12, 3)
        for crop in ("center", "squash"):
            prepared = load_image(item, Preparation(crop=crop, size_px=9))  # type: ignore[arg-type]
            assert prepared.shape == (9, 9, 3)
        with pytest.raises(DataError, match="12 x 18 px is not square"):
            load_image(item, Preparation(size_px=9))

    def test_bad_sets(self, tmp_path: Path) -> None:
        with pytest.raises(MissingDataError, match="no such file or folder"):
            image_items(tmp_path / "absent")
        with pytest.raises(DataError, match="contains no images"):
            image_items(tmp_path)
        (tmp_path / "text.txt").write_text("no archive")
        with pytest.raises(DataError, match=r"expected a folder, \.zip, \.tar or \.npz"):
            image_items(tmp_path / "text.txt")
        np.savez(tmp_path / "floats.npz", arr_0=np.zeros((2, 4, 4, 3)))
        with pytest.raises(DataError, match="float64 of shape"):
            image_items(tmp_path / "floats.npz")
        np.savez(tmp_path / "other.npz", images=np.zeros(3))
        with pytest.raises(DataError, match=r"npz: expected an array arr_0 of images, found"):
            image_items(tmp_path / "other.npz")


class TestTexts:
    class Words(ColourExtractor):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[str] = []

        def encode_text(self, captions: Sequence[str]) -> np.ndarray:
            self.asked += captions
            return np.array([[len(c), c.count("a"), 1] for c in captions], np.float32)

    def test_each_caption_is_embedded_once(self, store: FeatureStore) -> None:
        words = self.Words()
        captions = ["a cat", "two cats", "a cat"]
        found = encode_texts(captions, words, store=store, batch_size=1)
        np.testing.assert_array_equal(np.asarray(found)[:, 0], [5, 8, 5])
        encode_texts(captions[::-1], words, store=store)
        assert words.asked == ["a cat", "two cats"]


def _identity(extractor: ColourExtractor) -> dict[str, object]:
    from evalkit.features.pipeline import table_identity

    return table_identity(extractor, "mean", Preparation())
