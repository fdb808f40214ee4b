"""Own images as training data: every layout, held out in part, never a validation split."""

from __future__ import annotations

import csv
import json
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.commands.training_data import OwnData, OwnImages, first_captions, open_own_data
from evalkit.core.errors import ConfigError, DataError, MissingDataError
from evalkit.core.progress import silent
from evalkit.datasets.shapes.dataset import write_shapes
from evalkit.layouts.catalog import _opened

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 40), "blue": (20, 40, 190)}


def jpeg(colour: str, size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(buffer, "JPEG")
    return buffer.getvalue()


def opened(place: Path | str, **changes: Any) -> OwnData:
    _opened.cache_clear()  # a command opens a place once; these tests change it in between
    options: dict[str, Any] = {
        "image_px": 16, "hold_out": 0.0, "seed": 0, "captions": True, "classes": False, **changes
    }  # fmt: skip
    return open_own_data(str(place), **options)


def texts(root: Path) -> str:
    for colour in COLOURS:
        (root / f"{colour}.jpg").write_bytes(jpeg(colour))
        (root / f"{colour}.txt").write_text(f"a {colour} card\n")
    return str(root)


def table(root: Path) -> str:
    for colour in COLOURS:
        (root / f"{colour}.jpg").write_bytes(jpeg(colour))
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file_name", "text"), *((f"{c}.jpg", f"a {c} card") for c in COLOURS)]
        )
    return str(root)


def lines(root: Path) -> str:
    """A table in each subfolder, and two captions of each image."""
    for colour in COLOURS:
        (root / colour).mkdir()
        (root / colour / "1.jpg").write_bytes(jpeg(colour))
        rows = [{"file_name": "1.jpg", "text": f"{a} {colour} card"} for a in ("a", "one")]
        (root / colour / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return str(root)


def shards(root: Path) -> str:
    for number, colour in enumerate(COLOURS):
        with tarfile.open(root / f"{number:05d}.tar", "w") as tar:
            for name, content in (
                (f"{number}.jpg", jpeg(colour)),
                (f"{number}.txt", f"a {colour} card".encode()),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, BytesIO(content))
    return str(root)


def archive(root: Path) -> str:
    with zipfile.ZipFile(root / "set.zip", "w") as file:
        for colour in COLOURS:
            file.writestr(f"{colour}.jpg", jpeg(colour))
            file.writestr(f"{colour}.txt", f"a {colour} card")
    return str(root / "set.zip")


def parquet(root: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (root / "data").mkdir()
    for split, colours in (("train", [*COLOURS]), ("validation", ["blue"])):
        cells = {
            "image": [{"bytes": jpeg(colour), "path": None} for colour in colours],
            "text": [f"a {colour} card" for colour in colours],
        }
        pq.write_table(pa.table(cells), root / "data" / f"{split}-00000-of-00001.parquet")
    return str(root)


def hub(root: Path) -> str:
    (root / "train").mkdir()
    return f"datasets:{Path(table(root / 'train')).parent}"


def coco(root: Path) -> str:
    for split, colours in (("train2014", [*COLOURS]), ("val2014", ["blue"])):
        write_coco(root, split, colours)
    return str(root)


def write_coco(root: Path, split: str, colours: list[str]) -> None:
    (root / split).mkdir()
    (root / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for number, colour in enumerate(colours, start=1 if split.startswith("train") else 100):
        name = f"COCO_{split}_{number:012d}.jpg"
        (root / split / name).write_bytes(jpeg(colour))
        images.append({"id": number, "file_name": name})
        annotations += [
            {"id": 10 * number + k, "image_id": number, "caption": f"{a} {colour} card"}
            for k, a in enumerate(("a", "one"))
        ]
    document = {"info": {}, "licenses": [], "images": images, "annotations": annotations}
    (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(document))


LAYOUTS = {
    make.__name__: make for make in (texts, table, lines, shards, archive, parquet, hub, coco)
}


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_captioned_images_are_read_in_any_layout(layout: str, tmp_path: Path) -> None:
    data = opened(LAYOUTS[layout](tmp_path)).train
    assert len(data) == 3
    for row, said in enumerate(data.captions):
        (colour,) = {caption.split()[1] for caption in said}
        assert set(said) <= {f"a {colour} card", f"one {colour} card"}
        assert len(said) == (2 if layout in ("lines", "coco") else 1)
        pixels = data.pixels([row])
        assert pixels.shape == (1, 16, 16, 3)
        assert np.abs(pixels[0].astype(int) - COLOURS[colour]).max() < 12
    assert data.pixels([2, 0]).shape == (2, 16, 16, 3)


def folders(root: Path) -> str:
    for colour in COLOURS:
        (root / colour).mkdir()
        (root / colour / "1.jpg").write_bytes(jpeg(colour))
    return str(root)


def labels(root: Path) -> str:
    for colour in COLOURS:
        (root / f"{colour}.jpg").write_bytes(jpeg(colour))
    rows = ["file_name,label", *(f"{colour}.jpg,{colour}" for colour in COLOURS)]
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    return str(root)


def cls(root: Path) -> str:
    with tarfile.open(root / "train-0.tar", "w") as tar:
        for number, colour in enumerate(COLOURS):
            for name, content in ((f"{number}.jpg", jpeg(colour)), (f"{number}.cls", colour)):
                body = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, BytesIO(body))
    return str(root)


def test_scenes_of_several_objects_have_no_class(tmp_path: Path) -> None:
    """What `evalkit data shapes` wrote: a label for a single object, else none."""
    write_shapes(tmp_path, 12, 4)
    found = opened(tmp_path)
    assert len(found.train) == 12
    assert len(found.train.captions[0]) == 5
    with pytest.raises(ConfigError, match="have no class"):
        opened(tmp_path, captions=False, classes=True)


@pytest.mark.parametrize("layout", [folders, labels, cls])
def test_classes_come_from_subfolders_or_a_table(layout: Any, tmp_path: Path) -> None:
    found = opened(layout(tmp_path), captions=False, classes=True)
    assert found.classes == ("blue", "green", "red")
    for label, pixels in zip(found.train.labels, found.train.pixels(range(3)), strict=True):
        assert np.abs(pixels.astype(int) - COLOURS[found.classes[label]]).max() < 12


def many(root: Path, count: int = 40) -> str:
    for number in range(count):
        (root / f"{number}.jpg").write_bytes(jpeg("red", (20 + number, 30)))
        (root / f"{number}.txt").write_text(f"card {number}")
    return str(root)


def test_held_out_images_are_the_same_ones_and_are_never_trained_on(tmp_path: Path) -> None:
    place = many(tmp_path)
    found, again, other = (opened(place, hold_out=0.25, seed=seed) for seed in (0, 0, 1))
    assert found.held_out is not None
    assert again.held_out is not None
    assert other.held_out is not None
    kept, held = ({said[0] for said in part.captions} for part in (found.train, found.held_out))
    assert (len(kept), len(held)) == (30, 10)
    assert not kept & held
    assert [*again.held_out.captions] == [*found.held_out.captions]
    assert [*other.held_out.captions] != [*found.held_out.captions]
    assert opened(place, hold_out=0.0).held_out is None
    least = opened(place, hold_out=0.001).held_out
    assert least is not None
    assert len(least) == 1
    (tmp_path / "new.jpg").write_bytes(jpeg("blue"))
    (tmp_path / "new.txt").write_text("card new")
    grown = opened(place, hold_out=0.25).held_out
    assert grown is not None
    assert len({s[0] for s in grown.captions} & held) >= 9, "one more image moves few others"


def test_the_fingerprint_is_of_names_captions_and_classes(tmp_path: Path) -> None:
    place = texts(tmp_path)
    first = opened(place).fingerprint
    assert opened(place).fingerprint == first
    (tmp_path / "red.txt").write_text("another caption")
    assert opened(place).fingerprint != first


def test_images_are_decoded_only_when_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    module = "evalkit.commands.training_data"
    real = __import__(module, fromlist=["load_image"]).load_image
    monkeypatch.setattr(
        f"{module}.load_image", lambda item, how: asked.append(item.name) or real(item, how)
    )
    data = opened(many(tmp_path)).train
    assert asked == []
    data.pixels([3, 1])
    assert [Path(name).stem for name in asked] == [data.captions[r][0].split()[1] for r in (3, 1)]
    assert not any(
        isinstance(value, np.ndarray) and value.ndim > 1 for value in vars(data).values()
    )


def test_parts_for_validation_are_left_out_and_said(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        (tmp_path / part).mkdir()
        texts(tmp_path / part)
    found = opened(tmp_path)
    assert len(found.train) == 3
    assert all("/train/" in item.name for item in found.train.items)
    assert found.notes == ("6 images of test, val left out: never trained on",)


def test_words_that_only_look_like_splits_are_classes(tmp_path: Path) -> None:
    for name in ("training shoes", "valley", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(jpeg("red"))
    found = opened(tmp_path, captions=False, classes=True)
    assert found.classes == ("tests", "training shoes", "valley")
    assert found.notes == ()


def validation_beside_training(root: Path) -> str:
    for part in ("train", "val"):
        (root / part).mkdir()
        texts(root / part)
    return str(root / "val")


def only_coco_validation(root: Path) -> str:
    write_coco(root, "val2014", ["red"])
    return str(root)


def validation_split(root: Path) -> str:
    return f"{hub(root)}:validation"


def only_validation_inside(root: Path) -> str:
    for part in ("val", "test"):
        (root / part).mkdir()
        texts(root / part)
    return str(root)


def named_validation(root: Path) -> str:
    (root / "val2014").mkdir()
    return texts(root / "val2014")


def coco_by_its_scheme(root: Path) -> str:
    return f"folder:{only_coco_validation(root)}"


def catalog(root: Path) -> str:
    del root
    return "coco"


@pytest.mark.parametrize(
    "place",
    [
        validation_beside_training,
        only_coco_validation,
        validation_split,
        only_validation_inside,
        named_validation,
        coco_by_its_scheme,
        catalog,
    ],
)
def test_a_validation_split_is_never_trained_on(place: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"never trained on|not trained on") as caught:
        opened(place(tmp_path))
    assert "\n" not in str(caught.value)


def bare(root: Path) -> str:
    (root / "1.jpg").write_bytes(jpeg("red"))
    return str(root)


def empty(root: Path) -> str:
    return str(root)


def nothing(root: Path) -> str:
    return str(root / "no-such")


@pytest.mark.parametrize(
    ("place", "changes", "kind", "complaint"),
    [
        (bare, {}, ConfigError, "no captions"),
        (bare, {"captions": False, "classes": True}, ConfigError, "no class"),
        (empty, {}, DataError, "no images"),
        (nothing, {}, MissingDataError, "no such"),
        (texts, {"hold_out": 1.0}, ConfigError, "--hold-out"),
        (texts, {"hold_out": -0.1}, ConfigError, "--hold-out"),
    ],
)
def test_what_can_not_be_trained_on_is_one_line(
    place: Any, changes: dict[str, Any], kind: type[Exception], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=complaint) as caught:
        opened(place(tmp_path), **changes)
    assert "\n" not in str(caught.value)


def test_a_broken_image_is_found_before_the_training(tmp_path: Path) -> None:
    place = many(tmp_path)
    (tmp_path / "7.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"7\.jpg"):
        opened(place).train.check(silent)


def test_captions_to_learn_from_are_limited() -> None:
    data = OwnImages([], [("a", "b"), ("c",), ("d",)], np.zeros(3, np.int64), 16)
    assert [*first_captions(data, 3)] == ["a", "b", "c"]
    assert [*first_captions(data, 9)] == ["a", "b", "c", "d"]
