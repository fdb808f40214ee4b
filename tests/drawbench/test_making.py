"""Finding images, copying them blind, practice items and attention checks."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from drawbench.errors import StudyError
from drawbench.study import Study
from drawbench.study.design import load_preset, make_config
from drawbench.study.images import blind_copy, least_alike
from drawbench.study.making import make_study
from drawbench.study.sample import make_sample_study
from drawbench.study.sources import open_source
from drawbench.suites import Suite
from evalkit.core.errors import DataError, MissingDataError, NotEnoughImagesError
from evalkit.core.run import Outcome, RunFolder, WorkItem


def _png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **options)
    return buffer.getvalue()


def test_metadata_profiles_and_comments_do_not_survive(tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("Software", "Ultra-Net 2")
    picture = Image.new("RGB", (4, 4), (9, 8, 7))
    content = _png(picture, pnginfo=info, icc_profile=b"Ultra-Net 2 profile", dpi=(72, 72))
    assert b"Ultra-Net 2" in content
    again = _png(blind_copy(content, name="x.png"))
    assert b"Ultra-Net" not in again
    assert again == _png(picture)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "I;16", "CMYK", "1"])
def test_every_kind_of_picture_becomes_rgb(mode: str) -> None:
    gray = np.full((4, 6), 128, dtype=np.uint8)
    if mode == "I;16":
        picture = Image.fromarray(np.full((4, 6), 128 * 256 + 7, dtype=np.uint16))
    else:
        picture = Image.fromarray(gray).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, format="TIFF" if mode == "CMYK" else "PNG")
    copy = blind_copy(buffer.getvalue(), name="x")
    assert (copy.mode, copy.size) == ("RGB", (6, 4))
    if mode != "1":
        assert np.abs(np.asarray(copy).astype(int) - 128).max() <= 1


def test_a_photograph_is_turned_upright() -> None:
    picture = Image.new("RGB", (4, 2), "white")
    picture.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", exif=exif)
    copy = blind_copy(buffer.getvalue(), name="x")
    assert copy.size == (2, 4)
    assert copy.getpixel((1, 0)) == (255, 0, 0)


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert blind_copy(_png(clear), name="x").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("content", [b"", b"no image", _png(Image.new("RGB", (40, 40)))[:60]])
def test_broken_files_are_named(content: bytes) -> None:
    with pytest.raises(DataError, match=r"^north/3\.png: .*expected an? .*image.*Replace the file"):
        blind_copy(content, name="north/3.png")


# Finding images


def _folder(path: Path, names: list[str]) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(path / name)
    return path


@pytest.mark.parametrize(
    "pattern", ["{id}/{k}.png", "{id}_{k}.png", "{id}-{k}.jpg", "{n:03d}/{k}.png", "{n}_{k}.webp"]
)
def test_folders_may_be_named_in_several_ways(tmp_path: Path, suite: Suite, pattern: str) -> None:
    names = [
        pattern.format(id=prompt.id, n=n, k=k)
        for n, prompt in enumerate(suite.prompts)
        for k in range(12)
    ]
    source = open_source("m", _folder(tmp_path / "m", names), suite.prompts, per_prompt=11)
    assert source.selection == "unknown"
    third = source.files[suite.prompts[2].id]
    wanted = [pattern.format(id=suite.prompts[2].id, n=2, k=k) for k in range(11)]
    assert [str(file.relative_to(tmp_path / "m")) for file in third] == wanted


def test_too_few_images_and_missing_prompts_are_named(tmp_path: Path, suite: Suite) -> None:
    names = [f"{prompt.id}_{k}.png" for prompt in suite.prompts[:-1] for k in range(2)]
    folder = _folder(tmp_path / "m", names)
    with pytest.raises(NotEnoughImagesError, match=r"no images for 1 of 5 prompts.*tiny-004"):
        open_source("m", folder, suite.prompts, per_prompt=2)
    with pytest.raises(NotEnoughImagesError, match="has 2 images for tiny-000, but a side needs 8"):
        open_source("m", folder, suite.prompts[:-1], per_prompt=8)


def test_numbers_from_one_are_not_guessed_at(tmp_path: Path, suite: Suite) -> None:
    folder = _folder(tmp_path / "m", [f"{n}_0.png" for n in range(1, 6)])
    with pytest.raises(StudyError, match=r"numbered from 1 to 5\. Number them from 0"):
        open_source("m", folder, suite.prompts, per_prompt=1)


def test_missing_and_empty_folders_are_named(tmp_path: Path, suite: Suite) -> None:
    with pytest.raises(MissingDataError, match="no such folder"):
        open_source("m", tmp_path / "none", suite.prompts, per_prompt=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="contains no images"):
        open_source("m", tmp_path / "empty", suite.prompts, per_prompt=1)


def _run(path: Path, suite: Suite, config: dict[str, object], *, refused: int = -1) -> Path:
    run = RunFolder.create_or_resume(path, config)
    items = [
        WorkItem(index=3 * n + k, caption_id=prompt.id, sample_index=k, seed=k, prompt=prompt.text)
        for n, prompt in enumerate(suite.prompts)
        for k in range(3)
    ]
    outcomes = [
        Outcome(pixels=None, status="refused", reason="x")
        if item.sample_index == refused
        else Outcome(pixels=np.full((2, 2, 3), item.sample_index, dtype=np.uint8))
        for item in items
    ]
    run.add_batch(items, outcomes)
    return path


def test_a_run_gives_its_first_samples_and_its_configuration(tmp_path: Path, suite: Suite) -> None:
    source = open_source(
        "m", _run(tmp_path / "run", suite, {"model": "m"}), suite.prompts, per_prompt=2
    )
    assert source.selection == "first by sample index"
    assert source.fingerprint["config"] == {"model": "m"}
    for files in source.files.values():
        assert [np.asarray(Image.open(file)).max() for file in files] == [0, 1]


def test_refused_samples_are_skipped_and_noted(tmp_path: Path, suite: Suite) -> None:
    folder = _run(tmp_path / "run", suite, {"model": "m"}, refused=0)
    source = open_source("m", folder, suite.prompts, per_prompt=2)
    assert source.notes[0].startswith("5 samples have no image")
    with pytest.raises(NotEnoughImagesError, match="has 2 images for tiny-000"):
        open_source("m", folder, suite.prompts, per_prompt=3)


@pytest.mark.parametrize("config", [{"reranked": True}, {"sampling": {"reranked": "best of 16"}}])
def test_reranked_runs_are_refused_unless_allowed(
    tmp_path: Path, suite: Suite, config: dict[str, object]
) -> None:
    folder = _run(tmp_path / "run", suite, config)
    with pytest.raises(StudyError, match="best of several candidates"):
        open_source("m", folder, suite.prompts, per_prompt=1)
    source = open_source("m", folder, suite.prompts, per_prompt=1, allow_reranked=True)
    assert source.selection == "re-ranked"


def test_a_run_with_other_caption_ids_is_matched_by_prompt(tmp_path: Path, suite: Suite) -> None:
    run = RunFolder.create_or_resume(tmp_path / "run", {"model": "m"})
    items = [
        WorkItem(index=n, caption_id=str(1000 + n), sample_index=0, seed=0, prompt=prompt.text)
        for n, prompt in enumerate(suite.prompts)
    ]
    run.add_batch(items, [Outcome(pixels=np.zeros((2, 2, 3), np.uint8))] * len(items))
    source = open_source("m", tmp_path / "run", suite.prompts, per_prompt=1)
    assert all(len(files) == 1 for files in source.files.values())


# Making


def test_nothing_is_left_behind_when_an_image_is_broken(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path]
) -> None:
    folders = [make_images(name, suite) for name in ("m1", "m2")]
    (folders[1] / suite.prompts[3].id / "1.png").write_bytes(b"broken")
    settings = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], "images_per_side": 2}
    sources = [open_source(folder.name, folder, suite.prompts, per_prompt=2) for folder in folders]
    with pytest.raises(DataError, match=r"tiny-003/1\.png"):
        make_study(tmp_path / "study", make_config(settings), suite, sources)
    assert not list(tmp_path.glob("*study*"))


def test_a_used_folder_and_foreign_models_are_refused(
    tmp_path: Path, suite: Suite, make_images: Callable[..., Path]
) -> None:
    source = open_source("m1", make_images("m1", suite), suite.prompts, per_prompt=2)
    settings = {**load_preset("imagen-drawbench"), "models": ["m1", "m2"], "images_per_side": 2}
    config = make_config(settings)
    with pytest.raises(StudyError, match="compares m1, m2, but images were given for m1"):
        make_study(tmp_path / "study", config, suite, [source])
    (tmp_path / "images" / "note").write_text("mine")
    with pytest.raises(StudyError, match="is in use"):
        make_study(tmp_path / "images", config, suite, [source, source])


def test_a_check_has_one_side_that_nobody_can_prefer(new_study: Callable[..., Study]) -> None:
    study = new_study(num_checks=2, num_practice=1)
    checks = study.extras("check")
    assert [check.id for check in checks] == ["~check-1", "~check-2"]
    for check in checks:
        assert check.expected == {"quality": "first", "alignment": "first"}
        clear, broken = (
            [np.asarray(Image.open(study.image_path(key) or "")) for key in keys]
            for keys in (
                study.image_keys(check.model_a, check.prompt_id),
                study.image_keys(check.model_b, check.prompt_id),
            )
        )
        assert len(clear) == len(broken) == 2
        # The intact pictures of this study are plain; noise covers the others.
        assert max(float(image.std(axis=(0, 1)).max()) for image in clear) == 0
        assert min(float(image.std(axis=(0, 1)).max()) for image in broken) > 5


def test_a_check_of_a_single_image_has_the_wrong_caption(new_study: Callable[..., Study]) -> None:
    study = new_study(
        preset="imagen-coco",
        models=["ours"],
        reference="camera",
        images_per_side=1,
        num_checks=2,
        num_practice=2,
    )
    pair, single = study.extras("check")
    assert (pair.kind, single.kind) == ("pair", "single")
    assert single.expected == {"alignment": "no"}
    assert [item.kind for item in study.extras("practice")] == ["pair", "single"]


def test_the_least_alike_caption_shares_no_words() -> None:
    others = ["a red dog", "the red car", "seven green cups"]
    assert least_alike("a red car", others) == 2


def test_the_sample_study_is_drawn_here_and_says_so(tmp_path: Path) -> None:
    study = make_sample_study(tmp_path / "sample")
    assert study.document.label == "sample"
    assert {card.selection for card in study.document.models} == {"drawn by evalkit"}
    assert study.config.images_per_side == 8
    assert len(study.blocks) == 3
