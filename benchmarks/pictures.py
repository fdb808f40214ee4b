"""Makes the pictures of the README.

    evalkit demo && python -m benchmarks.pictures

`docs/images/glide-tiny.png`: one image for each of 24 prompts, seed 0, guidance 3, nothing picked.
`docs/images/text-models.png`: a row for each of the four text models, every third of these prompts.
`docs/images/ddpm-tiny.png`: eight seeds of ddpm:tiny, and of ddpm:tiny-class for each class.
`docs/images/report.png`: the demo's report in Chromium, where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from evalkit.datasets.shapes_scene import SHAPES
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
    """A row for each text model at its default settings, seed 0, nothing picked."""
    prompts = PROMPTS[::3]
    step, head_px = TILE_PX + GAP_PX // 2, 100
    size = (head_px + len(prompts) * step, len(TEXT_MODELS) * step + GAP_PX + TEXT_PX)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, name in enumerate(TEXT_MODELS):
        generator = load_generator(name)
        top = GAP_PX // 2 + row * step
        pen.text((8, top + TILE_PX // 2 - 8), name, fill="#333333", font=font)
        requests = [Request(prompt=prompt, seed=0) for prompt in prompts]
        for column, sample in enumerate(
            generator.generate(requests, generator.spec.default_settings())
        ):
            assert sample.image is not None
            tile = Image.fromarray(sample.image)
            tile = tile.resize((TILE_PX, TILE_PX), Image.Resampling.NEAREST)
            sheet.paste(tile, (head_px + column * step, top))
    for column, prompt in enumerate(prompts):
        place = (head_px + column * step, len(TEXT_MODELS) * step + GAP_PX // 2)
        pen.multiline_text(place, "\n".join(textwrap.wrap(prompt, 19)), fill="#333333", font=font)
    target = OUT / "text-models.png"
    sheet.save(target, optimize=True)
    return target


def class_grid() -> Path:
    """A row of ddpm:tiny, and one for each class of ddpm:tiny-class, the same seeds in all."""
    rows: list[tuple[str, str, int | None]] = [("any scene", "ddpm:tiny", None)]
    rows += [(shape, "ddpm:tiny-class", label) for label, shape in enumerate(SHAPES)]
    step, head_px = CLASS_TILE_PX + GAP_PX // 2, 80
    sheet = Image.new("RGB", (head_px + COLUMNS * step, len(rows) * step + GAP_PX // 2), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, (name, model, label) in enumerate(rows):
        generator = load_generator(model)
        requests = [Request(label=label, seed=seed) for seed in range(COLUMNS)]
        top = GAP_PX // 2 + index * step
        pen.text((8, top + CLASS_TILE_PX // 2 - 8), name, fill="#333333", font=font)
        for column, sample in enumerate(
            generator.generate(requests, generator.spec.default_settings())
        ):
            assert sample.image is not None
            tile = Image.fromarray(sample.image)
            tile = tile.resize((CLASS_TILE_PX, CLASS_TILE_PX), Image.Resampling.NEAREST)
            sheet.paste(tile, (head_px + column * step, top))
    target = OUT / "ddpm-tiny.png"
    sheet.save(target, optimize=True)
    return target


def screenshot() -> Path | None:
    """The top of the demo's report; None where Chromium or the report is missing."""
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
    """Make them and say where they are."""
    OUT.mkdir(parents=True, exist_ok=True)
    print(grid())
    print(text_models())
    print(class_grid())
    made = screenshot()
    if made is not None:
        print(made)


if __name__ == "__main__":
    main()
