"""Coverage of the 95 % interval of FD∞, in simulations with a known truth.

    python -m benchmarks.metrics.coverage --out coverage.jsonl                # hours
    python -m benchmarks.metrics.coverage --out coverage.jsonl --minutes 4    # resumes

Features are drawn from distributions with exactly known mean and covariance, so the true distance
is known. Each repetition draws samples, a reference and a second model of the same distribution,
and computes the interval and the paired test. A repetition is seeded by its cell and number, so
chunks, processes and order have no effect:

- `gaussian`: N(m, S), anisotropic; `relu`: max(0, W z), skewed and sparse like a network's
  features; `student`: directions with t noise of 10 degrees of freedom, heavy-tailed; and, outside
  the guaranteed range, `elliptical`: multivariate t, where whole images are outliers;
- n of both sets from 2.5 to 15 times the dimensions;
- `independent`, and `matched`: a sample's caption comes from a reference image, correlation 0.8.

The table has, for each cell: coverage of the interval of FD∞ and of the same interval around the
plug-in value, ratio of the mean standard error to the Monte-Carlo deviation of FD∞, bias and
deviation of Chong and Forsyth's line in 1 / n (over the first 200 repetitions), and how often the
paired test rejects the true null.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 (one thread each, set before numpy starts)

from evalkit.metrics.frechet.distance import frechet_distance  # noqa: E402
from evalkit.metrics.frechet.interval import frechet_interval, paired_frechet_difference  # noqa: E402
from evalkit.metrics.frechet.moments import Moments  # noqa: E402

SETTINGS = ("gaussian", "relu", "student", "elliptical")
MULTIPLES = (2.5, 5.0, 10.0, 15.0)
CORRELATION = 0.8
DEGREES = 10
SEED = 20_261_124
BLOCK = 50
"""Repetitions per block; all cells grow evenly, block by block."""
WITH_LINE = 200
"""Repetitions that also compute the line in 1 / n."""
HEAD = (
    "| features | captions | n / d | truth | plug-in | FD∞ | coverage | of plug-in | "
    "SE / MC | 1/n line: bias, SD (FD∞'s) | null rejected |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Cell:
    """One row of the table: a distribution and the sizes of the sets."""

    setting: str
    dim: int
    multiple: float
    matched: bool
    seed: int = SEED

    def __str__(self) -> str:
        kind = "matched" if self.matched else "independent"
        return f"{self.setting}/{kind}/{self.multiple:g}x{self.dim}/seed {self.seed}"


@dataclass(frozen=True)
class World:
    """Two distributions with known moments: the model's and the reference's."""

    setting: str
    fake_map: np.ndarray
    real_map: np.ndarray
    shift: np.ndarray
    truth: float

    def fake(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw samples from standard normal noise."""
        return _features(self.setting, noise, self.fake_map, rng) + self.shift

    def real(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw reference features from standard normal noise."""
        return _features(self.setting, noise, self.real_map, rng)


@dataclass(frozen=True)
class Repetition:
    """The results of one draw of all three sets."""

    value: float
    corrected: float
    standard_error: float
    p_value: float
    line: float | None


@dataclass(frozen=True)
class Coverage:
    """The results of all repetitions of a cell."""

    cell: Cell
    repetitions: int
    truth: float
    mean_plug_in: float
    mean_corrected: float
    coverage: float
    coverage_plug_in: float
    error_ratio: float
    deviation: float
    line_bias: float
    line_deviation: float
    rejected: float


@lru_cache
def world(setting: str, dim: int, seed: int) -> World:
    """Return the two distributions of a setting, at a distance of about a tenth of the spread."""
    rng = np.random.default_rng([seed, SETTINGS.index(setting), dim])
    scale = np.exp(rng.normal(size=dim) * 0.5)
    fake_map = rng.normal(size=(dim, dim)) / np.sqrt(dim) * scale
    real_map = fake_map + 0.2 * rng.normal(size=(dim, dim)) / np.sqrt(dim) * scale
    shift = 0.1 * rng.normal(size=dim)
    fake_mean, fake_cov = _moments(setting, fake_map)
    real_mean, real_cov = _moments(setting, real_map)
    truth = frechet_distance(
        Moments.from_statistics(fake_mean + shift, fake_cov),
        Moments.from_statistics(real_mean, real_cov),
    )
    return World(setting, fake_map, real_map, shift, truth)


def simulate(cell: Cell, repetition: int) -> Repetition:
    """Simulate one repetition, seeded by its cell and number."""
    name, matched = SETTINGS.index(cell.setting), cell.matched
    key = [cell.seed, name, cell.dim, int(10 * cell.multiple), int(matched), repetition]
    rng = np.random.default_rng(key)
    n, dim = round(cell.multiple * cell.dim), cell.dim
    place = world(cell.setting, dim, cell.seed)
    captions = rng.normal(size=(n, dim))
    first, second, real = (
        _correlated(captions, CORRELATION if matched else 0.0, rng) for _ in range(3)
    )
    x, other, y = place.fake(first, rng), place.fake(second, rng), place.real(real, rng)
    ids = [str(i) for i in range(n)] if matched else None
    found = frechet_interval(x, y, fake_ids=ids, real_ids=ids)
    paired = paired_frechet_difference(x, other, y, first_ids=ids, second_ids=ids, real_ids=ids)
    assert found.corrected is not None
    assert found.standard_error is not None
    line = line_in_inverse_n(x, y, rng) if repetition < WITH_LINE else None
    return Repetition(found.value, found.corrected, found.standard_error, paired.p_value, line)


def line_in_inverse_n(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """Extrapolate FD at 15 sizes by a line in 1 / n to 0 (Chong and Forsyth 2020).

    They draw subsets of the samples against the whole reference; here subsets of the reference are
    drawn along with them, so that its bias is removed too.
    """
    n, dim = x.shape
    sizes = np.linspace(max(dim + 2, n // 3), n, 15).astype(int)
    rows = [rng.permutation(n)[:size] for size in sizes]
    values = [
        frechet_distance(Moments.from_features(x[r]), Moments.from_features(y[r])) for r in rows
    ]
    return float(np.polyfit(1 / sizes, values, 1)[1])


def summarise(cell: Cell, found: list[Repetition]) -> Coverage:
    """Summarise all repetitions of a cell as one row."""
    truth = world(cell.setting, cell.dim, cell.seed).truth
    value, corrected, error, p_value = np.array(
        [(r.value, r.corrected, r.standard_error, r.p_value) for r in found]
    ).T
    lines = np.array([r.line for r in found if r.line is not None])
    deviation = float(corrected.std(ddof=1))
    return Coverage(
        cell=cell,
        repetitions=len(found),
        truth=truth,
        mean_plug_in=float(value.mean()),
        mean_corrected=float(corrected.mean()),
        coverage=float((np.abs(corrected - truth) <= 1.959964 * error).mean()),
        coverage_plug_in=float((np.abs(value - truth) <= 1.959964 * error).mean()),
        error_ratio=float(error.mean()) / deviation,
        deviation=deviation,
        line_bias=float(lines.mean()) - truth,
        line_deviation=float(lines.std(ddof=1)),
        rejected=float((p_value < 0.05).mean()),
    )


def run_cell(cell: Cell, repetitions: int) -> Coverage:
    """Run all repetitions of one cell."""
    return summarise(cell, [simulate(cell, r) for r in range(repetitions)])


def run_block(block: tuple[Cell, int]) -> list[dict[str, object]]:
    """Simulate one block of repetitions, from the given number on, as rows of the file."""
    cell, start = block
    return [
        {"cell": str(cell), "repetition": r, **asdict(simulate(cell, r))}
        for r in range(start, start + BLOCK)
    ]


def read(path: Path) -> dict[str, dict[int, Repetition]]:
    """Read finished repetitions by cell and number, without an incomplete last line."""
    found: dict[str, dict[int, Repetition]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        cell, number = row.pop("cell"), row.pop("repetition")
        found.setdefault(cell, {})[number] = Repetition(**row)
    return found


def missing_blocks(
    cells: list[Cell], done: dict[str, dict[int, Repetition]], repetitions: int
) -> Iterator[tuple[Cell, int]]:
    """Yield the blocks still to be simulated, so that all cells grow evenly."""
    for start in range(0, repetitions, BLOCK):
        for cell in cells:
            if any(r not in done.get(str(cell), {}) for r in range(start, start + BLOCK)):
                yield cell, start


def extend(
    cells: list[Cell], path: Path, repetitions: int, workers: int, minutes: float | None
) -> None:
    """Simulate missing repetitions and append them to the file, within the given minutes."""
    stop = time.monotonic() + 60 * minutes if minutes else float("inf")
    blocks = missing_blocks(cells, read(path), repetitions)
    with path.open("a") as out, ProcessPoolExecutor(workers) as pool:
        if out.tell():
            out.write("\n")  # in case the last line was cut short
        while time.monotonic() < stop:
            batch = [block for _, block in zip(range(workers), blocks, strict=False)]
            if not batch:
                return
            for rows in pool.map(run_block, batch):
                out.write("".join(json.dumps(row) + "\n" for row in rows))
            out.flush()


def markdown(r: Coverage) -> str:
    """Format one row of the table."""
    cell = r.cell
    return (
        f"| {cell.setting} | {'matched' if cell.matched else 'independent'} | {cell.multiple:g} "
        f"| {r.truth:.3f} | {r.mean_plug_in:.3f} | {r.mean_corrected:.3f} | {r.coverage:.1%} "
        f"| {r.coverage_plug_in:.1%} | {r.error_ratio:.2f} "
        f"| {r.line_bias:+.3f}, {r.line_deviation:.3f} ({r.deviation:.3f}) | {r.rejected:.1%} |"
    )


def main() -> None:
    """Simulate missing repetitions and print the table of all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="file to extend, JSON lines")
    parser.add_argument("--reps", type=int, default=2000, help=f"rounded up to {BLOCK}")
    parser.add_argument("--minutes", type=float, help="time limit; 0 only prints the table")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=SETTINGS[:3], choices=SETTINGS)
    parser.add_argument("--multiples", nargs="+", type=float, default=MULTIPLES)
    arguments = parser.parse_args()
    cells = [
        Cell(setting, arguments.dim, multiple, matched, arguments.seed)
        for setting in arguments.settings
        for matched in (False, True)
        for multiple in arguments.multiples
    ]
    if arguments.minutes != 0:
        extend(cells, arguments.out, arguments.reps, arguments.workers, arguments.minutes)
    print("\n".join(HEAD))
    found = read(arguments.out)
    counts = [len(found.get(str(cell), {})) for cell in cells]
    for cell, count in zip(cells, counts, strict=True):
        if count > 1:
            print(markdown(summarise(cell, list(found[str(cell)].values()))))
    print(
        f"\nd = {arguments.dim}, {min(counts)} to {max(counts)} repetitions per row, "
        f"seed {arguments.seed}"
    )


def _features(
    setting: str, noise: np.ndarray, linear: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    if setting in ("student", "elliptical"):
        dims = noise.shape[1] if setting == "student" else 1
        chi = rng.chisquare(DEGREES, size=(len(noise), dims))
        return noise / np.sqrt(chi / DEGREES) @ linear
    mapped: np.ndarray = noise @ linear
    return mapped if setting == "gaussian" else mapped.clip(min=0)


def _moments(setting: str, linear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    covariance = linear.T @ linear
    if setting == "gaussian":
        return np.zeros(len(linear)), covariance
    if setting in ("student", "elliptical"):
        return np.zeros(len(linear)), covariance * DEGREES / (DEGREES - 2)
    # Rectified Gaussians: the arc-cosine kernel of order 1 (Cho and Saul 2009).
    deviation = np.sqrt(np.diag(covariance))
    correlation = (covariance / np.outer(deviation, deviation)).clip(-1, 1)
    kernel = np.sqrt(1 - correlation**2) + correlation * (np.pi - np.arccos(correlation))
    second = np.outer(deviation, deviation) * kernel / (2 * np.pi)
    mean = deviation / np.sqrt(2 * np.pi)
    return mean, second - np.outer(mean, mean)


def _correlated(shared: np.ndarray, correlation: float, rng: np.random.Generator) -> np.ndarray:
    own = rng.normal(size=shared.shape)
    return np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own


if __name__ == "__main__":
    main()
