"""The shipped protocols: what they list, show and tell apart, and what they refuse."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit import cli
from evalkit.core.errors import ConfigError, DataError, EvalkitError
from evalkit.core.progress import console
from evalkit.core.results import read_records
from evalkit.datasets.coco import load_coco
from evalkit.datasets.named_folders import open_cifar10, open_mjhq
from evalkit.datasets.open import open_dataset
from evalkit.features.sources import ImageItem
from evalkit.measurement import matched_items, refuse_short, short_of
from evalkit.metrics.statistics_files import read_statistics, refuse_other_preparation
from evalkit.options import MeasureOptions
from evalkit.protocols import catalog
from evalkit.protocols.applying import under
from evalkit.protocols.catalog import NOT_DRAWABLE, PROTOCOLS, open_protocol
from evalkit.reports.wording import protocol_badges, protocol_sentence

FOLDER = Path(catalog.__file__).parent
WANTED = (
    "imagen-30k", "glide-30k", "unclip-30k", "dalle-30k", "ldm-30k", "sd-card-10k", "gigagan-30k",
    "dmd2-30k", "karlo-30k", "mosaic-10k", "t2i-benchmark-30k", "heim-30k", "mlperf-5k",
    "cmmd-30k", "bksdm-30k", "mjhq-playground", "mjhq-sana", "adm-in64-50k", "adm-in256-50k",
    "edm-cifar10-50k", "ddpm-cifar10-50k", "shapes-1k",
)  # fmt: skip


def run(*words: object) -> None:
    cli.app([str(word) for word in words], standalone_mode=False)


def test_the_protocols_of_the_issue_are_there() -> None:
    assert set(WANTED) <= set(PROTOCOLS)
    assert {"uvit-30k", "repa-40192", "openmuse-30k"} <= set(NOT_DRAWABLE)
    assert not set(PROTOCOLS) & set(NOT_DRAWABLE)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_each_value_has_a_source_and_each_source_a_value(name: str) -> None:
    document = tomllib.loads((FOLDER / PROTOCOLS[name]).read_text("utf-8"))
    protocol = open_protocol(name)
    assert set(document["sources"]) == set(protocol.values())
    for part in ("captions", "reference", "samples", "extractor", "clip", "settings"):
        for key in document.get(part, {}):
            assert f"{part}.{key}" in document["sources"]
    assert protocol.choices_phrase().startswith(f"{len(protocol.our_choices)} of ")


@pytest.mark.parametrize("name", NOT_DRAWABLE)
def test_what_cant_be_run_says_why(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_protocol(name)
    assert NOT_DRAWABLE[name] in str(caught.value)


def test_list_shows_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    run("protocols", "list")
    shown = capsys.readouterr().out
    assert "gigagan-30k" in shown
    assert "2 of 19" in shown
    assert "uvit-30k" in shown


def test_show_has_every_value_and_its_source(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 300)
    run("protocols", "show", "heim-30k")
    shown = capsys.readouterr().out
    protocol = open_protocol("heim-30k")
    assert "3 of 23 values our choice" in shown
    for key, source in protocol.sources.items():
        assert key in shown
        assert source in shown


def test_diff_names_what_differs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "_width", 200)
    run("protocols", "diff", "gigagan-30k", "dmd2-30k")
    shown = capsys.readouterr().out
    assert "clip.model" in shown
    assert "captions.draw" in shown
    assert "reference.crop" not in shown
    run("protocols", "diff", "gigagan-30k", "gigagan-30k")
    assert "decide the same" in capsys.readouterr().out


def test_choices_stand_beside_the_name_wherever_a_number_appears() -> None:
    marks = under(open_protocol("gigagan-30k"), MeasureOptions(protocol="gigagan-30k"))
    fingerprint = marks.protocol_marks()
    assert fingerprint["protocol_choices"] == "2 of 19 values our choice"
    (badge,) = protocol_badges(fingerprint)
    assert badge.text == "gigagan-30k (2 of 19 values our choice)"
    assert "gigagan-30k (2 of 19 values our choice)" in protocol_sentence(fingerprint)
    shapes = under(open_protocol("shapes-1k"), MeasureOptions(protocol="shapes-1k"))
    assert protocol_badges(shapes.protocol_marks()) == []


def test_too_few_images_are_refused_and_with_leave_named() -> None:
    protocol = open_protocol("imagen-30k")
    with pytest.raises(ConfigError, match="needs 30,000 images, got 29,000"):
        refuse_short(protocol, 29_000, MeasureOptions())
    refuse_short(protocol, 29_000, MeasureOptions(allow_short=True))
    refuse_short(protocol, 30_000, MeasureOptions())
    assert short_of(protocol, 29_000) == "29,000 of 30,000"


def pictures(folder: Path, n: int, seed: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(n):
        pixels = rng.integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_score_refuses_a_short_set_and_says_so_with_leave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake, real = pictures(tmp_path / "a", 5, 0), pictures(tmp_path / "b", 6, 1)
    words = ("score", fake, "--against", real, "--protocol", "shapes-1k", "--metrics", "fd")
    with pytest.raises(ConfigError, match="shapes-1k needs 1,000 images, got 5"):
        run(*words)
    found = tmp_path / "r.json"
    run(*words, "--allow-short", "--json", found)
    shown = " ".join(capsys.readouterr().out.split())
    assert "5 of 1,000 images of shapes-1k" in shown
    (first, *_) = read_records(found)
    assert first.fingerprint["protocol_images"] == "5 of 1,000"
    assert "captions.count" in first.fingerprint["protocol_overrides"]


def test_statistics_of_another_preparation_are_refused(tmp_path: Path) -> None:
    real = pictures(tmp_path / "real", 5, 1)
    out = tmp_path / "real.npz"
    run("statistics", real, "--out", out, "--features", "shapes-clip", "--crop", "center",
        "--size", 32)  # fmt: skip
    statistics = read_statistics(out)
    same = {"crop": "center", "size_px": 32, "filter": "bicubic"}
    refuse_other_preparation(statistics, same, "mine")
    with pytest.raises(DataError, match=r"with size_px 32, but mine says 64") as caught:
        refuse_other_preparation(statistics, {**same, "size_px": 64}, "mine")
    assert "\n" not in str(caught.value)
    fake = pictures(tmp_path / "fake", 5, 0)
    with pytest.raises(DataError, match="prepared with crop 'center', but shapes-1k says 'none'"):
        run("score", fake, "--against", out, "--protocol", "shapes-1k", "--allow-short",
            "--metrics", "fd")  # fmt: skip


def test_a_matched_reference_is_of_the_drawn_captions() -> None:
    reference = [ImageItem(Path(f"{name}.png"), image_id=name) for name in "abcd"]
    found = matched_items(reference, ["c", "a", "a"], "mine")
    assert [item.image_id for item in found] == ["a", "c"]
    with pytest.raises(ConfigError, match="don't say which image"):
        matched_items(reference, ["a", None], "mine")


@pytest.mark.parametrize(
    ("split", "name"),
    [("val2014", "000000000042.jpg"), ("val2017", "COCO_val2014_000000000042.jpg")],
)
def test_coco_of_another_year_is_refused(tmp_path: Path, split: str, name: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / split).mkdir()
    Image.new("RGB", (8, 6)).save(tmp_path / split / name)
    document = {
        "images": [{"id": 42, "file_name": name}],
        "annotations": [{"id": 1, "image_id": 42, "caption": "a cat"}],
    }
    (tmp_path / "annotations" / f"captions_{split}.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"but the split is {split}") as caught:
        load_coco(tmp_path, split)
    assert "\n" not in str(caught.value)


def mjhq(folder: Path) -> Path:
    meta = {}
    for number, category in enumerate(["food", "art", "food"]):
        (folder / "imgs" / category).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (90 * number, 0, 0)).save(
            folder / "imgs" / category / f"k{number}.jpg"
        )
        meta[f"k{number}"] = {"prompt": f"prompt {number}", "category": category}
    (folder / "meta_data.json").write_text(json.dumps(meta))
    return folder


def test_mjhq_is_a_folder_with_categories(tmp_path: Path) -> None:
    data = open_dataset(str(mjhq(tmp_path)))
    assert [c.kind for c in data.captions] == ["food", "art", "food"]
    assert data.image_path("k1").is_file()
    (tmp_path / "imgs" / "art" / "k1.jpg").unlink()
    with pytest.raises(DataError, match=r"k1.jpg: the image of meta_data.json is missing"):
        open_mjhq(tmp_path)


def test_cifar10_is_read_from_its_binary_version(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 255, (20, 3073), np.uint8)
    rows[:, 0] %= 10
    for number in range(1, 6):
        part = rows[4 * number - 4 : 4 * number]
        (tmp_path / f"data_batch_{number}.bin").write_bytes(part.tobytes())
    data = open_cifar10(tmp_path)
    assert len(data.image_ids) == 20
    name = next(i for i in data.image_ids if i.endswith("/00007.png"))
    assert name == f"{rows[7, 0]}/00007.png"
    expected = rows[7, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(Image.open(data.image_path(name))), expected)


@pytest.mark.parametrize(
    ("names", "content", "complaint"),
    [
        (("data_batch_1",), b"x", "evalkit unpickles nothing"),
        (tuple(f"data_batch_{k}.bin" for k in range(1, 6)), b"x" * 100, "multiple of 3,073"),
        (tuple(f"data_batch_{k}.bin" for k in range(1, 6)), b"x" * 3073, "expected 0 to 9"),
    ],
)
def test_what_is_no_cifar10_is_refused(
    tmp_path: Path, names: tuple[str, ...], content: bytes, complaint: str
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EvalkitError, match=complaint):
        open_cifar10(tmp_path)


def test_the_drawn_list_is_written_for_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val2014").mkdir()
    images, annotations = [], []
    for number in (3, 1, 2):
        name = f"COCO_val2014_{number:012d}.jpg"
        mode = "L" if number == 2 else "RGB"
        Image.new(mode, (8, 6)).save(root / "val2014" / name)
        images.append({"id": number, "file_name": name})
        annotations += [
            {"id": 100 - 10 * number - k, "image_id": number, "caption": f"caption\n {k}"}
            for k in range(3)
        ]
    document = {"images": images, "annotations": annotations}
    (root / "annotations" / "captions_val2014.json").write_text(json.dumps(document))
    protocol = tmp_path / "mine.toml"
    text = (FOLDER / "mlperf-5k.toml").read_text("utf-8")
    protocol.write_text(text.replace('"mlperf-5k"', '"mine"').replace("= 5000", "= 2"))
    out = tmp_path / "drawn.tsv"
    run("data", "coco", "--coco-root", root, "--protocol", protocol, "--captions-out", out)
    shown = " ".join(capsys.readouterr().out.split())
    lines = out.read_text("utf-8").splitlines()
    assert lines[0] == "id\timage_id\tprompt"
    order = np.random.RandomState(2023).permutation(3)[:2]
    firsts = sorted(100 - 10 * number for number in (1, 2, 3))
    assert [int(line.split("\t")[0]) for line in lines[1:]] == sorted(firsts[k] for k in order)
    assert lines[1].endswith("\tcaption 0")
    assert "Colour modes: RGB 2, L 1" in shown
    assert "Differs: 3 images, coco has 40,504." in shown
    assert "Ids: " in shown
