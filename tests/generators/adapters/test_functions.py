"""`python:MODULE:FUNCTION`: every kind of image, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.core.errors import ConfigError
from generators.adapters.functions import FunctionGenerator, load
from generators.base import Generator, Request
from generators.catalog import load_generator
from generators.errors import BadImageError, UnsupportedRequestError

PIXELS = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
ASKED = [Request(prompt="a red circle", seed=7), Request(prompt="a blue square", seed=8)]

Make = Callable[[Any], Generator]


@pytest.fixture
def returning(tmp_path: Path) -> Make:
    """A generator whose function returns the same image for each prompt."""

    def make(image: Any) -> Generator:
        (tmp_path / "mine.py").write_text("def draw(prompts, seeds): return [None] * len(prompts)")
        loaded = load(f"python:{tmp_path / 'mine.py'}:draw", "cpu", {})
        return FunctionGenerator(loaded.spec, lambda prompts, seeds: [image] * len(prompts))

    return make


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PIXELS),
        PIXELS,
        PIXELS / 255,
        (PIXELS / 255).astype(np.float32),
        torch.from_numpy(PIXELS).permute(2, 0, 1),
        (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).requires_grad_(),
    ],
    ids=["pil", "uint8", "float64", "float32", "uint8 tensor", "float tensor"],
)
def test_every_kind_of_image_gives_its_pixels(image: Any, returning: Make) -> None:
    for sample in returning(image).generate(ASKED, {}):
        np.testing.assert_array_equal(sample.image, PIXELS)


def test_gray_and_transparent_images_become_rgb(returning: Make) -> None:
    gray = returning(PIXELS[..., 0]).generate(ASKED, {})[0].image
    np.testing.assert_array_equal(gray, np.repeat(PIXELS[..., :1], 3, axis=2))
    clear = Image.new("RGBA", (6, 4), (0, 0, 0, 0))
    assert (returning(clear).generate(ASKED, {})[0].image == 255).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            PIXELS / 127.5 - 1,
            r"image 1 of the batch has floats from -1 to -0\.44.*; expected 0",
        ),
        (PIXELS.astype(np.float32), r"floats from 0 to 71; expected 0 to 1"),
        (PIXELS.astype(np.int64), "values of type int64"),
        (PIXELS.transpose(2, 0, 1), r"shape 3 x 4 x 6; expected height x width x 3 for arrays"),
        (torch.from_numpy(PIXELS), r"shape 4 x 6 x 3; expected .*3 x height x width for tensors"),
        (np.zeros((4, 6, 4), np.uint8), "shape 4 x 6 x 4"),
        ("image.png", "is a str; expected a PIL image, an array or a tensor"),
    ],
)
def test_another_type_range_or_shape_is_refused(image: Any, message: str, returning: Make) -> None:
    with pytest.raises(BadImageError, match=message) as caught:
        returning(image).generate(ASKED, {})
    assert "\n" not in str(caught.value)


def test_what_is_no_image_is_a_failure_with_its_reason(returning: Make) -> None:
    broken = np.where(PIXELS == 5, np.nan, PIXELS / 255)
    for image, reason in ((None, "returned None"), (broken, "not finite")):
        sample = returning(image).generate(ASKED, {})[0]
        assert (sample.image, sample.status) == (None, "failed")
        assert reason in sample.reason


def test_number_and_size_of_the_images_are_checked(returning: Make) -> None:
    spec = returning(PIXELS).spec
    one_short = FunctionGenerator(spec, lambda prompts, seeds: [PIXELS])
    with pytest.raises(BadImageError, match="returned 1 images for 2 prompts"):
        one_short.generate(ASKED, {})
    sizes = FunctionGenerator(spec, lambda prompts, seeds: [PIXELS, PIXELS[:, :3]])
    with pytest.raises(BadImageError, match=r"image 2 .* has 3 x 4 px, the first image had 6 x 4"):
        sizes.generate(ASKED, {})
    with pytest.raises(UnsupportedRequestError, match="prompt"):
        sizes.generate([Request(seed=1)], {})


def test_the_function_gets_prompts_and_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "drawing.py").write_text(
        "import numpy as np\n"
        "def draw(prompts, seeds):\n"
        "    return np.stack([np.full((2, 2, 3), len(p) + s, np.uint8)"
        " for p, s in zip(prompts, seeds)])\n"
        "NUMBER = 3\n"
        "def takes_one(prompt): return prompt\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "drawing", raising=False)
    generator = load_generator("python:drawing:draw")
    assert [s.image[0, 0, 0] for s in generator.generate(ASKED, {})] == [12 + 7, 13 + 8]
    assert generator.spec.display_name == "drawing.draw"
    assert generator.spec.weights_sha256.startswith("source ")
    for name, message in {
        "python:drawing:nothing": "drawing has no function 'nothing'",
        "python:drawing:NUMBER": "drawing has no function 'NUMBER'",
        "python:drawing:takes_one": r"can't be called with \(prompts, seeds\)",
        "python:nowhere_to_be_found:draw": "can't be imported .No module named",
        "python:drawing": "expected python:MODULE:FUNCTION",
        "python:there/is/none.py:draw": "there is no file there/is/none.py",
    }.items():
        with pytest.raises(ConfigError, match=message):
            load_generator(name)
    with pytest.raises(ConfigError, match="takes no --weights"):
        load_generator("python:drawing:draw", weights={"w": tmp_path})


def test_bad_images_of_a_run_are_one_line_and_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import numpy as np\n"
        "def draw(prompts, seeds):\n"
        "    scale = 2.0 if 'square' in prompts[0] else 1.0\n"
        "    return [np.full((4, 4, 3), scale) for _ in prompts]\n"
    )
    command = [
        sys.executable, "-m", "evalkit.cli", "generate", "--model", "python:mine.py:draw",
        "--prompt", "a circle", "--prompt", "a square", "--batch-size", "1", "--out", "run",
        "--device", "cpu",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2
    assert last.startswith("evalkit: python:mine.py:draw: image 1 of the batch has floats from 2")
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "manifest.jsonl").read_text().count("\n") == 1
