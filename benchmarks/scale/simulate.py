"""Simulated runs of up to 1.2 million rows: rates, the driver's memory, and a plan for GPUs.

    python -m benchmarks.scale.simulate --out /tmp/simulated
    python -m benchmarks.scale.simulate --out /tmp/simulated --rows 10000

The generator is a stub that makes no image, so each row is `refused` with the reason `simulated`.
Everything else is real: worker processes, parts, resuming, merging, verifying. Each size runs in a
process of its own, whose peak memory is the driver's.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalkit.core.run import RunFolder, Shard
from evalkit.core.run_checks import verify
from evalkit.datasets.base import Caption
from evalkit.engine import finish
from evalkit.options import SpreadOptions
from evalkit.requests import InTurns, Items
from evalkit.workers.opening import pool_opener
from evalkit.workers.sampling import SamplingWork, generate_in_workers
from generators.base import GeneratorSpec, Request, Sample, Settings

SIZES = (10_000, 100_000, 1_200_000)
BATCH = 32
CAPTIONS = 30_000
GPUS = (1, 8, 64)
GPU_IMAGES_PER_S = 2.0
"""Assumed rate of one GPU; not measured."""
IMAGE_BYTES = 100_000
"""Assumed size of an image of 256 px; not measured."""


@dataclass(frozen=True)
class Stub:
    """A generator that decides at once to make no image."""

    spec = GeneratorSpec(
        name="stub",
        display_name="stub (simulated)",
        conditioning="text",
        stages=(),
        size_px=64,
        training_data=(),
        weights="none",
        weights_sha256="0" * 64,
    )

    def generate(self, requests: Sequence[Request], settings: Settings) -> list[Sample]:
        """Refuse every request."""
        del settings
        return [Sample(image=None, status="refused", reason="simulated") for _ in requests]


def load(device: str) -> tuple[Stub, Settings]:
    """Load the stub in a worker."""
    del device
    return Stub(), {}


def simulate(folder: Path, num: int, workers: int) -> dict[str, float]:
    """Generate, resume, merge and verify a run; return seconds and the driver's memory."""
    texts = (f"a caption of the usual length, number {i}" for i in range(CAPTIONS))
    captions = [Caption(f"c{i}", "", text) for i, text in enumerate(texts)]
    items = Items(InTurns(captions, num), "text", 0)
    config = {"model": "stub", "weights_sha256": "0" * 64, "dataset": {"name": "s", "n": num}}
    run = RunFolder.create_or_resume(folder, config)
    opened = pool_opener(
        SamplingWork(run=folder, load=load), SpreadOptions(devices=("cpu",) * workers)
    )
    found: dict[str, float] = {"rows": num, "batches": -(-num // BATCH)}
    clock = Clock(found)
    with clock.of("generate"):
        for number in (1, 2):  # shards are not merged by themselves, so merging is timed alone
            generate_in_workers(
                run, items, opened, batch_size=BATCH, worker_timeout_s=60, shard=Shard(number, 2)
            )
    with clock.of("open"):
        RunFolder.read(folder).num_rows()
    with clock.of("merge"):
        finish(run, num)
    with clock.of("resume"), run.locked():
        assert not run.pending(items, BATCH)
    with clock.of("verify"):
        assert verify(run).is_intact
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


class Clock:
    """Adds up seconds of wall time, and of this process's CPU."""

    def __init__(self, found: dict[str, float]) -> None:
        self._found = found
        self._name = ""

    def of(self, name: str) -> Clock:
        """Count the block under a name."""
        self._name = name
        return self

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *error: object) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        for key, seconds in ((f"{self._name}_s", wall), (f"{self._name}_cpu_s", cpu)):
            self._found[key] = self._found.get(key, 0.0) + seconds


def show(rows: Sequence[dict[str, float]]) -> None:
    """Print the table of sizes: rows per second of wall time, and of the driver's CPU time."""
    steps = ("open", "merge", "resume", "verify")
    print(
        "simulated rows | generate | driver CPU a batch | " + " | ".join(steps) + " | peak memory"
    )
    for row in rows:
        num = row["rows"]
        pairs = [(num / row[f"{name}_s"], num / row[f"{name}_cpu_s"]) for name in steps]
        rates = [f"{wall:,.0f}/s ({cpu:,.0f})" for wall, cpu in pairs]
        per_batch = 1000 * row["generate_cpu_s"] / row["batches"]
        print(
            f"{num:,.0f} | {num / row['generate_s']:,.0f}/s | {per_batch:.2f} ms | "
            + " | ".join(rates)
            + f" | {row['peak_mb']:.0f} MB"
        )


def plan(row: dict[str, float]) -> None:
    """Print the plan for 1.2 million images, from the rates of the largest size."""
    num = 1_200_000
    batch_s = row["generate_cpu_s"] / row["batches"]
    per_row = {name: row[f"{name}_s"] / row["rows"] for name in ("merge", "resume")}
    print(
        f"plan for {num:,} images (simulated): {GPU_IMAGES_PER_S:g} images/s a GPU and "
        f"{IMAGE_BYTES / 1000:.0f} KB an image are assumed, not measured"
    )
    print(
        "GPUs | generate | batches/s | driver busy | writes/s | MB/s | merge | resume (no images)"
    )
    for gpus in GPUS:
        images_s = gpus * GPU_IMAGES_PER_S
        print(
            f"{gpus:>4} | {num / images_s / 3600:.1f} h | {images_s / BATCH:.2f} | "
            f"{100 * images_s / BATCH * batch_s:.2f} % | {images_s * (1 + 1 / BATCH):.0f} | "
            f"{images_s * IMAGE_BYTES / 1e6:.1f} | {num * per_row['merge']:.0f} s | "
            f"{num * per_row['resume']:.0f} s"
        )
    limit = 1 / batch_s * BATCH / GPU_IMAGES_PER_S
    merge_at = num / GPU_IMAGES_PER_S / (num * per_row["merge"])
    print(f"the driver is the limit from {limit:,.0f} GPUs on; merging takes as long as")
    print(f"generating from {merge_at:,.0f} GPUs on (both simulated)")


def main() -> None:
    """Run the sizes, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(simulate(chosen.out, chosen.one, chosen.workers)))
        return
    rows = []
    for num in chosen.rows:
        folder = chosen.out / str(num)
        shutil.rmtree(folder, ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.scale.simulate", "--out", str(folder)]
        command += ["--workers", str(chosen.workers), "--one", str(num)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        shutil.rmtree(folder)
    show(rows)
    plan(rows[-1])


if __name__ == "__main__":
    main()
