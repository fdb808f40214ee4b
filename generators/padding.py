"""Batches of one size, for compiled networks: another size would be compiled again."""

from __future__ import annotations

from collections.abc import Sequence

from generators.base import Generator, Request, Sample, Settings


class PaddedGenerator:
    """A generator whose short batches are filled up; what fills them is thrown away.

    Args:
        generator: Makes the images. What it makes of one request may not depend on the others.
        batch_size: Number of requests that each of its calls gets.
    """

    def __init__(self, generator: Generator, batch_size: int) -> None:
        self.spec = generator.spec
        self.generator = generator
        self.batch_size = batch_size

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Generate one sample per request, in order."""
        filler = [requests[-1]] * max(0, self.batch_size - len(requests))
        return self.generator.generate([*requests, *filler], settings)[: len(requests)]
