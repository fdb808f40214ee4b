"""Makes the pictures of the README.

    evalkit demo && python -m benchmarks.pictures

`docs/images/glide-tiny.png`: one image for each of 24 prompts, seed 0, guidance 3, nothing picked.
`docs/images/report.png`: the demo's report in Chromium, where there is one.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

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
    """Make both and say where they are."""
    OUT.mkdir(parents=True, exist_ok=True)
    print(grid())
    made = screenshot()
    if made is not None:
        print(made)


if __name__ == "__main__":
    main()
