"""Speed and peak memory of glide:tiny at its default settings.

python -m benchmarks.sampling.speed [--n 64] [--batch-size 32]
"""

from __future__ import annotations

import argparse
import resource
import time

import torch

from evalkit.datasets.shapes.dataset import describe
from generators.base import Request
from generators.catalog import load_generator

RUNS = 3


def main() -> None:
    """Print images per second (best and median of the runs) and the process's peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    generator = load_generator("glide:tiny")
    settings = generator.spec.default_settings()
    requests = [
        Request(prompt=describe(0, "val", index)[1][0], seed=index) for index in range(options.n)
    ]
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        for start in range(0, options.n, options.batch_size):
            generator.generate(requests[start : start + options.batch_size], settings)
        rates.append(options.n / (time.perf_counter() - started))
    rates.sort()
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    chosen = {name: (s.sampler, s.steps, s.guidance) for name, s in settings.items()}
    print(f"glide:tiny, {chosen}, {torch.get_num_threads()} threads, batch {options.batch_size}")
    print(f"median {rates[len(rates) // 2]:.2f} images/s, best {rates[-1]:.2f}")
    print(f"1,000 images: {1000 / rates[len(rates) // 2] / 60:.1f} min; peak {peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
