"""COCO from the hub: shards of rows become the original's layout, resumably."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import DataError, NetworkError
from evalkit.datasets.coco import load_coco
from evalkit.datasets.coco_hub import fetch_from_hub, split_stream, why_no_hub


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 8, 3), number, np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "question_id": f"COCO_val2014_{number:012d}.jpg",
        "image": {"bytes": jpeg(number), "path": None},
        "answer": [f"caption {k} of {number}" for k in range(5)],
    } | changes


def two_shards() -> list[list[dict[str, Any]]]:
    return [[row(3), row(9)], [row(5)]]


def test_rows_become_the_layout_of_the_original(tmp_path: Path):
    reports: list[tuple[int, int]] = []
    fetch_from_hub(
        tmp_path,
        open_shards=two_shards,
        num_images=3,
        on_progress=lambda *report: reports.append(report),
    )
    dataset = load_coco(tmp_path)
    assert reports == [(1, 3), (2, 3), (3, 3)]
    assert list(dataset.image_ids) == ["3", "5", "9"]
    assert [(c.id, c.text) for c in dataset.captions[:2]] == [
        ("30", "caption 0 of 3"),
        ("31", "caption 1 of 3"),
    ]
    assert dataset.image_path("9").read_bytes() == jpeg(9)
    info = json.loads((tmp_path / "annotations" / "captions_val2014.json").read_text())["info"]
    assert "caption ids are evalkit's own" in info["source"]


def test_a_broken_transfer_goes_on_at_its_shard(tmp_path: Path):
    def breaking() -> Iterator[dict[str, Any]]:
        yield row(5)
        raise TimeoutError("read timed out\nmore lines")

    with pytest.raises(NetworkError, match=r"download was interrupted \(read timed out\)"):
        fetch_from_hub(tmp_path, open_shards=lambda: [two_shards()[0], breaking()], num_images=3)
    assert not (tmp_path / "annotations" / "captions_val2014.json").exists()

    def unread() -> Iterator[dict[str, Any]]:
        raise AssertionError("a finished shard was read again")
        yield

    fetch_from_hub(tmp_path, open_shards=lambda: [unread(), [row(5)]], num_images=3)
    assert len(load_coco(tmp_path).captions) == 15


def test_a_half_written_image_is_written_again(tmp_path: Path):
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000000003.jpg").write_bytes(jpeg(3)[:100])
    fetch_from_hub(tmp_path, open_shards=two_shards, num_images=3)
    assert load_coco(tmp_path).image_path("3").read_bytes() == jpeg(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None}, "lacks"),
        ({"image": {"bytes": b"", "path": "x"}}, "lacks"),
        ({"answer": []}, "it has 0"),
        ({"answer": ["a"] * 11}, "it has 11"),
        ({"question_id": "COCO_val2014_nothing.jpg"}, "lacks an image number"),
        ({"question_id": "../3.jpg"}, "relative path"),
    ],
)
def test_rows_that_are_not_as_expected(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        fetch_from_hub(tmp_path, open_shards=lambda: [[row(3, **changes)]], num_images=1)


def test_changed_repositories_are_noticed(tmp_path: Path):
    with pytest.raises(DataError, match="no column 'answer'"):
        fetch_from_hub(
            tmp_path, open_shards=lambda: [[{"question_id": "3.jpg", "image": None}]], num_images=1
        )
    with pytest.raises(DataError, match="expected 4 different images, got 3 rows"):
        fetch_from_hub(tmp_path, open_shards=two_shards, num_images=4)


def test_offline_switches_are_honoured(monkeypatch: pytest.MonkeyPatch):
    assert why_no_hub() == "HF_HUB_OFFLINE is set"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "true")
    assert why_no_hub() == "HF_DATASETS_OFFLINE is set"


def test_streamed_parquet_files_are_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The very route of the hub, through `datasets`, from files on disk."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for number, rows in enumerate(two_shards()):
        parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / f"val-{number}.parquet")

    def open_shards() -> list[Any]:
        files = {"val": str(tmp_path / "val-*.parquet")}
        stream = datasets.load_dataset("parquet", data_files=files, split="val", streaming=True)
        return split_stream(stream)

    assert len(open_shards()) == 2
    fetch_from_hub(tmp_path / "coco", open_shards=open_shards, num_images=3)
    assert load_coco(tmp_path / "coco").image_path("9").read_bytes() == jpeg(9)
