"""COCO captions from a folder: the good ones, and every way they can be wrong."""

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalkit.core.errors import DataError, MissingDataError
from evalkit.core.pixels import read_rgb
from evalkit.datasets import coco_hub
from evalkit.datasets.base import CaptionedImages
from evalkit.datasets.coco import find_coco, load_coco

Write = Callable[..., Path]


def test_a_folder_by_hand(write_coco: Write):
    dataset = load_coco(write_coco())
    assert isinstance(dataset, CaptionedImages)
    assert (dataset.name, list(dataset.image_ids)) == ("coco", ["10", "20", "30"])
    assert [c.id for c in dataset.captions] == ["1010", "1011", "1020", "1021", "1030", "1031"]
    assert dataset.captions[1].text == "Caption 1 of image 10."
    assert dataset.captions[1].image_id == "10"
    assert abs(int(read_rgb(dataset.image_path("20"))[0, 0, 0]) - 20) <= 2


def test_images_may_lie_below_images(write_coco: Write):
    root = write_coco(split="val", nested=True)
    dataset = load_coco(root, "val", name="mine")
    assert dataset.image_path("10") == root / "images" / "val" / "COCO_000010.jpg"
    assert dataset.name == "mine"


def test_files_in_subfolders_and_text_ids(write_coco: Write, coco_annotations: Any):
    data = coco_annotations(num_images=1)
    data["images"][0] |= {"id": "dog", "file_name": "sub/dog.jpg"}
    for entry in data["annotations"]:
        entry["image_id"] = "dog"
    root = write_coco(data)
    (root / "val2014" / "sub").mkdir()
    (root / "val2014" / "COCO_000010.jpg").rename(root / "val2014" / "sub" / "dog.jpg")
    assert load_coco(root).image_path("dog").is_file()


def test_images_without_captions_stay_in_the_reference(write_coco: Write, coco_annotations: Any):
    data = coco_annotations()
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] == 10]
    assert len(load_coco(write_coco(data)).image_ids) == 3


def breakages() -> dict[str, tuple[Callable[[dict[str, Any]], Any], str]]:
    """What goes wrong, done to good annotations, and what the message must say."""

    def put(section: str, number: int, **fields: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda data: data[section][number].update(fields)

    def drop(section: str, number: int, key: str) -> Callable[[dict[str, Any]], Any]:
        return lambda data: data[section][number].pop(key)

    return {
        "duplicate caption": (put("annotations", 3, id=1031), "caption id 1031 occurs twice"),
        "duplicate image": (put("images", 2, id=30), "image id 30 occurs twice"),
        "same id as text": (put("images", 2, id="30"), "image id 30 occurs twice"),
        "same file": (put("images", 2, file_name="COCO_000030.jpg"), "of another image"),
        "unlisted image": (put("annotations", 0, image_id=99), "names image 99"),
        "missing file": (put("images", 1, file_name="gone.jpg"), r"gone\.jpg: image 20"),
        "outside": (put("images", 0, file_name="../a.jpg"), r"images\[0\].*'\.\./a\.jpg'"),
        "absolute": (put("images", 0, file_name="/a.jpg"), r"images\[0\].*'/a\.jpg'"),
        "no id": (drop("images", 1, "id"), r"images\[1\]: 'id' is missing"),
        "no caption": (drop("annotations", 4, "caption"), r"annotations\[4\]: 'caption'"),
        "true as id": (put("images", 0, id=True), "integer or a string, got True"),
        "float id": (put("annotations", 0, id=1.5), "integer or a string, got 1.5"),
        "empty id": (put("images", 0, id=""), "integer or a string, got ''"),
        "number as caption": (put("annotations", 0, caption=7), "non-empty string, got 7"),
        "blank caption": (put("annotations", 0, caption=" \n"), "non-empty string"),
        "null image": (lambda data: data["images"].insert(0, None), "expected an object, got null"),
        "no images": (lambda data: data["images"].clear(), "non-empty list under 'images'"),
        "no section": (lambda data: data.pop("annotations"), "'annotations', got nothing"),
        "section is object": (lambda data: data.update(images={}), "got an object"),
        "bad label": (put("images", 0, label="star"), "'label' must be an integer"),
        "bad scene": (put("images", 0, scene=[]), "'scene' must be an object, got a list"),
    }


@pytest.mark.parametrize("case", breakages())
def test_broken_annotations_name_file_and_place(
    case: str, write_coco: Write, coco_annotations: Any
):
    data = copy.deepcopy(coco_annotations())
    change, message = breakages()[case]
    change(data)
    with pytest.raises(DataError, match=message) as caught:
        load_coco(write_coco(data))
    assert "captions_val2014.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"text"', "null", "[" * 100_000, "\xff"])
def test_files_that_are_no_annotations(text: str, write_coco: Write):
    with pytest.raises(DataError, match=r"captions_val2014\.json"):
        load_coco(write_coco(text))


def test_several_missing_files_are_counted(write_coco: Write):
    root = write_coco()
    (root / "val2014" / "COCO_000010.jpg").unlink()
    (root / "val2014" / "COCO_000020.jpg").unlink()
    with pytest.raises(DataError, match=r"image 20 .* is missing \(and 1 more\)"):
        load_coco(root)


def test_missing_folder_annotations_and_images(write_coco: Write, tmp_path: Path):
    with pytest.raises(MissingDataError, match=r"captions_val2014\.json not found"):
        load_coco(tmp_path / "nowhere")
    root = write_coco()
    (root / "val2014").rename(root / "test2014")
    with pytest.raises(MissingDataError, match="No folder of images for val2014"):
        load_coco(root)


def test_places_are_tried_in_order(
    write_coco: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = write_coco()
    assert find_coco(root).root == root / "val2014"
    monkeypatch.setenv("EVALKIT_COCO", str(root))
    assert find_coco().root == root / "val2014"
    with pytest.raises(MissingDataError, match="nowhere"):
        find_coco(tmp_path / "nowhere")
    monkeypatch.setenv("EVALKIT_COCO", str(tmp_path / "gone"))
    with pytest.raises(MissingDataError, match="gone"):
        find_coco()
    monkeypatch.delenv("EVALKIT_COCO")
    root.rename(tmp_path / "elsewhere")
    (tmp_path / "cache").mkdir()
    (tmp_path / "elsewhere").rename(tmp_path / "cache" / "coco")
    assert find_coco().root == tmp_path / "cache" / "coco" / "val2014"


def test_found_nowhere_says_three_ways_in_one_line(tmp_path: Path):
    started = time.monotonic()
    with pytest.raises(MissingDataError) as caught:
        find_coco()
    assert time.monotonic() - started < 5
    message = str(caught.value)
    assert "\n" not in message
    for part in ("HF_HUB_OFFLINE is set", "--coco-root", "EVALKIT_COCO", "evalkit data coco"):
        assert part in message
    assert str(tmp_path / "cache" / "coco") in message
    with pytest.raises(MissingDataError, match="only val2014"):
        find_coco(split="train2014")


def test_without_a_network_the_answer_comes_in_time(monkeypatch: pytest.MonkeyPatch):
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    started = time.monotonic()
    with pytest.raises(MissingDataError, match=r"no network.*hub\.invalid"):
        find_coco()
    assert time.monotonic() - started < 5


def test_from_the_hub_to_the_cache(
    write_coco: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is fetched lands in the cache; the next call finds it there."""
    source = write_coco()

    def fetch(root: Path, *, on_progress: object) -> None:
        root.parent.mkdir(exist_ok=True)
        source.rename(root)

    monkeypatch.setattr("evalkit.datasets.coco.why_no_hub", lambda: "")
    monkeypatch.setattr("evalkit.datasets.coco.fetch_from_hub", fetch)
    assert find_coco().root == tmp_path / "cache" / "coco" / "val2014"
    monkeypatch.setattr("evalkit.datasets.coco.why_no_hub", coco_hub.why_no_hub)
    assert len(find_coco().captions) == 6
