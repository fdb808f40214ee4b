"""Speed and peak memory of a tiny model, by precision and compilation, and where the time goes.

    python -m benchmarks.sampling.speed [--model glide:tiny] [--n 64] [--batch-size 32]
        [--modes float32 bf16 compiled bf16,compiled]

Each mode is measured in turn, three times; compilation and warm-up are not counted. The profile is
of one batch in float32: how much of it is drawing noise, and how long storing its images takes in
the thread that writes (PNG encoding, files, manifest), which runs beside the next batch.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import torch

from evalkit.core.run import Outcome, RunFolder, WorkItem
from evalkit.datasets.shapes.dataset import describe
from generators.base import Generator, Request, Settings
from generators.catalog import load_generator
from generators.diffusion import noise

RUNS = 3
MODES = {
    "float32": {},
    "bf16": {"bf16": True},
    "compiled": {"compiled": True},
    "bf16,compiled": {"bf16": True, "compiled": True},
}


def median_rate(generator: Generator, batches: Sequence[Sequence[Request]]) -> float:
    """Measure the median images per second of all batches, after one for warming up."""
    settings = generator.spec.default_settings()
    generator.generate(batches[0], settings)
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        for batch in batches:
            generator.generate(batch, settings)
        rates.append(sum(map(len, batches)) / (time.perf_counter() - started))
    return statistics.median(rates)


def profile(generator: Generator, batch: Sequence[Request], settings: Settings) -> None:
    """Print the share of a batch that is drawing noise, and the seconds of storing it."""
    drawing = 0.0
    draw = torch.randn

    def timed(*args: object, **kwargs: object) -> torch.Tensor:
        nonlocal drawing
        started = time.perf_counter()
        drawn = draw(*args, **kwargs)  # type: ignore[arg-type]
        drawing += time.perf_counter() - started
        return drawn

    with patch.object(noise.torch, "randn", timed):
        started = time.perf_counter()
        samples = generator.generate(batch, settings)
        whole = time.perf_counter() - started
    items = [
        WorkItem(index=i, caption_id=f"{i}", sample_index=0, prompt=r.prompt, seed=r.seed)
        for i, r in enumerate(batch)
    ]
    outcomes = [Outcome(pixels=sample.image, status=sample.status) for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create_or_resume(Path(folder) / "run", {"model": generator.spec.name})
        with run.locked():
            started = time.perf_counter()
            run.add_batch(items, outcomes)
            run.add_timing(first_index=0, num_images=len(batch), elapsed_s=whole)
            storing = time.perf_counter() - started
    shares = [f"{100 * part / whole:.1f} %" for part in (drawing, storing)]
    print(f"a batch of {len(batch)}: {whole:.2f} s, {shares[0]} of it noise")
    print(f"storing its images, beside the next batch: {shares[1]} of that time")


def main() -> None:
    """Print images per second by mode, the peak memory and the profile."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="glide:tiny")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--modes", nargs="+", default=["float32"], choices=list(MODES))
    options = parser.parse_args()
    requests = [
        Request(prompt=describe(0, "val", index)[1][0], seed=index) for index in range(options.n)
    ]
    starts = range(0, options.n, options.batch_size)
    batches = [requests[start : start + options.batch_size] for start in starts]
    plain = load_generator(options.model)
    settings = plain.spec.default_settings()
    chosen = {name: (s.sampler, s.steps, s.guidance) for name, s in settings.items()}
    print(f"{options.model}, {chosen}, {torch.get_num_threads()} threads")
    first = 0.0
    for mode in options.modes:
        rate = median_rate(load_generator(options.model, **MODES[mode]), batches)
        first = first or rate
        against = f"{rate / first:.2f} times {options.modes[0]}"
        minutes = f"1,000 images: {1000 / rate / 60:.1f} min"
        print(f"{mode}: median {rate:.2f} images/s, {against}; {minutes}", flush=True)
    print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    profile(plain, batches[0], settings)


if __name__ == "__main__":
    main()
