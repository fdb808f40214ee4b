"""`evalkit.score`, `compare` and `generate` from Python: the same records as the commands give."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageFilter

import evalkit
from evalkit.core.errors import ConfigError, DataError, NotEnoughImagesError, UnknownNameError
from evalkit.core.pixels import read_rgb
from evalkit.core.results import ResultRecord, read_records
from evalkit.core.run import RunFolder
from evalkit.datasets.base import CaptionedImages
from evalkit.datasets.shapes import dataset as shapes
from evalkit.reports.tables import COLUMNS
from tests.evalkit.commands.test_commands import run
from tests.test_imports import loaded_by

N = 24
JUDGE: dict[str, Any] = {"features": "shapes-clip", "metrics": ["kid", "clip-score"]}


@pytest.fixture(autouse=True)
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> evalkit.MeasureOptions:
    """One store of features for all tests here, since the networks take the time."""
    return evalkit.MeasureOptions(
        clip_model="shapes-clip", store=tmp_path_factory.mktemp("store"), device="cpu"
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> CaptionedImages:
    """Drawn scenes with captions."""
    folder = tmp_path_factory.mktemp("data") / "drawn"
    return shapes.load_shapes(shapes.write_shapes(folder, 0, N), num_images=N)


@pytest.fixture(scope="module")
def pictures(data: CaptionedImages) -> list[Image.Image]:
    return [Image.open(data.image_path(image_id)).convert("RGB") for image_id in data.image_ids]


@pytest.fixture(scope="module")
def captions(data: CaptionedImages) -> list[str]:
    by_image = {caption.image_id: caption.text for caption in data.captions}
    return [by_image[image_id] for image_id in data.image_ids]


@pytest.fixture(scope="module")
def folders(
    pictures: list[Image.Image], captions: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The scenes, and the same blurred, with their captions."""
    root = tmp_path_factory.mktemp("sets")
    for name, radius in (("real", 0.0), ("sharp", 0.4), ("soft", 2.0)):
        (root / name).mkdir()
        rows = []
        for place, picture in enumerate(pictures):
            file = f"{place:03d}.png"
            picture.filter(ImageFilter.GaussianBlur(radius)).save(root / name / file)
            rows.append({"file_name": file, "text": captions[place]})
        if name != "real":
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (root / name / "captions.jsonl").write_text(lines)
    return {name: root / name for name in ("real", "sharp", "soft")}


def opened(folder: Path) -> list[Image.Image]:
    return [Image.fromarray(read_rgb(file)) for file in sorted(folder.glob("*.png"))]


def as_array(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(image) for image in opened(folder)]).transpose(0, 3, 1, 2)


def plain(record: ResultRecord) -> dict[str, Any]:
    """A record without what names its files."""
    found = record.as_dict()
    found["fingerprint"] = {
        key: value
        for key, value in found["fingerprint"].items()
        if key not in ("reference", "command")
    }
    return found


def numbers(results: evalkit.Results) -> list[tuple[Any, ...]]:
    return [(r.metric, r.value, r.interval, r.n) for r in results]


def test_importing_it_is_light() -> None:
    assert loaded_by("import evalkit; dir(evalkit); evalkit.__version__") == set()
    assert loaded_by("from evalkit import score") >= {"numpy"}, "the door opens at first use"


def test_it_has_what_it_lists() -> None:
    assert set(evalkit.__all__) <= set(dir(evalkit))
    for name in evalkit.__all__:
        assert getattr(evalkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = evalkit.scores
    for package in ("evalkit", "generators", "drawbench"):
        assert (Path(evalkit.__file__).parents[1] / package / "py.typed").is_file()


def test_a_score_is_that_of_the_command(
    folders: dict[str, Path], tmp_path: Path, options: evalkit.MeasureOptions
) -> None:
    assert run("score", folders["soft"], "--against", folders["real"], "--features", "shapes-clip",
               "--clip-model", "shapes-clip", "--metrics", "kid,clip-score",
               "--store", options.store,
               "--json", tmp_path / "r.json") == 0  # fmt: skip
    found = evalkit.score(folders["soft"], folders["real"], options=options, **JUDGE)
    assert [plain(r) for r in found] == [plain(r) for r in read_records(tmp_path / "r.json")]
    assert found["kid-full"].interval is not None


def test_a_comparison_is_that_of_the_command(
    folders: dict[str, Path], tmp_path: Path, options: evalkit.MeasureOptions
) -> None:
    assert run("compare", folders["sharp"], folders["soft"], "--against", folders["real"],
               "--features", "shapes-clip", "--clip-model", "shapes-clip",
               "--metrics", "kid,clip-score", "--store", options.store,
               "--json", tmp_path / "r.json",
               "--export", tmp_path / "e.json", "--export", tmp_path / "e.tex") == 0  # fmt: skip
    found = evalkit.compare(
        [folders["sharp"], folders["soft"]], folders["real"], options=options, **JUDGE
    )
    assert [plain(r) for r in found] == [plain(r) for r in read_records(tmp_path / "r.json")]
    assert (tmp_path / "e.json").read_bytes() == (tmp_path / "r.json").read_bytes()
    difference = found["clip-score-difference"]
    assert difference.subject == "sharp - soft"
    assert len(found.differences) == 2
    assert found.record("kid-full", "soft").value != found.record("kid-full", "sharp").value
    assert not (tmp_path / "comparison.html").read_text().count("evalkit.compare")


@pytest.mark.parametrize("kind", ["pillow", "array", "tensor", "half a tensor"])
def test_images_in_memory_give_what_files_give(
    folders: dict[str, Path], captions: list[str], kind: str, options: evalkit.MeasureOptions
) -> None:
    arrays = as_array(folders["soft"])
    given: Any = {
        "pillow": opened(folders["soft"]),
        "array": arrays,
        "tensor": torch.from_numpy(arrays.copy()),
        "half a tensor": torch.from_numpy(np.repeat(arrays, 2, axis=3))[..., ::2],
    }[kind]
    by_files = evalkit.score(folders["soft"], folders["real"], options=options, **JUDGE)
    in_memory = evalkit.score(
        given, as_array(folders["real"]), captions=captions, options=options, **JUDGE
    )
    for one, other in zip(in_memory, by_files, strict=True):
        assert (one.metric, one.n, one.subject) == (other.metric, other.n, "images")
        assert one.value == pytest.approx(other.value, rel=1e-9)


def test_a_comparison_in_memory_is_paired_by_captions(
    folders: dict[str, Path], captions: list[str], options: evalkit.MeasureOptions
) -> None:
    sets = {name: as_array(folders[name]) for name in ("sharp", "soft")}
    found = evalkit.compare(
        sets, as_array(folders["real"]), captions=captions, options=options, **JUDGE
    )
    by_files = evalkit.compare(
        {name: folders[name] for name in sets}, folders["real"], options=options, **JUDGE
    )
    assert [r.metric for r in found.differences] == [r.metric for r in by_files.differences]
    distinct = len(set(captions))
    assert found["clip-score-difference"].details["shared_ids"] <= distinct
    assert found["kid-full-difference"].value == pytest.approx(
        by_files["kid-full-difference"].value, rel=1e-9
    )


def test_the_frame_is_tidy_and_the_files_are_written(
    folders: dict[str, Path], tmp_path: Path, options: evalkit.MeasureOptions
) -> None:
    found = evalkit.score(folders["soft"], folders["real"], options=options, **JUDGE)
    frame = found.to_frame()
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["metric"]) == [record.metric for record in found]
    assert set(frame["n_reference"].dropna()) == {N}
    wide = found.to_frame(fingerprint=True)
    assert "fingerprint.extractor.name" in wide
    written = found.export(tmp_path / "a.csv", str(tmp_path / "a.html"), tmp_path / "a.tex")
    assert written == [tmp_path / "a.csv", tmp_path / "a.html", tmp_path / "a.tex"]
    stored = pd.read_csv(tmp_path / "a.csv")
    assert list(stored["value"]) == list(frame["value"])
    with pytest.raises(ConfigError, match=r"\.txt"):
        found.export(tmp_path / "a.txt")
    assert pickle.loads(pickle.dumps(found)) == found
    text = str(found)
    assert "KID (shapes-clip)" in text
    assert "CLIP score" in text


def test_a_run_is_generated_scored_and_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: evalkit.MeasureOptions,
) -> None:
    monkeypatch.setattr(shapes, "load_shapes", partial(shapes.load_shapes, num_images=40))
    prompts = ["a red circle", "two blue squares", "a red circle"]
    given = evalkit.generate(
        "glide:tiny", prompts=prompts, steps="base=4,upsampler=2", guidance=3, seed=7,
        out=tmp_path / "given", sampling=evalkit.SamplingOptions(batch_size=2),
    )  # fmt: skip
    assert [row.prompt for row in given] == prompts
    assert [image.size for image in given.images()] == [(64, 64)] * 3
    config = RunFolder.read(tmp_path / "given").config
    assert (config["seed"], config["batch_size"]) == (7, 2)
    assert list(given.to_frame()["prompt"]) == prompts
    assert evalkit.score(given, metrics=["clip-score"], options=options)[0].n == 3
    runs = {
        name: evalkit.generate(
            "glide:tiny", data="shapes", n=6, steps=f"base={steps},upsampler=2",
            out=tmp_path / name,
        )
        for name, steps in (("few", 2), ("more", 4))
    }  # fmt: skip
    found = evalkit.compare(runs, metrics=["clip-score", "images-per-second"])
    assert {r.subject for r in found} == {"few", "more", "few - more"}
    assert found["clip-score-difference"].details["shared_ids"] in (5, 6), "of one text or of two"
    with pytest.raises(KeyError, match="'few', 'more'"):
        _ = found["clip-score"]
    with pytest.raises(KeyError, match="clip-score"):
        _ = found["no-such-record"]
    assert capsys.readouterr().out == "", "it prints nothing"
    again = evalkit.generate(
        "glide:tiny", data="shapes", n=6, steps="base=2,upsampler=2", out=tmp_path / "few"
    )
    assert again == runs["few"], "the same call resumes"


REAL = np.zeros((4, 3, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("images", "error", "says"),
    [
        (np.zeros((4, 8, 8, 3), np.uint8), DataError, "N x 3 x H x W"),
        (np.zeros((4, 3, 8, 8), np.float32), DataError, "float32"),
        (torch.zeros(4, 3, 8, 8), DataError, "Scale floats"),
        (np.zeros((3, 8, 8), np.uint8), DataError, "N x 3 x H x W"),
        ([], NotEnoughImagesError, "no samples"),
        (np.zeros((0, 3, 8, 8), np.uint8), NotEnoughImagesError, "no samples"),
        ("no/such/folder", FileNotFoundError, "no/such/folder"),
    ],
)
def test_other_images_are_refused(images: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        evalkit.score(images, REAL, **JUDGE)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ("['a.png']", "a list with a str, expected Pillow's images"),
        ("PIL.Image.new('RGB', (8, 8))", "Put a single image into a list"),
        ("7", "a int, expected a path"),
    ],
)
def test_what_is_no_image_is_refused_in_a_sentence(images: str, says: str, root: Path) -> None:
    """In a fresh interpreter: here, the types of all arguments are checked first."""
    code = f"import evalkit, PIL.Image; evalkit.score({images}, metrics=['clip-score'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root
    )
    assert says in done.stderr.splitlines()[-1]


def test_contradictions_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="2 captions for 4 images"):
        evalkit.score(REAL, captions=["a", "b"], metrics=["clip-score"])
    with pytest.raises(ConfigError, match="is on disk"):
        evalkit.score(folders["soft"], captions=["a"], metrics=["clip-score"])
    with pytest.raises(UnknownNameError, match="fidd"):
        evalkit.score(REAL, REAL, metrics=["fidd"])
    with pytest.raises(ConfigError, match="needs one"):
        evalkit.score(REAL, metrics=["kid"], features="shapes-clip")
    with pytest.raises(ConfigError, match="at least 2 sets"):
        evalkit.compare({"one": REAL}, REAL)
    with pytest.raises(ConfigError, match="exactly one of"):
        evalkit.generate("glide:tiny")
    with pytest.raises(ConfigError, match="exactly one of"):
        evalkit.generate("glide:tiny", prompts=["a"], data="shapes")


def test_names_in_one_text_are_names() -> None:
    with pytest.raises(UnknownNameError, match="nothing"):
        evalkit.score(REAL, REAL, metrics="fd,nothing")


def test_results_are_frozen() -> None:
    results = evalkit.Results((), lambda: pytest.fail("no page is needed"))
    assert (len(results), list(results), results.differences) == (0, [], ())
    assert results.to_frame().empty
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.records = ()  # type: ignore[misc]
