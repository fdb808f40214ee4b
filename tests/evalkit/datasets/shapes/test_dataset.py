"""The data set on disk: COCO's format, resumable, and equal to what `render` gives."""

import json
from pathlib import Path

import numpy as np
import pytest

from evalkit.core.errors import ConfigError, DataError
from evalkit.core.pixels import read_rgb
from evalkit.datasets.coco import load_coco
from evalkit.datasets.shapes.dataset import load_shapes, render, write_shapes
from evalkit.datasets.shapes.scene import Scene


def files_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "set", 5, 4, seed=3)


def test_the_folder_is_what_render_draws(written: Path):
    for split, count in (("train", 5), ("val", 4)):
        dataset = load_coco(written, split, name="shapes")
        assert (dataset.name, len(dataset.image_ids)) == ("shapes", count)
        for index, image_id in enumerate(dataset.image_ids):
            pixels, scene, captions = render(3, split, index)
            assert np.array_equal(read_rgb(dataset.image_path(image_id)), pixels)
            own = [c for c in dataset.captions if c.image_id == image_id]
            assert [c.text for c in own] == captions
            for caption in own:
                assert caption.scene is not None
                assert Scene.from_json(caption.scene) == scene
                assert caption.label == scene.label


def test_ids_are_unique_across_splits(written: Path):
    splits = [load_coco(written, split) for split in ("train", "val")]
    images = [image_id for dataset in splits for image_id in dataset.image_ids]
    captions = [caption.id for dataset in splits for caption in dataset.captions]
    assert len(set(images)) == len(images) == 9
    assert len(set(captions)) == len(captions) == 45


def test_annotations_have_the_fields_of_coco(written: Path):
    data = json.loads((written / "annotations" / "captions_val.json").read_text())
    assert set(data) == {"info", "licenses", "images", "annotations"}
    assert {"id", "file_name", "width", "height", "scene"} <= set(data["images"][0])
    assert set(data["annotations"][0]) == {"id", "image_id", "caption"}


def test_each_argument_of_render_matters():
    first = render(0, "train", 0)
    for other in (render(1, "train", 0), render(0, "val", 0), render(0, "train", 1)):
        assert not np.array_equal(first[0], other[0])
        assert first[1] != other[1]
    again = render(0, "train", 0)
    assert np.array_equal(first[0], again[0])
    assert first[1:] == again[1:]


def test_an_interrupted_call_can_be_repeated(tmp_path: Path, written: Path):
    def stop(done: int, total: int) -> None:
        assert total == 9
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "set", 5, 4, seed=3, on_progress=stop)
    (tmp_path / "set" / "images" / "train" / "00000003.tmp").write_bytes(b"half a picture")
    assert not (tmp_path / "set" / "annotations").exists()
    seen: list[tuple[int, int]] = []
    write_shapes(tmp_path / "set", 5, 4, seed=3, on_progress=lambda *report: seen.append(report))
    assert seen == [(k, 9) for k in range(1, 10)]
    assert files_of(tmp_path / "set") == files_of(written)


def test_a_folder_can_grow_but_not_change(tmp_path: Path, written: Path):
    root = write_shapes(tmp_path / "set", 2, 1, seed=3)
    write_shapes(root, 5, 4, seed=3)
    assert files_of(root) == files_of(written)
    before = files_of(root)
    for arguments in ((5, 4, 4), (4, 4, 3), (5, 3, 3)):
        with pytest.raises(ConfigError, match="already holds another shapes data set"):
            write_shapes(root, *arguments)
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        write_shapes(root, -1, 0)
    assert files_of(root) == before


def test_a_growing_folder_is_not_taken_as_complete(tmp_path: Path):
    root = write_shapes(tmp_path / "set", 0, 2, seed=3)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(root, 0, 4, seed=3, on_progress=stop)
    assert len(load_shapes(root, num_images=3, seed=3).image_ids) == 4


def test_load_draws_into_the_cache_once(tmp_path: Path):
    dataset = load_shapes(num_images=3)
    assert dataset.root.is_relative_to(tmp_path / "cache")
    reports: list[int] = []
    again = load_shapes(num_images=2, on_progress=lambda done, total: reports.append(done))
    assert (reports, again.captions_sha256) == ([], dataset.captions_sha256)
    train = load_shapes(split="train", num_images=2)
    assert (len(train.image_ids), len(load_shapes(num_images=3).image_ids)) == (2, 3)


def test_load_refuses_another_seed_and_a_broken_folder(tmp_path: Path):
    root = write_shapes(tmp_path / "set", 0, 2, seed=3)
    with pytest.raises(ConfigError, match="another shapes data set"):
        load_shapes(root, num_images=2, seed=4)
    (root / "shapes.json").write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        load_shapes(root, num_images=2, seed=3)
