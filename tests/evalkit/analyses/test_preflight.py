"""Preflight: flawed images are found, sound ones are not, and the floor is real against real."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit import cli
from evalkit.analyses.preflight import cut_captions, difference_hash, inspect, real_floor
from evalkit.core.errors import NotEnoughImagesError
from evalkit.features.sources import image_items
from evalkit.metrics.frechet.distance import frechet_distance_from_features
from tests.evalkit.analyses.conftest import write_crops


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    folder = write_crops(tmp_path / "flawed", 10, 3, ".png")
    Image.new("RGB", (64, 64)).save(folder / "black.png")
    Image.new("RGB", (64, 64), (90, 90, 90)).save(folder / "grey.png")
    bits = np.random.default_rng(0).integers(0, 2, (64, 64, 3), np.uint8)
    Image.fromarray(bits).save(folder / "floats.png")
    (folder / "broken.png").write_bytes(b"not an image")
    shutil.copy(folder / "0000.png", folder / "equal.png")
    Image.open(folder / "0001.png").convert("RGB").save(folder / "near.jpg", quality=60)
    return folder


def test_flawed_images_are_found(flawed: Path) -> None:
    found = inspect(image_items(flawed))
    by_what = {
        finding.what.split(" (")[0]: [Path(name).name for name in finding.names]
        for finding in found.findings
    }
    assert by_what["black"] == ["black.png"]
    assert by_what["constant"] == ["grey.png"]
    assert by_what["out of range"] == ["floats.png"]
    assert by_what["unreadable"] == ["broken.png"]
    (pair,) = by_what["near-duplicate pairs"]
    assert "near.jpg" in pair
    lines = " ".join(found.lines())
    assert "mixed sizes" in lines
    assert "mixed formats" in lines
    assert "equal.png" not in lines


def test_sound_images_give_no_line(tmp_path: Path) -> None:
    folder = tmp_path / "sound"
    folder.mkdir()
    for number, path in enumerate(sorted(write_crops(tmp_path / "crops", 12, 5).iterdir())):
        Image.open(path).convert("RGB").resize((64, 64)).save(folder / f"{number}.png")
    assert inspect(image_items(folder)).lines() == []
    with pytest.raises(NotEnoughImagesError, match="no images to inspect"):
        inspect([])


def test_the_hash_is_of_what_is_seen() -> None:
    ramp = np.tile(np.linspace(0, 255, 90).astype(np.uint8)[None, :, None], (80, 1, 3))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1]) == 0
    assert difference_hash(ramp // 2 + 10) == 2**64 - 1


def test_the_floor_is_real_against_real() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((400, 6)).astype(np.float32)
    found = real_floor(rows, 100)
    order = np.random.default_rng(0).permutation(400)
    expected = frechet_distance_from_features(rows[order[:100]], rows[order[100:]])
    assert found.value == pytest.approx(expected, abs=1e-9)
    assert (found.n, found.n_rest) == (100, 300)
    assert real_floor(rows, 300).n == 200
    assert real_floor(rows, 20).value > found.value, "fewer images, higher floor"
    with pytest.raises(NotEnoughImagesError, match="A floor needs 4 real images"):
        real_floor(rows[:3], 100)


def test_captions_beyond_the_context_are_counted() -> None:
    pytest.importorskip("open_clip")
    short, long = "a cat", "cat " * 75
    just = "cat " * 75
    assert cut_captions([short, long + "cat"]) == [long + "cat"]
    assert cut_captions([just]) == []
    assert cut_captions([just], prefix="a photo depicts ") == [just]


def test_the_command_prints_them(
    flawed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (flawed / "broken.png").unlink()
    reference = write_crops(tmp_path / "reference", 12, 8)
    words = ["preflight", flawed, "--against", reference, "--features", "shapes-clip"]
    cli.app([str(word) for word in words], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "black: 1" in shown
    assert "Floor: 6 real images are" in shown
    assert "allows no more than 6 a half" in shown
