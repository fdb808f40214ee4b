"""The article in one table and one picture: each step of the history on the same captions.

    python -m benchmarks.models.history [--n 1000] [--only systems guidance samplers]

Systems: DALL-E, DALL-E with the best of 16 by CLIP, GLIDE, unCLIP and Imagen, the tiny models at
their default settings, on the first n captions of the validation split with the same seeds: FD∞
and the judge's CLIP score, prompts found, relations right among the images that show both things,
images a second of this machine. The best of 16 takes sixteen times as long, so its row is of the
first quarter of the captions. Below the table, prompts found by kind of scene. Guidance: prompts
found, FD∞ and CLIP score of all four at scales 1 to 8. Samplers: FD of glide:tiny's base by DDPM,
DDIM and DPM-Solver++ and their steps is `benchmarks.sampling.steps`, which `samplers` runs. All
with 95 % intervals. Resumable. The models differ in training time, so the table compares these
weights.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.models.variants import shown
from benchmarks.pictures import PROMPTS, rows_of_samples
from evalkit.core.pixels import read_rgb
from evalkit.core.progress import progress_bar
from evalkit.core.results import ResultRecord
from evalkit.datasets.shapes.scene import Scene
from evalkit.generation import GenerationOptions, PreparedRun, prepare_run
from evalkit.measurement import MeasurementPlan
from evalkit.metrics.composition import Composition, check, wilson_interval
from evalkit.options import MeasureOptions, SamplingOptions
from evalkit.requests import DatasetSource
from generators.base import Request

SYSTEMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "DALL-E": ("dalle:tiny", {}),
    "DALL-E, best of 16 by CLIP": ("dalle:tiny", {"candidates": 16, "rerank": "clip"}),
    "GLIDE": ("glide:tiny", {}),
    "unCLIP": ("unclip:tiny", {}),
    "Imagen": ("imagen:tiny", {}),
}
MEASURE = MeasureOptions(
    features="shapes-clip", metrics=("fd", "clip-score", "composition", "images-per-second")
)
SCALES = ("1", "1.5", "2", "3", "4", "6", "8")
GUIDED = {
    "dalle:tiny": "transformer", "glide:tiny": "base", "unclip:tiny": "base", "imagen:tiny": "base",
}  # fmt: skip
"""The stage that is guided, by model."""


@dataclass(frozen=True)
class Row:
    """A model's images of the captions."""

    prepared: PreparedRun

    @classmethod
    def make(cls, model: str, sampling: Mapping[str, Any], n: int, out: Path) -> Row:
        """Generate what is missing of one row."""
        name = "-".join([model, *map(str, sampling.values())])
        options = GenerationOptions(
            model=model,
            source=DatasetSource("shapes", n),
            sampling=SamplingOptions(**sampling),
            out=out / "".join(c if c.isalnum() or c == "." else "-" for c in name),
        )
        prepared = prepare_run(options, progress_bar)
        prepared.generate(progress_bar)
        return cls(prepared)

    @cached_property
    def records(self) -> Sequence[ResultRecord]:
        """What is measured of them."""
        return MeasurementPlan.of(self.prepared, MEASURE, progress_bar).measure().records

    def relations_right(self) -> str:
        """Say how often the relation holds where both things are shown, with the number of both."""
        right = both = 0
        rows = self.prepared.run.rows()
        for row, caption in zip(rows, self.prepared.captions, strict=True):
            if not (caption.scene and caption.scene["relations"] and row.file):
                continue
            pixels = read_rgb(self.prepared.run.image_path(row))
            seen = check(pixels, Scene.from_json(caption.scene))
            if seen.objects_found == seen.objects:
                both += 1
                right += seen.relations_found == seen.relations
        if not both:
            return "- (0)"
        interval = wilson_interval(right, both)
        return f"{right / both:.3f} [{interval.low:.3f}, {interval.high:.3f}] ({both})"

    def found_by_kind(self) -> str:
        """Say the prompts found of each kind of scene, and of combinations held out or not."""
        made = [
            (read_rgb(self.prepared.run.image_path(row)), Scene.from_json(caption.scene))
            for row, caption in zip(self.prepared.run.rows(), self.prepared.captions, strict=True)
            if row.file and caption.scene
        ]
        images, scenes = zip(*made, strict=True)
        found = Composition.of(images, scenes).counts["pairs_found"]
        groups: dict[str, list[float]] = {}
        for scene, hit in zip(scenes, found, strict=True):
            for group in (scene.kind, "held out" if scene.held_out else "seen in training"):
                groups.setdefault(group, []).append(float(hit))
        said = (f"{group} {sum(h) / len(h):.2f} of {len(h)}" for group, h in groups.items())
        return ", ".join(said)


def print_systems(n: int, out: Path) -> None:
    """Print a row for each system."""
    print(f"\n## Systems, n = {n}\n")
    print("| | n | prompts found | relations right (of n) | FD∞ | CLIP score | images/s |")
    print("|---|---|---|---|---|---|---|")
    kinds = []
    for name, (model, sampling) in SYSTEMS.items():
        share = n // 4 if sampling else n
        row = Row.make(model, sampling, share, out)
        cells = [
            shown(row.records, "composition-pairs"),
            row.relations_right(),
            shown(row.records, "fd-infinity"),
            shown(row.records, "clip-score"),
            shown(row.records, "images-per-second"),
        ]
        kinds.append(f"{name}, prompts found by kind: {row.found_by_kind()}")
        print(f"| {name} | {share:,} | " + " | ".join(cells) + " |", flush=True)
    print("\n" + "\n".join(kinds))


def print_guidance(n: int, out: Path) -> None:
    """Print a row for each model and scale."""
    print(f"\n## Guidance, n = {n}\n")
    print("| | scale | prompts found | FD∞ | CLIP score |\n|---|---|---|---|---|")
    for model, stage in GUIDED.items():
        for scale in SCALES:
            row = Row.make(model, {"guidance": f"{stage}={scale}"}, n, out)
            cells = [
                shown(row.records, metric)
                for metric in ("composition-pairs", "fd-infinity", "clip-score")
            ]
            print(f"| {model} | {scale} | " + " | ".join(cells) + " |", flush=True)


def picture(file: str) -> Path:
    """Draw a row for each system, every third prompt, seed 0, without selection."""
    prompts = PROMPTS[::3]
    requests = [Request(prompt=prompt, seed=0) for prompt in prompts]
    rows = [
        (name.replace(", ", ",\n"), model, requests)
        for name, (model, sampling) in SYSTEMS.items()
        if not sampling
    ]
    return rows_of_samples(file, rows, tile_px=128, head_px=100, feet=prompts)


def main() -> None:
    """Print the tables, and draw the picture on request."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/history"))
    parser.add_argument(
        "--only", nargs="+", default=["systems"], choices=["systems", "guidance", "samplers"]
    )
    parser.add_argument("--picture", metavar="FILE", help="name of a picture in docs/images")
    options = parser.parse_args()
    if "systems" in options.only:
        print_systems(options.n, options.out)
    if "guidance" in options.only:
        print_guidance(options.n, options.out)
    if "samplers" in options.only:
        module = [sys.executable, "-m", "benchmarks.sampling.steps", "--n", str(options.n)]
        subprocess.run(module, check=True)
    if options.picture:
        print(picture(options.picture))


if __name__ == "__main__":
    main()
