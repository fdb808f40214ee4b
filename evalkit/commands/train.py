"""`evalkit train`: a recipe, its data drawn by the program, a network out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.datasets.shapes import render
from evalkit.progress import console, errors, progress_bar, training_bar
from evalkit.registry import load

if TYPE_CHECKING:
    from generators.training.data import TrainingSet


def train(name: str, *, out: Path | None, steps: int | None, start: Path | None, cpu: bool) -> None:
    """Train a network by a recipe, resuming what `out` holds; of several processes one speaks."""
    recipe = load("generators.training.recipe:load_recipe")(name, steps=steps)
    folder = out or Path("runs") / "train" / recipe.name
    errors.quiet = console.quiet = os.environ.get("RANK", "0") != "0"
    with progress_bar(f"Drawing {recipe.data.num_images:,} images") as drawn:
        data = shapes_training_set(recipe.data.seed, recipe.data.num_images, drawn)
    with training_bar(f"Training {recipe.name}") as bar:
        weights = load("generators.training.loop:train")(
            recipe,
            data,
            folder,
            cpu=cpu,
            start=start,
            report=lambda p: bar(p.step, p.steps, p.loss),
        )
    console.print(f"Trained weights: {weights}")


def shapes_training_set(
    seed: int, num_images: int, report: Callable[[int, int], None] = lambda done, total: None
) -> TrainingSet:
    """Draw the training split of `shapes` into memory; nothing of the validation split is in it.

    An image's label is the index of its shape where it shows a single object, else -1.
    """
    import numpy as np

    images = np.empty((num_images, 64, 64, 3), np.uint8)
    labels = np.full(num_images, -1, np.int64)
    captions = []
    for index in range(num_images):
        images[index], scene, texts = render(seed, "train", index)
        captions.append(texts)
        if scene.label is not None:
            labels[index] = scene.label
        if index % 500 == 499:
            report(index + 1, num_images)
    report(num_images, num_images)
    drawn: TrainingSet = load("generators.training.data:TrainingSet")(images, captions, labels)
    return drawn
