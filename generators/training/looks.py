"""Looks at a network in training: its loss on images held out, and a grid of samples.

Both look at the moving average, which is what is shipped, with the same noise at every look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evalkit.core.files import writing
from evalkit.core.pixels import encode_png
from evalkit.core.results import write_atomically
from generators.pixels import shrink, to_uint8
from generators.training.data import Batch, TrainingData, make_batch

MOST_VALIDATED = 512
"""Images held out that the validation loss is computed on."""
NUM_SAMPLES = 8
TILE_PX = 64
"""Smaller images are shown enlarged to this edge."""
GAP_PX = 2
SAMPLES = "samples"
Sampling = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Looks:
    """When a training is looked at, and on which images."""

    every: int
    """Steps between two looks; the last step is always one."""
    held_out: TrainingData | None = None
    """Images that are not trained on; None: there are none, and no validation loss."""

    def due(self, step: int, steps: int) -> bool:
        """Return whether a training is looked at after a step."""
        return step % self.every == 0 or step == steps


@contextmanager
def looking_at(trainee: nn.Module, network: nn.Module) -> Iterator[nn.Module]:
    """Put another network into a training, in evaluation mode and without gradients."""
    own, mode = trainee.get_submodule("network"), trainee.training
    trainee.network = network
    try:
        with torch.no_grad():
            yield trainee.eval()
    finally:
        trainee.network = own
        trainee.train(mode)


def fixed_batch(
    data: TrainingData, rows: Sequence[int], *, seed: int, step: int, device: torch.device
) -> Batch:
    """Return images with their first captions and noise of their own, the same at every call."""
    seeds = [_seed(seed, row) for row in rows]
    return make_batch(data, rows, [0] * len(rows), seeds, step=step).to(device)


def loss_sum(
    trainee: nn.Module,
    data: TrainingData,
    *,
    seed: int,
    step: int,
    batch_size: int,
    device: torch.device,
    part: int = 0,
    num_parts: int = 1,
) -> Tensor:
    """Return the sum of the loss over images held out, and their number, float64 of (2,).

    Each of `num_parts` processes takes every so many batch; their sums add up.
    """
    total = torch.zeros(2, dtype=torch.float64, device=device)
    count = min(len(data), MOST_VALIDATED)
    for start in range(part * batch_size, count, num_parts * batch_size):
        rows = range(start, min(start + batch_size, count))
        batch = fixed_batch(data, rows, seed=seed, step=step, device=device)
        total += torch.stack([trainee(batch).double() * len(rows), total.new_tensor(len(rows))])
    return total


def write_samples(
    sample: Sampling, network: nn.Module, batch: Batch, folder: Path, step: int
) -> Path:
    """Write `samples/STEP.png`: real images above, what the network makes of their captions below.

    Returns:
        The file; `samples/captions.txt` has the captions in the order of the columns.
    """
    made = sample(network, batch).clamp(-1, 1)
    real = shrink(batch.images, made.shape[-1])
    tiles = [to_uint8(images).cpu().numpy() for images in (real, made)]
    path = folder / SAMPLES / f"{step:07d}.png"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    captions = "".join(f"{' '.join(caption.split())}\n" for caption in batch.captions)
    write_atomically(path.with_name("captions.txt"), captions.encode())
    write_atomically(path, encode_png(_grid(tiles)))
    return path


def _grid(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Put rows of images, each (N, height, width, 3), into one image on white."""
    factor = max(1, TILE_PX // rows[0].shape[1])
    large = [row.repeat(factor, axis=1).repeat(factor, axis=2) for row in rows]
    gaps = ((0, 0), (GAP_PX, 0), (GAP_PX, 0), (0, 0))
    padded = [np.pad(row, gaps, constant_values=255) for row in large]
    return np.concatenate([np.concatenate([*row], axis=1) for row in padded], axis=0)


def _seed(seed: int, row: int) -> int:
    """Return a seed of 32 bits for an image held out."""
    return int(np.random.SeedSequence((seed, 1, row)).generate_state(1)[0])
