"""`evalkit train`: train a network by a recipe, on images that evalkit draws or on one's own."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.commands.training_data import OwnData, OwnImages, first_captions, open_own_data
from evalkit.core.errors import ConfigError
from evalkit.core.files import check_folder
from evalkit.core.progress import ProgressCallback, console, errors, progress_bar, training_bar
from evalkit.datasets.shapes.dataset import render
from evalkit.datasets.shapes.scene import SHAPES, SceneKind, sample_scene
from evalkit.options import TrackingOptions, TrainingOptions
from evalkit.reports.trackers import tracker_log

if TYPE_CHECKING:
    from generators.recipes.needs import Needs
    from generators.recipes.recipe import Recipe
    from generators.tokenizer import BytePairTokenizer
    from generators.training.data import Inputs, TrainingSet
    from generators.training.loop import Progress

DEFAULT_HOLD_OUT = 0.05
LOOKS = 10
"""Looks at a training on own data, unless `--look-every` says otherwise."""
MOST_CAPTIONS = 20_000
"""Captions that a vocabulary is learned from, and that are checked for their length."""
LOG_EVERY = 20
"""Steps between the numbers that trackers get; the last step is always logged."""
_PLAIN = TrainingOptions()


def train(
    name: str,
    *,
    out: Path | None,
    steps: int | None,
    start: str | Path | None,
    cpu: bool,
    options: TrainingOptions = _PLAIN,
    tracking: TrackingOptions | None = None,
) -> None:
    """Train a network by a recipe, or resume `out`; only one of several processes prints."""
    from generators.recipes.recipe import load_recipe
    from generators.training.processes import check_launch, check_split, num_processes

    check_launch()
    recipe = load_recipe(
        name, steps=steps, batch_size=options.batch_size, learning_rate=options.learning_rate
    )
    check_split(recipe, num_processes(), options.accumulate)
    if options.freeze:
        recipe = recipe.model_copy(update={"freeze": list(options.freeze)})
    errors.quiet = console.quiet = os.environ.get("RANK", "0") != "0"
    recipe, file = _starting_from(recipe, start)
    if options.data is None:
        folder = out or Path("runs") / "train" / recipe.name
        check_folder(folder, "--out")
        _refuse_without_data(recipe, options)
        _check_labels(recipe)
        _train(_Job(recipe, folder, file, cpu, options, tracking or TrackingOptions()))
        return
    if out is not None:
        check_folder(out, "--out")
    recipe, own, inputs = _on_own_data(recipe, options, file)
    named = re.sub(r"[^\w.-]+", "-", f"{recipe.name}-{own.title}")
    folder = out or Path("runs") / "train" / named
    check_folder(folder, "--out")
    tracked = tracking or TrackingOptions()
    _train(_Job(recipe, folder, file, cpu, options, tracked, own, inputs))


@dataclass(frozen=True)
class _Job:
    """A training that was checked."""

    recipe: Recipe
    folder: Path
    start: Path | None
    cpu: bool
    options: TrainingOptions
    tracking: TrackingOptions
    own: OwnData | None = None
    inputs: Inputs | None = None


def _train(job: _Job) -> None:
    from generators.training.data import SHAPES_INPUTS
    from generators.training.looks import Looks
    from generators.training.loop import build_trainee
    from generators.training.loop import train as run
    from generators.training.starts import begin_with, frozen_parameters, starting_file

    recipe, own, inputs = job.recipe, job.own, job.inputs or SHAPES_INPUTS
    starting_file(recipe, job.start, job.folder)
    trainee = build_trainee(recipe, inputs)
    network = trainee.get_submodule("network")
    began = begin_with(network, recipe, job.start, job.folder, inputs)
    frozen_parameters(network, recipe)
    if began is not None and own is not None:
        random = f"; random: {', '.join(began['random'])}" if began["random"] else ""
        console.print(f"Starting from {began['file']}{random}")
    every = job.options.look_every
    if own is not None:
        own.train.check(progress_bar)
        if own.held_out is not None:
            own.held_out.check(progress_bar)
        data: TrainingSet | OwnImages = own.train
        every = every or max(1, recipe.optimizer.steps // LOOKS)
    else:
        with progress_bar(f"Drawing {recipe.data.num_images:,} images") as drawn:
            data = shapes_training_set(
                recipe.data.seed, recipe.data.num_images, drawn, kinds=recipe.data.kinds
            )
    # The trackers start after the loop has chosen the devices of all processes.
    logging = tracker_log(
        job.tracking,
        name=recipe.name,
        out=job.folder,
        configuration={"recipe": recipe.name, "seed": recipe.seed},
        at_once=False,
    )
    with logging as log, training_bar(f"Training {recipe.name}") as bar:

        def report(state: Progress) -> None:
            bar(state.step, state.steps, state.loss)
            values = {"loss": state.loss, "steps_per_s": state.steps_per_s}
            if state.validation_loss is not None:
                values["validation_loss"] = state.validation_loss
            if state.step % LOG_EVERY == 0 or state.step == state.steps or len(values) > 2:
                log.log(values, step=state.step)

        weights = run(
            recipe,
            data,
            job.folder,
            cpu=job.cpu,
            start=job.start,
            trainee=trainee,
            inputs=inputs,
            looks=Looks(every, own.held_out if own else None) if every else None,
            accumulate=job.options.accumulate,
            report=report,
        )
    console.print(f"Trained weights: {weights}")


def _starting_from(recipe: Recipe, start: str | Path | None) -> tuple[Recipe, Path | None]:
    """Let a recipe start from the file or the model of `--from`.

    Raises:
        ConfigError: It is neither.
    """
    if start is None:
        return recipe, None
    path = Path(start)
    if path.is_file():
        if recipe.start_from is None:
            recipe = recipe.model_copy(update={"start_from": path.name})
        return recipe, path
    if ":" not in str(start) or path.suffix:
        raise ConfigError(
            f"--from {start}: no such file. Give a file of weights, or a model such as glide:tiny."
        )
    return recipe.model_copy(update={"start_from": str(start), "start_partly": False}), None


def _refuse_without_data(recipe: Recipe, options: TrainingOptions) -> None:
    given = {"--hold-out": options.hold_out, "--vocabulary": options.vocabulary}
    named = [flag for flag, value in given.items() if value is not None]
    if named:
        raise ConfigError(f"{named[0]} is for own images. Give them with --data.")
    if not recipe.data.is_shapes:
        raise ConfigError(
            f"{recipe.name} is trained on own images. Give them with --data FOLDER or --data "
            "datasets:NAME."
        )


def _on_own_data(
    recipe: Recipe, options: TrainingOptions, start: Path | None
) -> tuple[Recipe, OwnData, Inputs]:
    """Fit a recipe to one's own data: its counts of images, tokens and classes."""
    from generators.recipes.needs import needs_of
    from generators.training.data import Inputs

    assert options.data is not None
    if "clip_guidance" in recipe.objective and not _is_file(recipe.objective["clip"]):
        raise ConfigError(
            f"{recipe.name} learns the guidance of a CLIP of shapes, which says nothing of own "
            "images. Train a recipe without objective.clip_guidance (imagen-tiny-base-first), or "
            'set objective.clip = "FILE.safetensors", a noised CLIP trained on your images.'
        )
    needs, stated = needs_of(recipe.network), recipe.data
    share = DEFAULT_HOLD_OUT if stated.is_shapes else stated.hold_out
    if options.hold_out is not None:
        share = options.hold_out
    own = open_own_data(
        options.data,
        image_px=stated.image_px,
        hold_out=share,
        seed=stated.seed,
        captions=needs.reads_captions(recipe.model),
        classes=needs.learns_classes(recipe.model),
    )
    model = dict(recipe.model)
    kind, tokenizer = _vocabulary(recipe, needs, options.vocabulary, own.train, start)
    if tokenizer is not None:
        model[needs.vocabulary] = tokenizer.num_tokens
    if own.classes:
        model[needs.classes] = len(own.classes)
    data = {
        "dataset": f"folder {own.title}" if own.title == "shapes" else own.title,
        "kinds": {},
        "num_images": len(own.train),
        "hold_out": share,
        "vocabulary": kind,
        "classes": list(own.classes),
        "fingerprint": own.fingerprint,
    }
    fitted = recipe.model_copy(update={"model": model, "data": stated.model_copy(update=data)})
    _say(fitted, own, needs, tokenizer)
    return fitted, own, Inputs(stated.image_px, tokenizer)


def _is_file(name: object) -> bool:
    return str(name).endswith(".safetensors")


def _vocabulary(
    recipe: Recipe, needs: Needs, wanted: str | None, data: OwnImages, start: Path | None
) -> tuple[str, BytePairTokenizer | None]:
    """Choose how captions become tokens, and its name in the recipe.

    Asked for, or that of the weights to start from, or the recipe's, or learned from the captions.

    Raises:
        ConfigError: The network has no vocabulary of its own, or there is no such vocabulary.
    """
    from generators.tokenizer import (
        CLIP,
        GPT2,
        TINY,
        learned_tokenizer,
        stated_tokenizer,
        train_merges,
    )
    from generators.training.starts import starting_file, vocabulary_of

    if not (needs.vocabulary and needs.vocabulary in recipe.model):
        if wanted is not None:
            raise ConfigError(
                f"--vocabulary: {recipe.name} has no vocabulary of its own; it reads captions "
                "through another network, or none."
            )
        return "shapes", None
    named = {"shapes": TINY, "clip": CLIP, "gpt2": GPT2}
    if wanted is not None and wanted not in ("own", *named):
        raise ConfigError(f"--vocabulary {wanted}: use own, clip, gpt2 or shapes.")
    if wanted is None and recipe.start_from is not None and not recipe.start_partly:
        file = starting_file(recipe, start, Path("runs") / "train" / recipe.name)
        stated = vocabulary_of(file, recipe.start_from) if file else None
        if stated is not None:
            kinds = {value: key for key, value in named.items()}
            return kinds.get(stated, "own"), stated_tokenizer(stated)
    kind = wanted or ("own" if recipe.data.vocabulary == "shapes" else recipe.data.vocabulary)
    if kind != "own":
        return kind, stated_tokenizer(named[kind])
    captions = list(first_captions(data, MOST_CAPTIONS))
    return kind, learned_tokenizer(train_merges(captions, recipe.data.num_merges))


def _say(recipe: Recipe, own: OwnData, needs: Needs, tokenizer: BytePairTokenizer | None) -> None:
    """Print what was found and decided, before the work."""
    held = len(own.held_out) if own.held_out else 0
    parts = [f"{len(own.train):,} images to train on, {held:,} held out"]
    if own.classes:
        parts.append(f"{len(own.classes):,} classes")
    if tokenizer is not None:
        parts.append(f"{tokenizer.num_tokens:,} tokens ({recipe.data.vocabulary})")
    console.print(f"{own.title}: {', '.join(parts)}")
    for note in own.notes:
        console.print(f"note: {note}")
    length = recipe.model.get("text_ctx", recipe.model.get("context_length"))
    if tokenizer is not None and length is not None:
        captions = list(first_captions(own.train, MOST_CAPTIONS))
        cut = sum(len(tokenizer.encode(caption)) > length for caption in captions)
        if cut:
            console.print(
                f"note: {cut:,} of {len(captions):,} captions are longer than {length} tokens and "
                "lose their end"
            )


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
