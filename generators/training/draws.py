"""The randomness of a training step: one generator per image of the batch, on the CPU.

What an image draws therefore depends on (seed, step, its place in the batch) alone, and not on how
many processes or parts the batch is split among.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Draws:
    """Random numbers for a batch, each row from the generator of its own image."""

    rngs: Sequence[torch.Generator]

    @classmethod
    def seeded(cls, seeds: Sequence[int]) -> Draws:
        """Seed one generator per image."""
        return cls([torch.Generator().manual_seed(int(seed)) for seed in seeds])

    def __len__(self) -> int:
        return len(self.rngs)

    def rand(self, *shape: int) -> Tensor:
        """Draw evenly from [0, 1), float32 of (batch, *shape)."""
        return torch.stack([torch.rand(shape, generator=rng) for rng in self.rngs])

    def randn(self, *shape: int) -> Tensor:
        """Draw from a standard normal distribution, float32 of (batch, *shape).

        >>> two, one = Draws.seeded([1, 2]).randn(3), Draws.seeded([2]).randn(3)
        >>> bool((two[1] == one[0]).all())
        True
        """
        return torch.stack([torch.randn(shape, generator=rng) for rng in self.rngs])

    def randint(self, high: int, *shape: int) -> Tensor:
        """Draw integers from 0 to `high` - 1, int64 of (batch, *shape)."""
        return torch.stack([torch.randint(high, shape, generator=rng) for rng in self.rngs])
