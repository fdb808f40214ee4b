"""Settings of a tiny text model, compared on scenes of the training split, never on validation.

    python -m benchmarks.models.tuned [--model glide:tiny] [--set base.clip_guidance=0,8,16]
        [--guidance base=2,3] [--n 200] [--parts NAME=FILE ...]

Every combination of the values, as a Markdown table: prompts found, and relations right among the
images that show both things, with 95 % intervals, on captions of scenes that were drawn for the
training split and that no network was trained on (their numbers lie behind the trained ones').
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evalkit.datasets.shapes.dataset import describe
from evalkit.datasets.shapes.scene import Scene
from evalkit.metrics.composition import Composition, check, wilson_interval
from generators.base import Request, Settings
from generators.catalog import load_generator
from generators.settings import resolve_settings

FIRST = 10_000_000
"""Number of the first scene; trainings take at most as many."""
BATCH = 50


def scenes_of(n: int) -> tuple[list[Scene], list[str]]:
    """Describe n scenes, each with its first caption."""
    described = [describe(0, "train", FIRST + index) for index in range(n)]
    return [scene for scene, _ in described], [captions[0] for _, captions in described]


def grid(sampling: Sequence[str], options: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Combine the values of all settings: guidances and options of each combination."""
    axes = [
        [f"{key}={value}" for value in values.split(",")]
        for key, values in (setting.split("=") for setting in [*sampling, *options])
    ]
    return [([*c[: len(sampling)]], [*c[len(sampling) :]]) for c in itertools.product(*axes)]


def share(hits: int, n: int) -> str:
    """Format a share."""
    if not n:
        return "-"
    interval = wilson_interval(hits, n)
    return f"{hits / n:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def relations(images: Sequence[np.ndarray], scenes: Sequence[Scene]) -> tuple[int, int]:
    """Count the images that show both things of a relation, and those where it holds."""
    pairs = zip(images, scenes, strict=True)
    seen = [check(image, scene) for image, scene in pairs if scene.relations]
    both = [found for found in seen if found.objects_found == found.objects]
    return sum(found.relations_found == found.relations for found in both), len(both)


def main() -> None:
    """Print a row for each combination."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="glide:tiny")
    parser.add_argument("--guidance", nargs="*", default=[])
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--parts", nargs="*", default=[])
    parser.add_argument("--n", type=int, default=200)
    options = parser.parse_args()
    parts = {name: Path(file) for name, file in (part.split("=") for part in options.parts)}
    generator = load_generator(options.model, weights=parts or None)
    scenes, captions = scenes_of(options.n)

    def made(settings: Settings) -> list[np.ndarray]:
        images: list[np.ndarray] = []
        for start in range(0, len(captions), BATCH):
            part = captions[start : start + BATCH]
            requests = [Request(prompt=text, seed=start + i) for i, text in enumerate(part)]
            samples = generator.generate(requests, settings)
            images += [sample.image for sample in samples if sample.image is not None]
        return images

    print("| settings | prompts found | relations right | of |\n|---|---|---|---|", flush=True)
    for guidance, more in grid(options.guidance, options.set):
        settings = resolve_settings(
            generator.spec, guidance=",".join(guidance) or None, options=more
        )
        images = made(settings)
        hits = int(Composition.of(images, scenes).counts["pairs_found"].sum())
        right, both = relations(images, scenes)
        name = ", ".join([*guidance, *more]) or "default"
        print(f"| {name} | {share(hits, options.n)} | {share(right, both)} | {both} |", flush=True)


if __name__ == "__main__":
    main()
