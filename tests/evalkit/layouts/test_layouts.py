"""Each layout on a small sample: images, captions, ids and categories."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalkit.core.errors import ConfigError, DataError, MissingDataError, UnknownNameError
from evalkit.core.pixels import encode_png
from evalkit.features.sources import Preparation, load_image
from evalkit.layouts.catalog import LAYOUTS, open_images
from evalkit.layouts.found import ImageSet
from evalkit.layouts.place import parse_place


def pixels(value: int, size: int = 4) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def save(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels(value)))
    return path


def values(found: ImageSet) -> list[int]:
    """The gray value of each image, which says which one it is."""
    return [int(load_image(item, Preparation())[0, 0, 0]) for item in found.items]


def captions(found: ImageSet) -> list[str | None]:
    return [item.caption for item in found.items]


def geneval(root: Path) -> str:
    for number, (prompt, tag) in enumerate([("a photo of a dog", "single_object"),
                                            ("a photo of two cats", "counting")]):  # fmt: skip
        folder = root / f"{number:05d}"
        for sample in range(2):
            save(folder / "samples" / f"{sample:04d}.png", 10 * number + sample)
        save(folder / "grid.png", 99)
        (folder / "metadata.jsonl").write_text(json.dumps({"prompt": prompt, "tag": tag}))
    return str(root)


def dpg_bench(root: Path) -> str:
    grid = np.zeros((4, 6, 3), np.uint8)
    grid[:2, :3], grid[:2, 3:], grid[2:, :3], grid[2:, 3:] = 1, 2, 3, 4
    for name, offset in (("partiprompts0", 0), ("stanford3", 10)):
        (root / f"{name}.png").write_bytes(encode_png(grid + np.uint8(offset)))
    (root / "dpg_bench.csv").write_text(
        "item_id,text,proposition_id\npartiprompts0,a red dog,1\npartiprompts0,a red dog,2\n"
        "stanford3,a blue cat,1\n"
    )
    return str(root)


def t2i_compbench(root: Path) -> str:
    save(root / "samples" / "a green bench_000000.png", 1)
    save(root / "samples" / "a blue bowl and a red bowl_000001.png", 2)
    return str(root)


def imagenhub(root: Path) -> str:
    lookup = {
        "sample_1.jpg": {"prompt": "a dog", "category": "Realism"},
        "sample_2.jpg": {"prompt": "a cat", "category": "ABC"},
    }
    (root / "dataset_lookup.json").write_text(json.dumps(lookup))
    for number in (1, 2):
        for model in ("SDXL", "DALLE2"):
            path = root / model / f"sample_{number}.jpg"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels(40 * number)).save(path, quality=100)
    return str(root / "SDXL")


def heim(root: Path) -> str:
    def completion(location: str | None) -> dict[str, Any]:
        return {"multimodal_content": {"media_objects": [{"location": location}]}}

    states = [
        {
            "instance": {"id": "id7", "input": {"text": "a dog"}},
            # The machine that made them kept them elsewhere.
            "result": {"completions": [completion("/elsewhere/images/a.png"), completion(None)]},
        },
        {
            "instance": {"id": "id9", "input": {"text": "a cat"}},
            "result": {"completions": [{"file_location": str(save(root / "b.png", 2))}]},
        },
    ]
    save(root / "images" / "a.png", 1)
    (root / "scenario_state.json").write_text(json.dumps({"request_states": states}))
    return str(root)


def evalscope(root: Path) -> str:
    save(root / "images" / "1.png", 1), save(root / "images" / "2.png", 2)
    rows = [
        {"id": 1, "prompt": "a dog", "image_path": str(root / "images" / "1.png"), "tags": ["x"]},
        {"id": 2, "prompt": "a cat", "image_path": "images/2.png"},
    ]
    table = root / "t2i.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(table)


def beside(root: Path) -> str:
    for name, value, text in (("a", 1, "a dog"), ("sub/b", 2, "a cat\n")):
        save(root / f"{name}.png", value)
        (root / f"{name}.txt").write_text(text)
    return str(root)


def archive(root: Path) -> str:
    beside(root / "made")
    with zipfile.ZipFile(root / "made.zip", "w") as made:
        for file in sorted((root / "made").rglob("*.*")):
            made.write(file, file.relative_to(root / "made"))
    return str(root / "made.zip")


def webdataset(root: Path) -> str:
    folder = root / "shards"
    folder.mkdir()
    for shard, texts in enumerate((("a dog", "a cat"), ("a bird",))):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number, text in enumerate(texts):
                key = f"{shard}{number:04d}"
                row = json.dumps({"prompt": text, "category": "animals"}).encode()
                content = {"png": encode_png(pixels(10 * shard + number)), "json": row, "cls": b"3"}
                for ending, data in content.items():
                    info = tarfile.TarInfo(f"{key}.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return str(folder)


def parquet(root: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": encode_png(pixels(v)), "path": None} for v in (1, 2, 3)]
    table = pa.table({"image": images, "caption": ["a dog", "a cat", "a dog"], "tag": ["x"] * 3})
    pq.write_table(table, root / "images.parquet", row_group_size=2)
    return str(root / "images.parquet")


def stored_dataset(root: Path) -> str:
    parquet(root)
    return f"datasets:{root}"


def npz(root: Path) -> str:
    np.savez(root / "samples.npz", arr_0=np.stack([pixels(1), pixels(2)]))
    (root / "captions.csv").write_text("caption\na dog\na cat\n")
    return f"folder:{root / 'samples.npz'}?captions={root / 'captions.csv'}"


def plain(root: Path) -> str:
    save(root / "b.png", 2), save(root / "a.png", 1)
    return str(root)


Sample = tuple[Callable[[Path], str], str, list[int], list[str | None], list[str | None]]
SAMPLES: Mapping[str, Sample] = {
    "geneval": (
        geneval, "geneval", [0, 1, 10, 11],
        ["a photo of a dog"] * 2 + ["a photo of two cats"] * 2,
        ["single_object"] * 2 + ["counting"] * 2,
    ),
    "dpg-bench": (
        dpg_bench, "dpg-bench", [1, 2, 3, 4, 11, 12, 13, 14],
        ["a red dog"] * 4 + ["a blue cat"] * 4, ["partiprompts"] * 4 + ["stanford"] * 4,
    ),
    "t2i-compbench": (
        t2i_compbench, "t2i-compbench", [2, 1],
        ["a blue bowl and a red bowl", "a green bench"], [None] * 2,
    ),
    "imagenhub": (imagenhub, "imagenhub", [40, 80], ["a dog", "a cat"], ["Realism", "ABC"]),
    "heim": (heim, "heim", [1, 2], ["a dog", "a cat"], [None] * 2),
    "evalscope": (evalscope, "table", [1, 2], ["a dog", "a cat"], [None] * 2),
    "beside": (beside, "beside", [1, 2], ["a dog", "a cat"], [None] * 2),
    "archive": (archive, "beside", [1, 2], ["a dog", "a cat"], [None] * 2),
    "webdataset": (
        webdataset, "beside", [0, 1, 10], ["a dog", "a cat", "a bird"], ["animals"] * 3
    ),
    "parquet": (parquet, "parquet", [1, 2, 3], ["a dog", "a cat", "a dog"], ["x"] * 3),
    "datasets": (stored_dataset, "datasets", [1, 2, 3], ["a dog", "a cat", "a dog"], ["x"] * 3),
    "npz": (npz, "table", [1, 2], ["a dog", "a cat"], [None] * 2),
    "plain": (plain, "plain", [1, 2], [None] * 2, [None] * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_a_layout_is_recognised_and_read(name: str, tmp_path: Path) -> None:
    make, layout, expected, texts, categories = SAMPLES[name]
    found = open_images(make(tmp_path))
    assert found.layout == layout
    assert values(found) == expected
    assert captions(found) == texts
    assert [item.category for item in found.items] == categories
    if found.has_captions:  # images of one caption have one id, of two captions two
        pairs = {(item.caption_id, item.caption) for item in found.items}
        assert len({one for one, _ in pairs}) == len(pairs) == len(set(texts))


def test_every_layout_has_a_sample() -> None:
    assert {layout for _, layout, *_ in SAMPLES.values()} == set(LAYOUTS)


def test_columns_are_named_by_keys(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 1), save(tmp_path / "2.png", 2)
    (tmp_path / "list.tsv").write_text(
        "what\tfile_name\tpicture\ttopic\nx\ta.png\t1.png\tdogs\ny\tb.png\t2.png\tcats\n"
    )
    place = (
        f"folder:{tmp_path}?captions=list.tsv&image=picture&caption=what&category=topic&name=Mine"
    )
    found = open_images(place)
    assert values(found) == [1, 2]
    assert captions(found) == ["x", "y"]
    assert [item.category for item in found.items] == ["dogs", "cats"]
    assert found.place.title == "Mine"
    with pytest.raises(ConfigError, match=r"no column 'nothing' for caption; it has: what"):
        open_images(place.replace("caption=what", "caption=nothing"))


def test_a_json_object_maps_images_to_captions(tmp_path: Path) -> None:
    save(tmp_path / "1.png", 1), save(tmp_path / "2.png", 2)
    (tmp_path / "c.json").write_text(json.dumps({"2.png": "a cat", "1.png": {"text": "a dog"}}))
    with pytest.raises(DataError, match="1 of 2 images have no caption"):
        open_images(f"folder:{tmp_path}?captions=c.json")
    (tmp_path / "c.json").write_text(json.dumps({"2.png": "a cat", "1.png": "a dog"}))
    assert captions(open_images(f"folder:{tmp_path}?captions=c.json")) == ["a cat", "a dog"]


def test_captions_for_half_the_images_are_refused(tmp_path: Path) -> None:
    folder = Path(beside(tmp_path))
    save(folder / "c.png", 3)
    with pytest.raises(DataError, match=r"1 of 3 images have no caption, the first is .*c\.png"):
        open_images(str(folder))
    assert values(open_images(f"folder:{folder}?layout=plain")) == [1, 3, 2]
    (folder / "captions.jsonl").write_text('{"file_name": "a.png", "text": "a dog"}\n')
    with pytest.raises(DataError, match="2 of 3 images have no caption"):
        open_images(f"folder:{folder}")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('{"image": "a.png", "prompt": "x"}\n{"image": "a.png", "prompt": "y"}\n', "earlier row"),
        ('{"image": "b.png", "prompt": "x"}\n', r"c\.jsonl:1: no image 'b\.png'"),
        ('{"image": "a.png", "prompt": 3.5}\n{"image": [], "prompt": "x"}\n', "must be a text"),
        ('{"image": "a.png", "prompt": "x"\n', r"c\.jsonl:1: not valid JSON"),
        ('["a.png"]\n', "expected an object"),
        ("\n", "has no rows"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: str, message: str, tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    (tmp_path / "c.jsonl").write_text(table)
    with pytest.raises(DataError, match=message) as caught:
        open_images(str(tmp_path / "c.jsonl"))
    assert "\n" not in str(caught.value)


def test_ragged_and_unclosed_csv_is_refused(tmp_path: Path) -> None:
    for text, message in (
        ("image,caption\na.png\n", "line 2 has 1 cells, but the header has 2"),
        ('image,caption\na.png,"x\n', "a quote is opened and never closed"),
    ):
        (tmp_path / "c.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            open_images(str(tmp_path / "c.csv"))


def test_wrong_places_are_errors_of_one_line(tmp_path: Path) -> None:
    plain(tmp_path)
    cases = {
        f"folder:{tmp_path}?layout=nothing": (UnknownNameError, "Unknown layout 'nothing'"),
        f"folder:{tmp_path}?colour=red": (ConfigError, "'colour=red' is not KEY=VALUE"),
        f"folder:{tmp_path / 'nowhere'}": (MissingDataError, "no such file or folder"),
        f"folder:{tmp_path}?layout=dpg-bench": (MissingDataError, "needs its table of prompts"),
        f"folder:{tmp_path}?layout=t2i-compbench": (DataError, "expected the prompt and a number"),
        "datasets:nobody/nothing": (MissingDataError, "can't be opened"),
    }
    for place, (error, message) in cases.items():
        with pytest.raises(error, match=message) as caught:
            open_images(place)
        assert "\n" not in str(caught.value)


def test_an_existing_path_is_never_read_as_keys(tmp_path: Path) -> None:
    odd = tmp_path / "what?layout=geneval"
    odd.mkdir()
    assert parse_place(f"folder:{odd}").path == str(odd)
