"""Batches that fit: chosen by trial, halved when memory runs out, filled up when compiled."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evalkit.core.memory import is_out_of_memory
from generators.base import Generator, Request, Sample, Settings

MOST_FITTED = 256
"""Larger batches are not tried: they are no faster."""
MOST_FITTED_ON_CPU = 64
FREE_SHARE = 0.9
"""Share of the free memory that a batch may take."""
_TRIAL_STEPS = 2
_TOO_LARGE = object()
_KIB, _MIB = 2**10, 2**20


class FittedGenerator:
    """A generator whose batches are computed in smaller parts once memory has run out.

    Args:
        generator: Makes the images. What it makes of one request may not depend on the others.
        batch_size: Number of requests that each of its calls gets.
        filled: Fill up short batches, since another size would be compiled again; what fills them
            is thrown away.
    """

    def __init__(self, generator: Generator, batch_size: int, *, filled: bool = False) -> None:
        self.spec = generator.spec
        self.generator = generator
        self.batch_size = batch_size
        self.filled = filled
        self.part_size = batch_size
        """Requests that are computed at once."""

    def generate(self, requests: Sequence[Request], settings: Settings) -> Any:
        """Generate one sample per request, in order; a note says if it was made in parts.

        Returns:
            A list of samples; what breaks that interface comes back as the generator returned it.

        Raises:
            Exception: What the generator raises, also if memory runs out for a single image.
        """
        parts: list[list[Sample]] = []
        done = 0
        while done < len(requests):
            part = requests[done : done + self.part_size]
            filler = [part[-1]] * (self.part_size - len(part)) if self.filled else []
            made = self._made([*part, *filler], settings)
            if made is _TOO_LARGE:
                self.part_size = (len(part) + len(filler)) // 2
                continue
            if not isinstance(made, list) or len(made) != len(part) + len(filler):
                return made
            parts.append(made[: len(part)])
            done += len(part)
        samples = [sample for part_ in parts for sample in part_]
        if self.part_size == self.batch_size:
            return samples
        note = f"computed {self.part_size} at a time: out of memory"
        return [replace(sample, notes=(*sample.notes, note)) for sample in samples]

    def _made(self, part: Sequence[Request], settings: Settings) -> object:
        """Return what the generator makes of a part; `_TOO_LARGE`: less of it may do."""
        try:
            return self.generator.generate(part, settings)
        except Exception as error:
            if not is_out_of_memory(error) or len(part) == 1:
                raise
        _release()  # after the except clause, which holds the frames and so the tensors
        return _TOO_LARGE


def largest_batch(
    generator: Generator, request: Request, settings: Settings, *, device: str
) -> int:
    """Find the largest power of two of images that a generator can compute at once.

    Batches of one request, with few steps, are tried at doubled sizes until the next one would not
    fit, going by how much memory the last doubling took.

    Args:
        generator: The generator.
        request: What to ask for.
        settings: Of the run; only the steps are lowered.
        device: A torch device.

    Raises:
        Exception: What the generator raises, also if memory runs out for a single image.
    """
    most = MOST_FITTED if device.startswith("cuda") else MOST_FITTED_ON_CPU
    quick = {
        name: replace(stage, steps=min(stage.steps, _TRIAL_STEPS)) if stage.steps else stage
        for name, stage in settings.items()
    }
    size, peak = 1, 0
    while True:
        try:
            before, peak = peak, _peak_bytes(generator, [request] * size, quick, device)
        except Exception as error:
            if not is_out_of_memory(error) or size == 1:
                raise
            peak = -1
        if peak < 0:
            _release()
            return size // 2
        next_peak = peak + 2 * max(0, peak - before) if before else 2 * peak
        if 2 * size > most or next_peak > FREE_SHARE * _memory_bytes(device):
            return size
        size *= 2


def _peak_bytes(
    generator: Generator, requests: Sequence[Request], settings: Settings, device: str
) -> int:
    """Generate a batch; return the most memory that was in use meanwhile."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        generator.generate(requests, settings)
        return int(torch.cuda.max_memory_reserved(device))
    generator.generate(requests, settings)
    unit = 1 if sys.platform == "darwin" else _KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _memory_bytes(device: str) -> int:
    """Return the memory that this process may have in total: what it has and what is free."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + int(torch.cuda.memory_reserved(device))
    return _resident_bytes() + _available_bytes()


def _available_bytes() -> int:
    """Return the free memory of this machine, or what its limits leave of it."""
    limits = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        limits.append(int(lines["MemAvailable"].split()[0]) * _KIB)
    else:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    cgroup = Path("/sys/fs/cgroup")
    most, used = cgroup / "memory.max", cgroup / "memory.current"
    if most.is_file() and most.read_text().strip().isdigit():
        limits.append(int(most.read_text()) - int(used.read_text()))
    return max(_MIB, min(limits))


def _resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return 0
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _release() -> None:
    """Give the memory of failed tensors back to the GPU."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
