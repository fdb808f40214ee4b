"""`evalkit demo`: the full pipeline on this machine, offline, with the embedded models."""

from __future__ import annotations

from pathlib import Path

from evalkit.commands.fid import fid
from evalkit.core.progress import console
from evalkit.generation import GenerationOptions
from evalkit.options import MeasureOptions
from evalkit.requests import DatasetSource

MODEL = "glide:tiny"
DATA = "shapes"
FEATURES = "shapes-clip"


def demo(out: Path, n: int) -> None:
    """Sample the tiny GLIDE on drawn scenes, measure it, write the report."""
    command = f"evalkit fid --model {MODEL} --data {DATA} --n {n} --features {FEATURES} --out {out}"
    console.print(
        f"{n} images by {MODEL}, a tiny GLIDE trained on drawn shapes, measured with the "
        f"embedded judge, a tiny CLIP. The same as:\n  {command}\n",
        soft_wrap=True,
    )
    fid(
        GenerationOptions(model=MODEL, source=DatasetSource(DATA, n), out=out),
        MeasureOptions(features=FEATURES),
        json_file=None,
        command=command,
    )
    console.print(
        "\nFor OpenAI's GLIDE on COCO photographs:\n  evalkit fid --model glide --coco",
        soft_wrap=True,
    )
