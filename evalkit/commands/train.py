"""`evalkit train`: train a network by a recipe, on data that evalkit draws."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.core.errors import ConfigError
from evalkit.core.files import check_folder
from evalkit.core.progress import ProgressCallback, console, errors, progress_bar, training_bar
from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.scene import SHAPES, SceneKind, sample_scene
from evalkit.options import TrackingOptions
from evalkit.reports.trackers import tracker_log

if TYPE_CHECKING:
    from generators.recipes.recipe import Recipe
    from generators.training.data import TrainingSet
    from generators.training.loop import Progress


LOG_EVERY = 20
"""Steps between the numbers that trackers get; the last step is always logged."""


def train(
    name: str,
    *,
    out: Path | None,
    steps: int | None,
    start: Path | None,
    cpu: bool,
    tracking: TrackingOptions | None = None,
) -> None:
    """Train a network by a recipe, or resume `out`; only one of several processes prints."""
    from generators.recipes.recipe import load_recipe

    recipe = load_recipe(name, steps=steps)
    folder = out or Path("runs") / "train" / recipe.name
    check_folder(folder, "--out")
    _check_labels(recipe)
    from generators.training.loop import begin_with, build_trainee, starting_file
    from generators.training.loop import train as run

    starting_file(recipe, start, folder)
    trainee = build_trainee(recipe)
    begin_with(trainee.get_submodule("network"), recipe, start, folder)
    errors.quiet = console.quiet = os.environ.get("RANK", "0") != "0"
    with progress_bar(f"Drawing {recipe.data.num_images:,} images") as drawn:
        data = shapes_training_set(
            recipe.data.seed, recipe.data.num_images, drawn, kinds=recipe.data.kinds
        )
    # The trackers start after the loop has chosen the devices of all processes.
    logging = tracker_log(
        tracking or TrackingOptions(),
        name=recipe.name,
        out=folder,
        configuration={"recipe": recipe.name, "seed": recipe.seed},
        at_once=False,
    )
    with logging as log, training_bar(f"Training {recipe.name}") as bar:

        def report(state: Progress) -> None:
            bar(state.step, state.steps, state.loss)
            if state.step % LOG_EVERY == 0 or state.step == state.steps:
                log.log({"loss": state.loss, "steps_per_s": state.steps_per_s}, step=state.step)

        weights = run(recipe, data, folder, cpu=cpu, start=start, trainee=trainee, report=report)
    console.print(f"Trained weights: {weights}")


def _check_labels(recipe: Recipe) -> None:
    """Check that every image will have a class that the network knows, if it learns classes.

    Raises:
        ConfigError: Scenes of several objects, or fewer classes than shapes.
    """
    classes = {"ddpm": "num_classes", "noisy-classifier": "out_channels"}
    setting = classes.get(recipe.network)
    if setting is None or setting not in recipe.model:
        return
    if set(recipe.data.kinds) != {"single"}:
        raise ConfigError(
            f"{recipe.name} learns classes, but scenes of several objects have none. Set "
            "data.kinds to {single = 1.0} in the recipe."
        )
    if recipe.model[setting] < len(SHAPES):
        raise ConfigError(
            f"model.{setting} of {recipe.name} is {recipe.model[setting]}, but shapes has "
            f"{len(SHAPES)} classes. Use at least {len(SHAPES)}."
        )


def shapes_training_set(
    seed: int,
    num_images: int,
    report: ProgressCallback = lambda done, total: None,
    *,
    kinds: Mapping[SceneKind, float] | None = None,
) -> TrainingSet:
    """Draw the training split of `shapes` into memory, without any validation scene.

    Args:
        seed: Seed of the data set.
        num_images: Number of images to draw.
        report: Called with (images done, images in total).
        kinds: Share of each kind of scene, adding up to 1; scenes in excess are skipped. None or
            empty: the shares of the data set.

    Returns:
        Images, captions and labels; a label is the shape's index for a single object, else -1.
    """
    import numpy as np

    from generators.training.data import TrainingSet

    images = np.empty((num_images, 64, 64, 3), np.uint8)
    labels = np.full(num_images, -1, np.int64)
    captions = []
    for place, index in enumerate(_wanted(seed, num_images, kinds)):
        images[place], scene, texts = render(seed, "train", index)
        captions.append(texts)
        if scene.label is not None:
            labels[place] = scene.label
        if place % 500 == 499:
            report(place + 1, num_images)
    report(num_images, num_images)
    return TrainingSet(images, captions, labels)


def _wanted(seed: int, num_images: int, kinds: Mapping[SceneKind, float] | None) -> Iterator[int]:
    """Yield the indices of the first training images that make up the requested shares."""
    if not kinds:
        yield from range(num_images)
        return
    ends = [round(num_images * share) for share in itertools.accumulate(kinds.values())]
    left = {
        kind: end - start
        for kind, (start, end) in zip(kinds, itertools.pairwise([0, *ends]), strict=True)
    }
    for index in itertools.count():
        kind = sample_scene(seed, "train", index).kind
        if left.get(kind):
            left[kind] -= 1
            yield index
        if not any(left.values()):
            return
