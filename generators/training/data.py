"""Captioned images to train on, and the batch of each step as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from generators.pixels import from_uint8
from generators.tokenizer import BytePairTokenizer
from generators.training.draws import Draws

IMAGE_PX = 64
"""Edge of the images of `shapes`."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the data decide about a network's inputs."""

    image_px: int = IMAGE_PX
    """Edge of the images."""
    tokenizer: BytePairTokenizer | None = None
    """Of the captions; None: the tiny models'."""


SHAPES_INPUTS = Inputs()
"""Those of `shapes`."""


@runtime_checkable
class TrainingData(Protocol):
    """The images, captions and labels that a network is trained on."""

    @property
    def captions(self) -> Sequence[Sequence[str]]:
        """The captions of each image, at least one."""

    @property
    def labels(self) -> Int64[np.ndarray, " images"]:
        """The class of each image; -1 where an image has no single class."""

    def __len__(self) -> int:
        """Return the number of images."""

    def pixels(self, rows: Sequence[int]) -> UInt8[np.ndarray, "rows height width 3"]:
        """Return some of the images, all of one size."""


@dataclass(frozen=True)
class TrainingSet:
    """Training data in memory."""

    images: np.ndarray
    """uint8, N x height x width x 3."""
    captions: Sequence[Sequence[str]]
    """The paraphrases of each image."""
    labels: np.ndarray
    """int64, N; -1 where an image has no single class."""

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, rows: Sequence[int]) -> np.ndarray:
        """Return some of the images."""
        return self.images[np.asarray(rows, np.int64)]


@dataclass(frozen=True)
class Batch:
    """The input of one training step of one process, or of one part of it."""

    images: Tensor
    """float32, B x 3 x height x width, in [-1, 1]."""
    captions: list[str]
    labels: Tensor
    step: int
    """Number of earlier steps, for quantities that change during training."""
    draws: Draws = field(repr=False)
    """Source of all randomness of the step (timesteps, noise, dropped captions), on the CPU."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )

    def pinned(self) -> Batch:
        """Return the batch in page-locked memory, from which a GPU copies without waiting."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


def draw_batch(
    data: TrainingData, *, seed: int, step: int, batch_size: int, part: int = 0, num_parts: int = 1
) -> Batch:
    """Draw the batch of a step, the same whether or not the run was interrupted before it.

    Each of `num_parts` processes, or parts of a process's batch, takes its own equal slice of one
    global batch; an image draws the same noise in whichever slice it is.
    """
    rng = np.random.default_rng((seed, step))
    rows = rng.integers(len(data), size=batch_size)
    which = rng.integers(2**31, size=batch_size)
    seeds = rng.integers(2**32, size=batch_size)
    mine = slice(part * batch_size // num_parts, (part + 1) * batch_size // num_parts)
    return make_batch(data, rows[mine], which[mine], seeds[mine], step=step)


def make_batch(
    data: TrainingData,
    rows: Sequence[int] | np.ndarray,
    which: Sequence[int] | np.ndarray,
    seeds: Sequence[int] | np.ndarray,
    *,
    step: int,
) -> Batch:
    """Build a batch of given images.

    Args:
        data: The images.
        rows: Which images.
        which: A number per image, which chooses one of its captions.
        seeds: Of each image's generator; torch counts their low 32 bits.
        step: Number of earlier steps.
    """
    captions = [
        data.captions[r][w % len(data.captions[r])] for r, w in zip(rows, which, strict=True)
    ]
    images = from_uint8(torch.from_numpy(np.ascontiguousarray(data.pixels([*map(int, rows)]))))
    labels = torch.from_numpy(data.labels[np.asarray(rows, np.int64)])
    return Batch(images, captions, labels, step, Draws.seeded([*map(int, seeds)]))
