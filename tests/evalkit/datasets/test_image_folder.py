"""Plain folders of images, and what `--data` makes of a name or path."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import ConfigError, DataError, MissingDataError, UnknownNameError
from evalkit.datasets.base import CaptionedFiles
from evalkit.datasets.image_folder import load_image_folder
from evalkit.datasets.open import open_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name in ("b.png", "a/10.JPG", "a/9.jpeg", "c.webp", ".hidden.png", ".git/x.png", "n.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("no image")
        else:
            Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return root


def test_all_images_of_all_levels_in_order(folder: Path):
    dataset = load_image_folder(folder)
    assert list(dataset.image_ids) == ["a/10.JPG", "a/9.jpeg", "b.png", "c.webp"]
    assert (dataset.name, list(dataset.captions)) == ("photos", [])
    assert dataset.image_path("a/9.jpeg") == folder / "a" / "9.jpeg"


CSV = 'file_name,text,more\nb.png,"one, with comma",x\na/10.JPG,two,\nb.png,three,\n'
JSONL = (
    '{"file_name": "b.png", "text": "one, with comma"}\n\n'
    '{"file_name": "a/10.JPG", "text": "two", "x": 1}\n'
    '{"file_name": "b.png", "text": " three "}\n'
)


@pytest.mark.parametrize(("name", "text"), [("c.csv", CSV), ("c.jsonl", JSONL)])
def test_captions_from_a_table(folder: Path, name: str, text: str):
    (folder / name).write_text("\ufeff" + text, encoding="utf-8")
    captions = load_image_folder(folder, captions=folder / name).captions
    assert [(c.id, c.image_id, c.text) for c in captions] == [
        ("a/10.JPG", "a/10.JPG", "two"),
        ("b.png", "b.png", "one, with comma"),
        ("b.png#2", "b.png", "three"),
    ]


def test_captions_may_bring_their_ids(folder: Path):
    table = folder / "c.jsonl"
    table.write_text('{"id": 7, "file_name": "b.png", "text": "x"}')
    assert load_image_folder(folder, captions=table).captions[0].id == "7"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "file_name,text\ngone.png,x\n", r"c\.csv:2: no image 'gone\.png'"),
        ("c.csv", "file_name,text\n../b.png,x\n", "relative path"),
        ("c.csv", "name,text\nb.png,x\n", "'file_name' is missing.*found name, text"),
        ("c.csv", "file_name,text\nb.png\n", "line 2 has 1 cells, but the header has 2"),
        ("c.csv", "file_name,text\n", "contains no captions"),
        ("c.csv", "", "contains no captions"),
        ("c.csv", "file_name,text,id\nb.png,x,1\nb.png,y,1\n", "'1' occurs twice"),
        ("c.jsonl", '{"file_name": "b.png", "text": "x"}\n{', r"c\.jsonl:2: not valid JSON"),
        ("c.jsonl", "[1]", "expected an object"),
        ("c.jsonl", '{"file_name": "b.png", "text": 5}', "'text' must be"),
        ("c.jsonl", '{"file_name": "b.png", "text": "x", "id": true}', "'id' must be"),
        ("c.txt", "b.png x", r"\.jsonl, \.csv or \.tsv"),
    ],
)
def test_tables_that_do_not_fit(folder: Path, name: str, text: str, message: str):
    (folder / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_image_folder(folder, captions=folder / name)


def test_tables_that_are_no_text(folder: Path):
    (folder / "c.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="UTF-8"):
        load_image_folder(folder, captions=folder / "c.csv")


def test_missing_and_empty(folder: Path, tmp_path: Path):
    with pytest.raises(MissingDataError, match="nowhere"):
        load_image_folder(tmp_path / "nowhere")
    with pytest.raises(MissingDataError, match=r"none\.csv"):
        load_image_folder(folder, captions=folder / "none.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"contains no images; expected .*\.png"):
        load_image_folder(tmp_path / "empty")


def test_open_by_name(write_coco: Callable[..., Path]):
    root = write_coco()
    assert open_dataset("coco", coco_root=root).name == "coco"
    with pytest.raises(MissingDataError, match="Use --coco-root DIR"):
        open_dataset("coco")
    with pytest.raises(UnknownNameError, match="did you mean 'shapes'"):
        open_dataset("shape")


def test_open_shapes_draws_them(monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def load(*, split: str, on_progress: object) -> CaptionedFiles:
        asked.append(split)
        return CaptionedFiles("shapes", Path(), (), {})

    monkeypatch.setattr("evalkit.datasets.shapes.dataset.load_shapes", load)
    open_dataset("shapes")
    open_dataset("shapes", split="train")
    assert asked == ["val", "train"]


def test_open_a_folder(folder: Path, write_coco: Callable[..., Path]):
    assert len(open_dataset(str(folder)).image_ids) == 4
    (folder / "captions.csv").write_text(CSV)
    assert len(open_dataset(str(folder)).captions) == 3
    (folder / "metadata.jsonl").write_text(JSONL)
    with pytest.raises(ConfigError, match="Keep only one"):
        open_dataset(str(folder))
    assert len(open_dataset(str(write_coco(split="mine"))).captions) == 6


def test_splits_of_a_folder(write_coco: Callable[..., Path]):
    for split in ("a", "b"):
        root = write_coco(split=split)
    with pytest.raises(ConfigError, match=r"splits a, b, and none is named val2014 or val"):
        open_dataset(str(root))
    assert open_dataset(str(root), split="b").image_path("10").parent.name == "b"
    write_coco(split="val")
    assert open_dataset(str(root)).image_path("10").parent.name == "val"
