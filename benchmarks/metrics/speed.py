"""Speed and memory of the metrics, compared with other tools in one run.

    python -m benchmarks.metrics.speed [--images N] [--repeats 3]
        [--only command,distance,interval,memory,pass] [--weights PATH]

Run it alone on the machine. Without `--weights`, random weights in the format of the Inception-2015
network are used, which take equally long.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from evalkit.core.pixels import encode_png
from evalkit.features.store import FeatureStore, StoredSet
from evalkit.options.devices import emulates_bf16

PARTS = ("command", "distance", "interval", "memory", "pass")
PYTORCH_FID_FILE = "pt_inception-2015-12-05-6726825d.pth"
DIM = 2048
SAMPLES, REFERENCES = 30_000, 40_504
MEMORY_SIZES = (5_000, 20_000, 80_000)
MEMORY_DIM = 1024
MIN_IMAGES = 10


def main() -> None:
    """Run the selected parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print_memory(options.memory_of)
        return
    wanted = options.only.split(",")
    if "pass" in wanted and options.images < MIN_IMAGES:
        parser.error(f"The Inception Score needs --images of at least {MIN_IMAGES}.")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if {"command", "pass"} & set(wanted):
            weights = options.weights or write_weights(place / "inception.pth")
            fake, real = (write_pictures(place / n, options.images, s) for n, s in SETS)
        if "command" in wanted:
            compare_commands(place, fake, real, weights, options.repeats)
        if "distance" in wanted:
            compare_distances(options.repeats)
        if "interval" in wanted:
            time_intervals(place)
        if "memory" in wanted:
            compare_memory()
        if "pass" in wanted:
            compare_passes(place, fake, real, weights)


SETS = (("fake", 0), ("real", 1))


def compare_commands(place: Path, fake: Path, real: Path, weights: Path, repeats: int) -> None:
    """Time whole commands on two folders of 256 px PNG files, including start-up."""
    home = place / "torch"
    checkpoints = home / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    (checkpoints / PYTORCH_FID_FILE).write_bytes(weights.read_bytes())
    folders = [str(fake), str(real)]
    bin_folder = Path(sys.executable).parent
    theirs = {
        "python -m pytorch_fid": [sys.executable, "-m", "pytorch_fid", *folders, "--device", "cpu"],
        "fidelity --fid": [
            str(bin_folder / "fidelity"), "--fid", "--cpu", "--input1", folders[0],
            "--input2", folders[1], "--feature-extractor-weights-path", str(weights),
            "--no-datasets-cache", "--no-cache",
        ],
    }  # fmt: skip
    score = [sys.executable, "-m", "evalkit.cli", "score", folders[0], "--against", folders[1]]
    score += ["--metrics", "fid", "--inception-weights", str(weights), "--device", "cpu"]
    ours = {"evalkit score": score}
    if not emulates_bf16():  # emulation is several times slower than float32
        ours["evalkit score, bf16"] = [*score, "--precision", "bf16"]
    print("\n| command | seconds (median) | times faster than the faster other |\n|---|---|---|")
    seconds = {
        name: median_seconds(command, place, home, repeats) for name, command in theirs.items()
    }
    fastest = min(seconds.values())
    seconds |= {
        name: median_seconds(command, place, home, repeats) for name, command in ours.items()
    }
    for name, value in seconds.items():
        print(f"| `{name}` | {value:.1f} | {fastest / value:.2f} |")
    if len(ours) == 1:
        print("| `evalkit score, bf16` | not measured: this CPU has no bfloat16 arithmetic | |")


def median_seconds(command: Sequence[str], place: Path, home: Path, repeats: int) -> float:
    """Measure the median wall time of a command, with nothing cached."""
    taken = []
    for repeat in range(repeats):
        cache = place / f"cache-{time.monotonic_ns()}-{repeat}"
        environment = {**os.environ, "EVALKIT_CACHE": str(cache), "TORCH_HOME": str(home)}
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        taken.append(time.perf_counter() - started)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()[-400:]}")
    return statistics.median(taken)


def compare_distances(repeats: int) -> None:
    """Time the Fréchet distance of two full-rank Gaussians at d = 2,048, covariances given."""
    import scipy.linalg

    from evalkit.metrics.frechet.distance import frechet_distance
    from evalkit.metrics.frechet.moments import Moments

    rng = np.random.default_rng(0)
    sets = [random_features(rng, DIM + 500, DIM) for _ in range(2)]
    a, b = (Moments.from_features(features) for features in sets)
    s, r = a.covariance, b.covariance

    def by_sqrtm() -> float:
        return traces(s, r) - 2 * np.trace(scipy.linalg.sqrtm(s @ r)).real

    def by_eigvals() -> float:
        return traces(s, r) - 2 * np.sqrt(np.linalg.eigvals(s @ r).astype(complex)).sum().real

    gap = a.mean - b.mean
    ways: dict[str, Callable[[], float]] = {
        "evalkit": lambda: frechet_distance(a, b) - gap @ gap,
        "scipy.linalg.sqrtm": by_sqrtm,
        "numpy.linalg.eigvals": by_eigvals,
    }
    print(f"\n| Fréchet distance, d = {DIM:,} | seconds (median) | times ours | value |")
    print("|---|---|---|---|")
    ours = 0.0
    for name, way in ways.items():
        taken, value = timed(way, repeats)
        ours = ours or taken
        print(f"| `{name}` | {taken:.2f} | {taken / ours:.1f} | {value:.9g} |")


def time_intervals(place: Path) -> None:
    """Time both distances with the interval, and a paired difference, from stored features."""
    from evalkit.metrics import frechet_interval, paired_frechet_difference

    sizes = {"first": SAMPLES, "second": SAMPLES, "real": REFERENCES}
    first, second, real = (stored(place / "intervals", name, n, DIM) for name, n in sizes.items())
    ids = [str(i) for i in range(SAMPLES)]
    print(f"\n| d = {DIM:,}, n = {SAMPLES:,}, m = {REFERENCES:,} | seconds |\n|---|---|")
    for name, work in (
        ("plug-in and corrected distance with interval", lambda: frechet_interval(first, real)),
        (
            "the same with the curve against n",
            lambda: frechet_interval(first, real, curve=True),
        ),
        (
            "paired difference of two models",
            lambda: paired_frechet_difference(first, second, real, first_ids=ids, second_ids=ids),
        ),
    ):
        started = time.perf_counter()
        work()
        print(f"| {name} | {time.perf_counter() - started:.1f} |", flush=True)


def stored(place: Path, name: str, n: int, dim: int) -> StoredSet:
    """Store random features of n images."""
    rng = np.random.default_rng(n + len(name))
    table = FeatureStore(place).open({"extractor": name}, dim)
    keys = [f"{i:064x}" for i in range(n)]
    for start in range(0, n, 512):
        part = keys[start : start + 512]
        table.add(part, random_features(rng, len(part), dim).astype(np.float32))
    return StoredSet(table, keys)


def compare_memory() -> None:
    """Measure the peak memory of a distance with its interval, by number of stored images."""
    print(f"\n| images (d = {MEMORY_DIM}) | peak memory of FD with interval, MiB |\n|---|---|")
    for n in MEMORY_SIZES:
        command = [sys.executable, "-m", "benchmarks.metrics.speed", "--memory-of", str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"| {n:,} | {float(done.stdout):.0f} |")


def print_memory(n: int) -> None:
    """Fill a store with n images' features, compute the distance, print the peak memory."""
    from evalkit.metrics.frechet.interval import frechet_interval

    with tempfile.TemporaryDirectory() as folder:
        frechet_interval(*(stored(Path(folder), name, n, MEMORY_DIM) for name in ("fake", "real")))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare_passes(place: Path, fake: Path, real: Path, weights: Path) -> None:
    """Time all Inception metrics in one pass over the images against the sum of single passes."""
    from evalkit.features.sources import image_items
    from evalkit.metrics.score import score_sets
    from evalkit.options import MeasureOptions

    names = ["fid", "kid", "is", "prdc", "sfid"]
    sets = image_items(fake), image_items(real)

    def measure(metrics: list[str]) -> float:
        store = place / f"store-{time.monotonic_ns()}"
        started = time.perf_counter()
        score_sets(*sets, metrics, MeasureOptions(inception_weights=weights, store=store))
        return time.perf_counter() - started

    print("\n| metrics | seconds |\n|---|---|")
    together = measure(names)
    alone = {name: measure([name]) for name in names}
    for name, taken in alone.items():
        print(f"| {name} | {taken:.1f} |")
    print(f"| sum of the five | {sum(alone.values()):.1f} |")
    print(f"| all five in one pass | {together:.1f} |")


def timed(way: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Return the median seconds and the value."""
    taken, value = [], 0.0
    for _ in range(repeats):
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(way())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken), value


def traces(s: np.ndarray, r: np.ndarray) -> float:
    """Return the sum of both traces."""
    return float(np.trace(s) + np.trace(r))


def random_features(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """Draw rectified features whose directions have very different spreads."""
    scales = np.geomspace(1, 1e-2, dim)
    return (rng.normal(size=(n, dim)) * scales + 0.5 * scales).clip(min=0)


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    """Write crops of real photographs, 256 px, as PNG files."""
    from skimage import data
    from sklearn.datasets import load_sample_images

    full = [*load_sample_images().images, data.astronaut(), data.coffee(), data.chelsea()]
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for index in range(count):
        image = full[rng.integers(len(full))]
        top, left = (int(rng.integers(side - 256)) for side in image.shape[:2])
        crop = image[top : top + 256, left : left + 256]
        (folder / f"{index:05}.png").write_bytes(encode_png(crop))
    return folder


def write_weights(path: Path) -> Path:
    """Write random weights of the network's shapes."""
    import torch

    from evalkit.features.inception import InceptionNetwork

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        torch.save(InceptionNetwork().state_dict(), path)
    return path


if __name__ == "__main__":
    main()
