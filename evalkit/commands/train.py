"""`evalkit train`: a recipe, its data drawn by the program, a network out."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.datasets.shapes import render
from evalkit.datasets.shapes_scene import sample_scene
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
        single = recipe.data.dataset == "shapes-single"
        data = shapes_training_set(
            recipe.data.seed, recipe.data.num_images, drawn, single_objects=single
        )
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
    seed: int,
    num_images: int,
    report: Callable[[int, int], None] = lambda done, total: None,
    *,
    single_objects: bool = False,
) -> TrainingSet:
    """Draw the training split of `shapes` into memory; nothing of the validation split is in it.

    Args:
        seed: Of the data set.
        num_images: How many to draw.
        report: Called with (images done, images in all).
        single_objects: Only scenes of one object; the others are passed over.

    Returns:
        Images, captions and labels: the index of the shape of a single object, else -1.
    """
    import numpy as np

    images = np.empty((num_images, 64, 64, 3), np.uint8)
    labels = np.full(num_images, -1, np.int64)
    captions = []
    wanted = (i for i in itertools.count() if not single_objects or has_label(seed, i))
    for place, index in enumerate(itertools.islice(wanted, num_images)):
        images[place], scene, texts = render(seed, "train", index)
        captions.append(texts)
        if scene.label is not None:
            labels[place] = scene.label
        if place % 500 == 499:
            report(place + 1, num_images)
    report(num_images, num_images)
    drawn: TrainingSet = load("generators.training.data:TrainingSet")(images, captions, labels)
    return drawn


def has_label(seed: int, index: int) -> bool:
    """Whether a training image shows a single object."""
    return sample_scene(seed, "train", index).label is not None
