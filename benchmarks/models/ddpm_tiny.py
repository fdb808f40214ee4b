"""ddpm:tiny-class without guidance, by sampler and steps, and its noisy classifier by timestep.

    python -m benchmarks.models.ddpm_tiny [--n 70] [--images 500]

Shapes: n images, the seven classes in rotation, with the same seeds in every row; the share in
which the shape detector finds exactly one object, of the requested shape. Classifier: accuracy on
single-object scenes of the validation split, noised to t. Prints two Markdown tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.detector import detect
from evalkit.datasets.shapes.scene import SHAPES, sample_scene
from evalkit.metrics.composition import wilson_interval
from generators.base import Request, resolve_settings
from generators.catalog import load_generator
from generators.ddpm.generator import DDPMGenerator
from generators.pixels import from_uint8, shrink

SETTINGS = (
    ("ancestral", 25), ("ancestral", 50), ("ancestral", 100), ("dpm++2m", 25), ("dpm++2m", 50),
)  # fmt: skip
TIMESTEPS = (0, 100, 200, 300, 400, 600)
BATCH = 70


def share(right: int, n: int) -> str:
    """Format a share with its 95 % interval."""
    interval = wilson_interval(right, n)
    return f"{right / n:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def right_shapes(model: DDPMGenerator, sampler: str, steps: int, n: int) -> int:
    """Count the images that show exactly one object, of the requested shape."""
    settings = resolve_settings(model.spec, guidance="0", steps=str(steps), sampler=sampler)
    found = 0
    for start in range(0, n, BATCH):
        requests = [Request(label=i % 7, seed=i) for i in range(start, min(start + BATCH, n))]
        for request, sample in zip(requests, model.generate(requests, settings), strict=True):
            assert sample.image is not None
            assert request.label is not None
            found += [d.shape for d in detect(sample.image)] == [SHAPES[request.label]]
    return found


def validation_scenes(count: int, size_px: int) -> tuple[Tensor, Tensor]:
    """Return images of one object and their labels, at the network's size."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    index = 0
    while len(labels) < count:
        label = sample_scene(0, "val", index).label
        if label is not None:
            images.append(render(0, "val", index)[0])
            labels.append(label)
        index += 1
    return shrink(from_uint8(torch.from_numpy(np.stack(images))), size_px), torch.tensor(labels)


@torch.no_grad()
def accuracies(model: DDPMGenerator, x_0: Tensor, labels: Tensor) -> Sequence[int]:
    """Count the shapes that the classifier gets right, for each of `TIMESTEPS`."""
    assert model.classifier is not None
    found = []
    for step in TIMESTEPS:
        noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(step))
        t = torch.full((len(x_0),), step)
        logits = model.classifier(model.process.q_sample(x_0, t, noise), t)
        found.append(int((logits.argmax(dim=1) == labels).sum()))
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=70)
    parser.add_argument("--images", type=int, default=500)
    options = parser.parse_args()
    model = load_generator("ddpm:tiny-class")
    assert isinstance(model, DDPMGenerator)
    x_0, labels = validation_scenes(options.images, model.spec.size_px)
    print(f"| t | classifier right, {options.images} validation scenes |\n|---|---|")
    for step, right in zip(TIMESTEPS, accuracies(model, x_0, labels), strict=True):
        print(f"| {step} | {share(right, options.images)} |")
    print(f"\n| sampler | steps | shape right, n = {options.n}, scale 0 |\n|---|---|---|")
    for sampler, steps in SETTINGS:
        right = right_shapes(model, sampler, steps, options.n)
        print(f"| {sampler} | {steps} | {share(right, options.n)} |", flush=True)


if __name__ == "__main__":
    main()
