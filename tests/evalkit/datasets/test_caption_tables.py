"""Captions of a set: beside the images, in subfolders, in archives, however names are written."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import ConfigError, DataError
from evalkit.datasets.image_folder import open_captioned_set
from evalkit.datasets.open import open_dataset


def draw(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / name)
    return root


def lines(*rows: dict[str, str]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def test_tables_of_subfolders_name_files_beside_them(tmp_path: Path) -> None:
    draw(tmp_path, "train/a.png", "val/a.png", "val/b.png", "c.png")
    (tmp_path / "train/metadata.csv").write_text("file_name,text\na.png,one\n")
    (tmp_path / "val/metadata.jsonl").write_text(lines({"file_name": "a.png", "text": "two"}))
    (tmp_path / "captions.csv").write_text("file_name,text\nval/a.png,three\n")
    found = open_captioned_set(tmp_path)
    assert [(c.id, c.image_id, c.text) for c in found.captions] == [
        ("train/a.png", "train/a.png", "one"),
        ("val/a.png", "val/a.png", "three"),
        ("val/a.png#2", "val/a.png", "two"),
    ]
    assert found.num_without_caption == 2
    assert found.files.left_out(found.tables) == ""
    assert open_dataset(str(tmp_path)).captions == found.captions


def test_captions_in_a_zip(tmp_path: Path) -> None:
    draw(tmp_path / "set", "x/a.png", "x/b.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("x/a.png", "x/b.png"):
            archive.write(tmp_path / "set" / name, name)
        archive.writestr("x/captions.csv", "\ufefffile_name,text\nb.png,one\nb.png,two\n")
        archive.writestr("__MACOSX/x/captions.csv", "junk")
    found = open_captioned_set(tmp_path / "set.zip")
    assert [(c.image_id, c.text) for c in found.captions] == [
        ("x/b.png", "one"),
        ("x/b.png", "two"),
    ]
    assert found.num_without_caption == 1


COMPOSED, DECOMPOSED = "cr\u00e8me.png", "cre\u0300me.png"
"""One name in the form of most systems (NFC), and in that of macOS (NFD)."""


@pytest.mark.parametrize(("on_disk", "written"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_names_written_in_two_ways_are_one(tmp_path: Path, on_disk: str, written: str) -> None:
    draw(tmp_path, on_disk)
    table = lines({"file_name": f"./{written}", "text": "x"})
    (tmp_path / "metadata.jsonl").write_text(table, "utf-8")
    (caption,) = open_captioned_set(tmp_path).captions
    assert caption.image_id == on_disk


def test_of_two_files_the_name_as_written_counts(tmp_path: Path) -> None:
    draw(tmp_path, COMPOSED, DECOMPOSED)
    if len(list(tmp_path.glob("*.png"))) < 2:
        pytest.skip("this file system has one file for both names")
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / "metadata.csv").write_text(f"file_name,text\n{name},x\n", "utf-8")
        assert open_captioned_set(tmp_path).captions[0].image_id == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('file_name,text\na.png,"open\nb.png,two"\n', r":2: the caption holds a row .* 'b\.png'"),
        ("file_name,caption\na.png,x\n", "column 'text' is missing.*found file_name, caption"),
        ("file_name,text\na.png,red, round\n", "line 2 has 3 cells"),
        ("file_name;text\na.png;x\n", r"column 'file_name' is missing.*found file_name;text"),
        ("file_name,text\nc.png,x\n", r":2: no image 'c\.png'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, text: str, message: str) -> None:
    draw(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        open_captioned_set(tmp_path)


def test_a_caption_may_have_lines_and_commas(tmp_path: Path) -> None:
    draw(tmp_path, "a.png")
    text = "A horse\nin a field, at dusk"
    (tmp_path / "metadata.csv").write_text(f'file_name,text\na.png,"{text}"\n')
    assert open_captioned_set(tmp_path).captions[0].text == text


def test_two_tables_of_one_folder_are_refused(tmp_path: Path) -> None:
    draw(tmp_path, "sub/a.png")
    for name in ("captions.csv", "metadata.csv"):
        (tmp_path / "sub" / name).write_text("file_name,text\na.png,x\n")
    with pytest.raises(ConfigError, match=r"captions\.csv and metadata\.csv\. Keep only one"):
        open_captioned_set(tmp_path)
