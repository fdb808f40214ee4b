"""What is equal between batch sizes, processes, threads, precisions and devices: docs/gpu.md.

    python -m benchmarks.scale.equality --out /tmp/equality

Samples the same images again and again with glide:tiny, each time with one thing changed, and
compares bytes. What this machine lacks is printed as unmeasured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from evalkit.core.pixels import read_rgb
from evalkit.core.run import RunFolder

N = 32
BASE: dict[str, str] = {"--batch-size": "16", "--device": "cpu", "threads": "1"}
CHANGES: dict[str, dict[str, str]] = {
    "the same command again": {},
    "two processes (--devices cpu,cpu)": {"--devices": "cpu,cpu"},
    "shards (--shard 1/2, 2/2)": {"shards": "2"},
    "2 threads": {"threads": "2"},
    "batch size 1": {"--batch-size": "1"},
    "batch size 7": {"--batch-size": "7"},
    "batch size 32": {"--batch-size": "32"},
    "--bf16": {"--bf16": ""},
    "--compile-model": {"--compile-model": ""},
}
GPU_CHANGES: dict[str, dict[str, str]] = {
    "GPU instead of CPU": {"--device": "cuda"},
    "GPU, --bf16": {"--device": "cuda", "--bf16": ""},
}


def sample(folder: Path, changes: dict[str, str]) -> np.ndarray:
    """Generate the images with something changed; return them (images, height, width, 3)."""
    options = {**BASE, **changes}
    threads, shards = options.pop("threads"), int(options.pop("shards", "1"))
    if "--devices" in options:
        del options["--device"]
    words = [sys.executable, "-m", "evalkit.cli", "generate", "--model", "glide:tiny"]
    words += ["--prompt", "a red circle", "--prompt", "a blue square", "--n", str(N)]
    words += ["--steps", "10", "--out", str(folder)]
    words += [word for pair in options.items() for word in pair if word]
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    for number in range(1, shards + 1):
        more = ["--shard", f"{number}/{shards}"] if shards > 1 else []
        subprocess.run([*words, *more], check=True, capture_output=True, env=environment)
    run = RunFolder.read(folder)
    return np.stack([read_rgb(run.image_path(row)) for row in run.rows()])


def compare(name: str, first: np.ndarray, second: np.ndarray) -> str:
    """Say in how many images and by how many levels two sets differ."""
    difference = np.abs(first.astype(int) - second.astype(int))
    images = int(difference.reshape(len(first), -1).any(axis=1).sum())
    if not images:
        return f"| {name} | equal |"
    share = 100 * float((difference > 0).mean())
    words = f"{images} of {len(first)} images, {share:.2g} % of values"
    return f"| {name} | {words}, by at most {difference.max()} of 255 |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    base = sample(out / "base", {})
    print("| against batch size 16, 1 thread, CPU, float32 | values that differ |\n|---|---|")
    for number, (name, changes) in enumerate(CHANGES.items()):
        print(compare(name, base, sample(out / str(number), changes)), flush=True)
    import torch

    for number, (name, changes) in enumerate(GPU_CHANGES.items()):
        if torch.cuda.is_available():
            print(compare(name, base, sample(out / f"gpu{number}", changes)), flush=True)
        else:
            print(f"| {name} | unmeasured: no GPU here |")


if __name__ == "__main__":
    main()
