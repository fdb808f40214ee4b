"""The shipped upsamplers against bilinear and Lanczos enlargement, on real scenes.

    python -m benchmarks.models.upsamplers [--scenes 500] [--weights NAME=FILE ...]

Validation scenes are shrunk by the area mean, rounded to 256 levels and enlarged again, by one
stage or by all stages of a model one after the other, as the model does it by default. For each:
PSNR against the scene (mean over images, dB) and its difference from bilinear, paired, with 95 %
intervals of the mean; prompts found (intermediate sizes are enlarged to 64 px by Lanczos for the
detector). With `--levels`, also Imagen's upsamplers at other augmentation levels, with FD on the
judge's features against the scenes themselves. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from evalkit.core.progress import progress_bar
from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.scene import Scene
from evalkit.features.sources import ArrayImage, ImageItem
from evalkit.metrics.composition import Composition, wilson_interval
from evalkit.metrics.score import score_sets
from evalkit.options import MeasureOptions
from generators.base import Settings, StageSettings
from generators.cascade import Stage
from generators.catalog import load_generator
from generators.diffusion.noise import image_rngs
from generators.diffusion.stage_sampling import StageSampling
from generators.glide.generator import GlideGenerator
from generators.glide.pipeline import Enlarging
from generators.glide.pipeline import sample_upsampler as glide_upsampler
from generators.imagen.generator import ImagenGenerator
from generators.imagen.pipeline import sample_upsampler as imagen_upsampler
from generators.pixels import from_uint8, requantise, shrink, to_uint8
from generators.unclip.generator import UnclipGenerator

SIZE_PX = 64
BATCH = 50
LEVELS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
RIVALS = {"bilinear": Image.Resampling.BILINEAR, "Lanczos": Image.Resampling.LANCZOS}
Enlarge = Callable[[Tensor, Sequence[str], Sequence[int]], Tensor]
"""Small images in [-1, 1], captions and seeds to large images."""


@dataclass(frozen=True)
class Upsampler:
    """One stage, or all stages of a model."""

    name: str
    low_px: int
    high_px: int
    enlarge: Enlarge


@dataclass(frozen=True)
class Outcome:
    """What one way of enlarging reached."""

    psnr_db: np.ndarray
    found: int
    images: list[np.ndarray]
    """At 64 px."""

    def found_text(self) -> str:
        """Say the share of prompts found with its interval."""
        n = len(self.images)
        interval = wilson_interval(self.found, n)
        return f"{self.found / n:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


@dataclass(frozen=True)
class RealScenes:
    """Validation scenes outside the references."""

    pixels: np.ndarray
    """uint8, N x 64 x 64 x 3."""
    scenes: Sequence[Scene]
    captions: Sequence[str]

    @classmethod
    def draw(cls, count: int, first: int = 5_000) -> RealScenes:
        """Render them."""
        drawn = [render(0, "val", first + index) for index in range(count)]
        return cls(np.stack([d[0] for d in drawn]), [d[1] for d in drawn], [d[2][0] for d in drawn])

    def outcome(self, upsampler: Upsampler) -> Outcome:
        """Enlarge all of them from the upsampler's small size, and compare."""
        outputs, psnr = [], []
        for start in range(0, len(self.pixels), BATCH):
            rows = slice(start, start + BATCH)
            images = from_uint8(torch.from_numpy(self.pixels[rows]))
            true = to_uint8(shrink(images, upsampler.high_px)).numpy()
            small = requantise(shrink(images, upsampler.low_px))
            seeds = range(len(self.pixels))[rows]
            made = to_uint8(upsampler.enlarge(small, self.captions[rows], seeds)).numpy()
            psnr += [_psnr(a, b) for a, b in zip(made, true, strict=True)]
            outputs += [_resized(image, SIZE_PX, Image.Resampling.LANCZOS) for image in made]
        found = Composition.of(outputs, self.scenes, self.captions).counts["pairs_found"]
        return Outcome(np.array(psnr), int(found.sum()), outputs)


def stages_of(model: str, weights: Mapping[str, Path]) -> list[Upsampler]:
    """Return the upsamplers of a model, and all of them in a row if there are several."""
    generator = load_generator(model, weights=weights)
    defaults = {stage.name: stage.defaults for stage in generator.spec.stages}
    if isinstance(generator, GlideGenerator):
        return [Upsampler("glide:tiny", 16, SIZE_PX, _of_glide(generator, defaults))]
    assert isinstance(generator, ImagenGenerator | UnclipGenerator)
    steps = [
        Upsampler(
            f"{model} {name}",
            stage.network.config.image_size // 2,
            stage.network.config.image_size,
            _of_stage(generator, name, stage, defaults),
        )
        for name, stage in generator.upsamplers.items()
    ]
    return [*steps, Upsampler(f"{model}, both", 16, SIZE_PX, _in_a_row(steps))]


def at_level(model: str, level: float, weights: Mapping[str, Path]) -> Upsampler:
    """Return both of Imagen's upsamplers at an augmentation level."""
    generator = load_generator(model, weights=weights)
    assert isinstance(generator, ImagenGenerator)
    settings = {
        stage.name: replace(stage.defaults, options={**stage.defaults.options, "aug_level": level})
        for stage in generator.spec.stages
        if "aug_level" in stage.defaults.options
    }
    steps = [
        Upsampler(name, 0, 0, _of_stage(generator, name, stage, settings))
        for name, stage in generator.upsamplers.items()
    ]
    return Upsampler(f"aug level {level:g}", 16, SIZE_PX, _in_a_row(steps))


def rival(name: str, low_px: int, high_px: int) -> Upsampler:
    """Return an enlargement by a filter."""

    def enlarge(small: Tensor, captions: Sequence[str], seeds: Sequence[int]) -> Tensor:
        made = [_resized(image, high_px, RIVALS[name]) for image in to_uint8(small).numpy()]
        return from_uint8(torch.from_numpy(np.stack(made)))

    return Upsampler(name, low_px, high_px, enlarge)


def _in_a_row(steps: Sequence[Upsampler]) -> Enlarge:
    def enlarge(small: Tensor, captions: Sequence[str], seeds: Sequence[int]) -> Tensor:
        for step in steps:
            small = step.enlarge(small, captions, seeds)
        return small

    return enlarge


def _of_glide(generator: GlideGenerator, defaults: Settings) -> Enlarge:
    stage, settings = generator.upsampler, defaults["upsampler"]

    def enlarge(small: Tensor, captions: Sequence[str], seeds: Sequence[int]) -> Tensor:
        return glide_upsampler(
            stage.network,
            small,
            None,
            image_rngs(seeds, "upsampler"),
            StageSampling.chosen(stage.process, settings),
            enlarging=_enlarging(stage, settings),
        )

    return enlarge


def _of_stage(
    generator: ImagenGenerator | UnclipGenerator, name: str, stage: Stage, defaults: Settings
) -> Enlarge:
    settings = defaults[name]

    def enlarge(small: Tensor, captions: Sequence[str], seeds: Sequence[int]) -> Tensor:
        sampling = StageSampling.chosen(stage.process, settings)
        rngs = image_rngs(seeds, name)
        if isinstance(generator, UnclipGenerator):
            enlarging = _enlarging(stage, settings)
            return glide_upsampler(stage.network, small, None, rngs, sampling, enlarging=enlarging)
        return imagen_upsampler(
            stage.network,
            small,
            generator.text.read(captions).states,
            rngs,
            sampling,
            aug_level=float(settings.options["aug_level"]),
            residual_scale=stage.residual_scale,
        )

    return enlarge


def _enlarging(stage: Stage, settings: StageSettings) -> Enlarging:
    return Enlarging(
        temperature=float(settings.options["temperature"]),
        quantise=False,
        residual_scale=stage.residual_scale,
    )


def _resized(image: np.ndarray, size_px: int, how: Image.Resampling) -> np.ndarray:
    if len(image) == size_px:
        return image
    return np.asarray(Image.fromarray(image).resize((size_px, size_px), how))


def _psnr(made: np.ndarray, true: np.ndarray) -> float:
    error = np.mean((made.astype(float) - true.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


def gain_text(gain_db: np.ndarray) -> str:
    """Say the mean of paired differences with the interval of a normal mean."""
    half = 1.96 * gain_db.std(ddof=1) / np.sqrt(len(gain_db))
    return f"{gain_db.mean():+.2f} [{gain_db.mean() - half:+.2f}, {gain_db.mean() + half:+.2f}]"


def distance(images: Sequence[np.ndarray], real: RealScenes) -> float:
    """Compute FD on the judge's features between enlarged images and the scenes themselves."""
    made, true = (
        [ImageItem(ArrayImage(f"{row}", image)) for row, image in enumerate(pixels)]
        for pixels in (images, real.pixels)
    )
    records = score_sets(made, true, ["fd"], MeasureOptions(features="shapes-clip"), progress_bar)
    value = next(record.value for record in records if record.metric == "fd")
    assert value is not None
    return value


def print_levels(real: RealScenes, weights: Mapping[str, Path]) -> None:
    """Print what the augmentation level does to real scenes."""
    print("\n| | PSNR | prompts found | FD to the scenes |\n|---|---|---|---|")
    for level in LEVELS:
        upsampler = at_level("imagen:tiny", level, weights)
        outcome = real.outcome(upsampler)
        fd = distance(outcome.images, real)
        cells = [f"{outcome.psnr_db.mean():.2f}", outcome.found_text(), f"{fd:.4f}"]
        print(f"| {upsampler.name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--models", nargs="+", default=["glide:tiny", "unclip:tiny", "imagen:tiny"])
    parser.add_argument("--weights", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--levels", action="store_true")
    options = parser.parse_args()
    given = dict(pair.split("=", 1) for pair in options.weights)
    real = RealScenes.draw(options.scenes)
    print(f"{options.scenes} validation scenes\n")
    print("| | px | PSNR | against bilinear (dB) | prompts found |\n|---|---|---|---|---|")
    rivals: dict[tuple[int, int], np.ndarray] = {}
    for model in options.models:
        used = {name: Path(file) for name, file in given.items() if name.startswith(model[:4])}
        for upsampler in stages_of(model, used):
            sizes = (upsampler.low_px, upsampler.high_px)
            if sizes not in rivals:
                for name in RIVALS:
                    outcome = real.outcome(rival(name, *sizes))
                    rivals.setdefault(sizes, outcome.psnr_db)
                    _print_row(name, sizes, outcome, rivals[sizes])
            _print_row(upsampler.name, sizes, real.outcome(upsampler), rivals[sizes])
    if options.levels:
        print_levels(real, {n: Path(f) for n, f in given.items() if n.startswith("imagen")})


def _print_row(name: str, sizes: tuple[int, int], outcome: Outcome, bilinear: np.ndarray) -> None:
    cells = [
        f"{sizes[0]} to {sizes[1]}",
        f"{outcome.psnr_db.mean():.2f}",
        gain_text(outcome.psnr_db - bilinear),
        outcome.found_text(),
    ]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
