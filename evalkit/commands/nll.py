"""`evalkit nll`: bits per dimension of real images under an unconditional model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from evalkit.core.errors import ConfigError, NotEnoughImagesError
from evalkit.core.files import check_output
from evalkit.core.pixels import center_crop, read_rgb, resize
from evalkit.core.progress import ProgressFactory, console, progress_bar
from evalkit.core.results import Interval, ResultRecord, write_records
from evalkit.core.seeding import image_seed
from evalkit.datasets.base import CaptionedImages, known_as
from evalkit.datasets.open import open_dataset
from evalkit.generation import training_relation
from evalkit.metrics.means import mean_interval
from evalkit.reports.tables import terminal_table
from evalkit.workers.opening import library_versions
from generators.base import Generator
from generators.catalog import load_generator

if TYPE_CHECKING:
    from torch import Tensor

METRIC = "nll"
SHRINKING = "centre crop, area means"


@dataclass(frozen=True, kw_only=True)
class NllOptions:
    """The options of the command."""

    model: str
    data: str
    n: int
    steps: int | None = None
    """Timesteps of the bound; None: all timesteps of the model."""
    seed: int = 0
    batch_size: int = 32
    device: str = "cpu"
    weights: Mapping[str, Path]


@runtime_checkable
class Likelihood(Generator, Protocol):
    """A generator that bounds the likelihood of images."""

    num_steps: int
    """Timesteps of the full bound."""

    def bits_per_dim(
        self, images: np.ndarray, seeds: Sequence[int], *, steps: int | None = None
    ) -> Tensor:
        """Bound -log2 p of each image, in bits per dimension."""


def nll(
    options: NllOptions, *, json_file: Path | None, progress: ProgressFactory = progress_bar
) -> ResultRecord:
    """Compute the bound, print it, and write the record on request."""
    check_output(json_file, "--json")
    record = measure(options, progress)
    if json_file is not None:
        write_records(json_file, [record])
    console.print(terminal_table([record], title=record.subject))
    return record


def measure(options: NllOptions, progress: ProgressFactory) -> ResultRecord:
    """Compute the mean variational bound of n images, with its interval.

    Raises:
        ConfigError: The model has no likelihood, or fewer steps than 1.
        NotEnoughImagesError: Fewer than n images.
    """
    generator = load_generator(options.model, device=options.device, weights=options.weights)
    if not isinstance(generator, Likelihood):
        raise ConfigError(
            f"{options.model} has no likelihood. Unconditional DDPMs have one: "
            "ddpm:tiny, ddpm:cifar10, ddpm:improved-cifar10."
        )
    from generators.numerics import full_float32  # imports torch

    most = generator.num_steps
    if options.steps is not None and not 1 <= options.steps <= most:
        raise ConfigError(f"--steps must be from 1 to {most}, got {options.steps}.")
    with progress(f"Opening {options.data}") as report:
        dataset = open_dataset(options.data, on_progress=report)
    chosen = select_images(dataset, options.n, options.seed)
    bits = []
    with progress(f"Bits per dimension of {generator.spec.name}") as report:
        for start in range(0, len(chosen), options.batch_size):
            batch = chosen[start : start + options.batch_size]
            images = np.stack([_at_size(dataset, i, generator.spec.edge_px) for i in batch])
            seeds = [image_seed(options.seed, image_id, 0) for image_id in batch]
            with full_float32():
                found = generator.bits_per_dim(images, seeds, steps=options.steps)
            bits.append(found.cpu().numpy())
            report(start + len(batch), len(chosen))
    return _record(np.concatenate(bits).astype(np.float64), generator, dataset, options)


def select_images(dataset: CaptionedImages, n: int, seed: int) -> list[str]:
    """Select the n images with the smallest sha256(seed/image id).

    Raises:
        NotEnoughImagesError: There are fewer.
    """
    if not 1 <= n <= len(dataset.image_ids):
        raise NotEnoughImagesError(
            f"--n {n}: {dataset.name} has {len(dataset.image_ids)} images. Choose 1 to that many."
        )
    rank = lambda image_id: hashlib.sha256(f"{seed}/{image_id}".encode()).digest()  # noqa: E731
    return sorted(dataset.image_ids, key=rank)[:n]


def _at_size(dataset: CaptionedImages, image_id: str, size_px: int) -> np.ndarray:
    image = center_crop(read_rgb(dataset.image_path(image_id)))
    return image if len(image) == size_px else resize(image, size_px, "box")


def _record(
    bits: np.ndarray, generator: Likelihood, dataset: CaptionedImages, options: NllOptions
) -> ResultRecord:
    found = mean_interval(bits)
    interval = None
    if found.low is not None and found.high is not None:
        interval = Interval(low=found.low, high=found.high, level=found.level, method=found.method)
    spec = generator.spec
    from generators.weights.labelled import known_training_data  # imports torch

    trained_on = known_training_data(spec, options.weights)
    return ResultRecord(
        metric=METRIC,
        value=found.value,
        n=len(bits),
        direction="lower",
        unit="bits/dim",
        interval=interval,
        standard_error=found.standard_error,
        reason="" if interval else found.method,
        subject=spec.display_name,
        fingerprint={
            "model": spec.name,
            "weights": spec.weights,
            "weights_sha256": spec.weights_sha256,
            "training_data": list(trained_on),
            "training_relation": training_relation(trained_on, known_as(dataset)),
            "dataset": dataset.name,
            "size_px": spec.size_px,
            "crop": SHRINKING,
            "steps": options.steps or generator.num_steps,
            "seed": options.seed,
            "device": options.device,
            "library_versions": library_versions(),
        },
        details={"what": "variational bound on -log2 p(x) per dimension, one noise a timestep"},
    )
