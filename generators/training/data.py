"""Captioned images in memory, and the batch of each step as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from generators.pixels import from_uint8

IMAGE_PX = 64
"""Edge of the images of `shapes`, which recipes train on."""


@dataclass(frozen=True)
class TrainingSet:
    """The images, captions and labels that a network is trained on."""

    images: np.ndarray
    """uint8, N x height x width x 3."""
    captions: Sequence[Sequence[str]]
    """The paraphrases of each image."""
    labels: np.ndarray
    """int64, N; -1 where an image has no single class."""


@dataclass(frozen=True)
class Batch:
    """The input of one training step of one process."""

    images: Tensor
    """float32, B x 3 x height x width, in [-1, 1]."""
    captions: list[str]
    labels: Tensor
    step: int
    """Number of earlier steps, for quantities that change during training."""
    rng: torch.Generator
    """Source of all randomness of the step (timesteps, noise, dropped captions), on the CPU."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch with its tensors on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def draw_batch(
    data: TrainingSet, *, seed: int, step: int, batch_size: int, rank: int = 0, world_size: int = 1
) -> Batch:
    """Draw the batch of a step, the same whether or not the run was interrupted before it.

    Each of `world_size` processes takes its own equal slice of one global batch.
    """
    rng = np.random.default_rng((seed, step))
    rows = rng.integers(len(data.images), size=batch_size)
    which = rng.integers(2**31, size=batch_size)
    mine = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)
    rows, which = rows[mine], which[mine]
    captions = [
        data.captions[r][w % len(data.captions[r])] for r, w in zip(rows, which, strict=True)
    ]
    noise = torch.Generator().manual_seed(int(rng.integers(2**62)) + rank)
    images = from_uint8(torch.from_numpy(np.ascontiguousarray(data.images[rows])))
    return Batch(images, captions, torch.from_numpy(data.labels[rows]), step, noise)
