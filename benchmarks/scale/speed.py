"""Images per second of `--devices cpu,cpu` against one process, start-up excluded.

    OMP_NUM_THREADS=1 python -m benchmarks.scale.speed --out /tmp/speed

Run it alone on a machine of two cores. Every process has one thread. A rate counts from the moment
that all workers have loaded the model to the last image, the wait for the slowest worker included.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from evalkit.core.run import WHOLE
from evalkit.datasets.base import Caption
from evalkit.engine import generate
from evalkit.generation import GenerationOptions, PreparedRun, load_on_device, prepare_run
from evalkit.options import SamplingOptions, SpreadOptions
from evalkit.requests import PromptSource
from evalkit.workers.opening import pool_opener
from evalkit.workers.sampling import SamplingWork, generate_in_workers
from evalkit.workers.work import Done, Event, Ready

TARGET = 1.8
"""Times the images per second of one process that two are to reach."""


class Watched:
    """A pool that notes when its workers are ready, and what they do then."""

    def __init__(self, pool: Any, num_workers: int, batch_size: int) -> None:
        self._pool = pool
        self._num_workers = num_workers
        self._ready: list[Event] = []
        self._batch_size = batch_size
        self.started = self.ended = 0.0
        self.num = 0

    def events(self, timeout_s: float) -> list[Event]:
        """Wait for what the workers say; hold the first task back until all are ready."""
        found: list[Event] = []
        for event in self._pool.events(timeout_s):
            if isinstance(event, Ready):
                self._ready.append(event)
                if len(self._ready) == self._num_workers:
                    self.started = time.perf_counter()
                    found += self._ready
                continue
            if isinstance(event, Done):
                self.num += self._batch_size
                self.ended = time.perf_counter()
            found.append(event)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    @property
    def rate(self) -> float:
        """Images per second since all workers were ready."""
        return self.num / (self.ended - self.started)


def prepared(folder: Path, model: str, n: int, batch_size: int, steps: str) -> PreparedRun:
    """Prepare the run that is timed."""
    shutil.rmtree(folder, ignore_errors=True)
    prompts = [Caption(f"p{i}", "", f"a red circle and {i} blue squares") for i in range(n)]
    sampling = SamplingOptions(batch_size=batch_size, steps=steps)
    source = PromptSource(prompts)
    return prepare_run(GenerationOptions(model=model, source=source, sampling=sampling, out=folder))


def rate_of_one(run: PreparedRun) -> float:
    """Return images per second of this process."""
    started = time.perf_counter()
    generate(run.run, run.generator, run.settings, run.items, batch_size=run.batch_size)
    return len(run.items) / (time.perf_counter() - started)


def rate_of_two(run: PreparedRun) -> float:
    """Return images per second of two worker processes."""
    from functools import partial

    load = partial(load_on_device, run.model, run.sampling)
    opened = pool_opener(
        SamplingWork(run=run.run.path, load=load), SpreadOptions(devices=("cpu", "cpu"))
    )
    watched: list[Watched] = []

    def open_pool(most: int) -> Any:
        watched.append(Watched(opened(most), 2, run.batch_size))
        return watched[0]

    generate_in_workers(
        run.run, run.items, open_pool,
        batch_size=run.batch_size, worker_timeout_s=60, shard=WHOLE,
    )  # fmt: skip
    return watched[0].rate


def main() -> None:
    """Time both in turns, and compare the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="glide:tiny")
    parser.add_argument("--steps", default="20")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    chosen = parser.parse_args()
    if os.environ.get("OMP_NUM_THREADS") != "1":
        raise SystemExit("Start it with OMP_NUM_THREADS=1, which must be set before Python starts.")
    ones, twos = [], []
    for _ in range(chosen.repeats):
        what = (chosen.model, chosen.n, chosen.batch_size, chosen.steps)
        ones.append(rate_of_one(prepared(chosen.out / "one", *what)))
        twos.append(rate_of_two(prepared(chosen.out / "two", *what)))
        print(f"one process {ones[-1]:.2f} images/s, two {twos[-1]:.2f}", flush=True)
    one, two = statistics.median(ones), statistics.median(twos)
    print(f"medians of {chosen.repeats}: {one:.2f} and {two:.2f} images/s, {two / one:.2f} times")
    print(f"target {TARGET}: {'reached' if two >= TARGET * one else 'not reached'}")


if __name__ == "__main__":
    main()
