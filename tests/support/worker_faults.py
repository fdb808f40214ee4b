"""Models that workers load in tests, and what goes wrong with them."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fake_generators import SeededNoise

from evalkit.core.errors import MissingWeightsError
from generators.base import Request, Sample, Settings


@dataclass
class Faulty:
    """Noise, with a fault in the batch that has an index; once, if it leaves a mark."""

    fault: Callable[[], None]
    index: int = 0
    mark: Path | None = None
    spec = SeededNoise.spec

    def generate(self, requests: Sequence[Request], settings: object) -> list[Sample]:
        """Draw an image per request, unless this is the batch."""
        is_here = any(request.index == self.index for request in requests)
        if is_here and (self.mark is None or not self.mark.exists()):
            if self.mark is not None:
                self.mark.write_text(str(os.getpid()))
            self.fault()
        return SeededNoise().generate(requests, settings)


def die() -> None:
    """End as the kernel ends a process when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """Hang as a process that is stopped."""
    os.kill(os.getpid(), signal.SIGSTOP)


def loop() -> None:
    """Hang in a computation: signs of life go on."""
    time.sleep(3600)


def run_out_of_memory() -> None:
    """Ask for more memory than the process may have."""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    np.ones(3 << 37)


def crash() -> None:
    """Have a bug."""
    raise ZeroDivisionError("a bug")


def nothing() -> None:
    """Do no harm."""


def load(
    device: str,
    *,
    fault: Callable[[], None] = nothing,
    index: int = 0,
    mark: Path | None = None,
    seconds: float = 0.0,
) -> tuple[Faulty, Settings]:
    """Load the noise."""
    del device
    if seconds:
        return Slow(fault, index, mark, seconds), {}
    return Faulty(fault, index, mark), {}


@dataclass
class Slow(Faulty):
    """Noise that takes its time."""

    seconds: float = 0.0

    def generate(self, requests: Sequence[Request], settings: object) -> list[Sample]:
        """Sleep, then draw."""
        time.sleep(self.seconds)
        return super().generate(requests, settings)


def lack_weights(device: str) -> tuple[Faulty, Settings]:
    """Fail to load."""
    raise MissingWeightsError(f"weights of noise not found on {device}. Copy them there.")


def load_marked(device: str, *, folder: Path, seconds: float) -> tuple[Faulty, Settings]:
    """Load slow noise, and leave a file for each process that does."""
    (folder / str(os.getpid())).write_text(device)
    return load(device, seconds=seconds)
