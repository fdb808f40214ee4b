"""Make the pictures of the README.

    evalkit demo && python -m benchmarks.pictures

`docs/images/glide-tiny.png`: one image for each of 24 prompts, seed 0, guidance 3, not selected.
`docs/images/text-models.png`: a row for each of the four text models, every third of these prompts.
`docs/images/ddpm-tiny.png`: eight seeds of ddpm:tiny, and of ddpm:tiny-class for each class.
`docs/images/report.png`: the demo's report in Chromium, if both exist.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from evalkit.datasets.shapes.scene import SHAPES
from generators.base import Request, resolve_settings
from generators.catalog import load_generator

OUT = Path("docs/images")
REPORT = Path("runs/demo/report.html")
PROMPTS = (
    "a red circle",
    "a large blue square",
    "a green triangle",
    "a yellow star",
    "a purple cross",
    "a cyan ring",
    "an orange heart",
    "a small pink circle",
    "a red circle left of a blue square",
    "a green star above a yellow ring",
    "a purple triangle right of an orange cross",
    "a pink heart below a cyan star",
    "a blue ring over a red square",
    "a yellow circle to the left of a green heart",
    "three red circles",
    "two blue hearts",
    "four green squares",
    "three yellow triangles",
    "two large purple rings",
    "four small pink stars",
    "a red square, a blue circle and a green star",
    "a large orange ring on a plain dark background",
    "a cyan triangle on a striped white background",
    "a green heart and an orange circle",
)
COLUMNS, TILE_PX, TEXT_PX, GAP_PX = 8, 128, 50, 12
CLASS_TILE_PX = 96
TEXT_MODELS = ("glide:tiny", "unclip:tiny", "imagen:tiny", "dalle:tiny")


def grid() -> Path:
    """Sample the prompts and lay them out with their captions."""
    generator = load_generator("glide:tiny")
    settings = resolve_settings(generator.spec, guidance="3")
    samples = generator.generate([Request(prompt=p, seed=0) for p in PROMPTS], settings)
    rows = -(-len(PROMPTS) // COLUMNS)
    width = COLUMNS * (TILE_PX + GAP_PX) + GAP_PX
    sheet = Image.new("RGB", (width, rows * (TILE_PX + TEXT_PX + GAP_PX) + GAP_PX), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (prompt, sample) in enumerate(zip(PROMPTS, samples, strict=True)):
        left = GAP_PX + index % COLUMNS * (TILE_PX + GAP_PX)
        top = GAP_PX + index // COLUMNS * (TILE_PX + TEXT_PX + GAP_PX)
        assert sample.image is not None
        tile = Image.fromarray(sample.image).resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST)
        sheet.paste(tile, (left, top))
        text = "\n".join(textwrap.wrap(prompt, 21))
        pen.multiline_text((left, top + TILE_PX + 4), text, fill="#333333", font=font)
    target = OUT / "glide-tiny.png"
    sheet.save(target, optimize=True)
    return target


def text_models() -> Path:
    """Draw a row for each text model at its default settings, seed 0, without selection."""
    prompts = PROMPTS[::3]
    requests = [Request(prompt=prompt, seed=0) for prompt in prompts]
    rows = [(name, name, requests) for name in TEXT_MODELS]
    return rows_of_samples("text-models.png", rows, tile_px=TILE_PX, head_px=100, feet=prompts)


def class_grid() -> Path:
    """Draw a row of ddpm:tiny and one per class of ddpm:tiny-class, with the same seeds."""
    classes: list[tuple[str, str, int | None]] = [("any scene", "ddpm:tiny", None)]
    classes += [(shape, "ddpm:tiny-class", label) for label, shape in enumerate(SHAPES)]
    rows = [
        (name, model, [Request(label=label, seed=seed) for seed in range(COLUMNS)])
        for name, model, label in classes
    ]
    return rows_of_samples("ddpm-tiny.png", rows, tile_px=CLASS_TILE_PX, head_px=80)


def rows_of_samples(
    file: str,
    rows: Sequence[tuple[str, str, Sequence[Request]]],
    *,
    tile_px: int,
    head_px: int,
    feet: Sequence[str] = (),
) -> Path:
    """Draw rows of (name shown, model, requests) at default settings, with captions below."""
    step, columns = tile_px + GAP_PX // 2, len(rows[0][2])
    height = len(rows) * step + GAP_PX // 2 + (TEXT_PX if feet else 0)
    sheet = Image.new("RGB", (head_px + columns * step, height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (name, model, requests) in enumerate(rows):
        generator = load_generator(model)
        top = GAP_PX // 2 + index * step
        pen.text((8, top + tile_px // 2 - 8), name, fill="#333333", font=font)
        samples = generator.generate(requests, generator.spec.default_settings())
        for column, sample in enumerate(samples):
            assert sample.image is not None
            tile = Image.fromarray(sample.image)
            tile = tile.resize((tile_px, tile_px), Image.Resampling.NEAREST)
            sheet.paste(tile, (head_px + column * step, top))
    for column, text in enumerate(feet):
        place = (head_px + column * step, len(rows) * step + GAP_PX // 2)
        pen.multiline_text(place, "\n".join(textwrap.wrap(text, 19)), fill="#333333", font=font)
    target = OUT / file
    sheet.save(target, optimize=True)
    return target


def screenshot() -> Path | None:
    """Return the top of the demo's report; None if Chromium or the report is missing."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None or not REPORT.is_file():
        print("no report.png: needs Chromium, and runs/demo/report.html of `evalkit demo`")
        return None
    target = OUT / "report.png"
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += ["--disable-background-networking", f"--user-data-dir={profile}"]
        flags += ["--window-size=1200,1500", f"--screenshot={target.resolve()}"]
        page = REPORT.resolve().as_uri()
        subprocess.run([browser, *flags, page], check=True, capture_output=True)
    with Image.open(target) as image:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(target, optimize=True)
    return target


def main() -> None:
    """Make the pictures and print their paths."""
    OUT.mkdir(parents=True, exist_ok=True)
    print(grid())
    print(text_models())
    print(class_grid())
    made = screenshot()
    if made is not None:
        print(made)


if __name__ == "__main__":
    main()
