"""Does the 95 % interval of fd_infinity hold? Simulations with a known truth.

    python benchmarks/coverage_fid.py --repetitions 2000 --workers 2

Features are drawn from distributions whose mean and covariance are known exactly, so that the true
distance is known. Each repetition draws samples, a reference and a second model of the same
distribution, and asks for the interval and for the paired test. Settings, sizes and seeds are fixed
here and were fixed before any result was looked at:

- `gaussian`: N(m, S), anisotropic; `relu`: max(0, W z), skewed and sparse like a network's
  features; `student`: directions with t noise of 10 degrees of freedom, heavy-tailed; and beyond
  what is promised `elliptical`: multivariate t, where whole images are outlying at once;
- n of both sets from 2.5 to 15 times the dimensions;
- `independent`, and `matched`: a sample's caption comes from a reference image, correlation 0.8.

Printed for each: coverage of the interval of fd_infinity and of the same interval around the
plug-in value, ratio of the mean standard error to the Monte-Carlo deviation of fd_infinity, bias
and deviation of Chong and Forsyth's line in 1 / n, and how often the paired test rejects the true
null.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 (one thread each, set before numpy starts)

from evalkit.metrics.frechet import frechet_distance  # noqa: E402
from evalkit.metrics.intervals import frechet_interval, paired_frechet_difference  # noqa: E402
from evalkit.metrics.moments import Moments  # noqa: E402

SETTINGS = ("gaussian", "relu", "student", "elliptical")
MULTIPLES = (2.5, 5.0, 10.0, 15.0)
CORRELATION = 0.8
DEGREES = 10
SEED = 20_231
HEAD = (
    "| features | captions | n / d | truth | plug-in | fd_infinity | coverage | of plug-in | "
    "SE / MC | 1/n line: bias, SD (fd_infinity's) | null rejected |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class World:
    """Two distributions with known moments: what the model draws from, and the reference."""

    setting: str
    fake_map: np.ndarray
    real_map: np.ndarray
    shift: np.ndarray
    truth: float

    def fake(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Samples from standard normal noise."""
        return _features(self.setting, noise, self.fake_map, rng) + self.shift

    def real(self, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Reference features from standard normal noise."""
        return _features(self.setting, noise, self.real_map, rng)


@dataclass(frozen=True)
class Repetition:
    """What one draw of all three sets gave."""

    value: float
    corrected: float
    standard_error: float
    line: float
    p_value: float


@dataclass(frozen=True)
class Coverage:
    """One row of the table."""

    setting: str
    matched: bool
    multiple: float
    dim: int
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
def world(setting: str, dim: int) -> World:
    """The two distributions of a setting; a model whose distance is about a tenth of its spread."""
    rng = np.random.default_rng([SEED, SETTINGS.index(setting), dim])
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


def simulate(setting: str, dim: int, multiple: float, matched: bool, repetition: int) -> Repetition:
    """One repetition, seeded by what it is."""
    key = [SEED, SETTINGS.index(setting), dim, int(10 * multiple), int(matched), repetition]
    rng = np.random.default_rng(key)
    n = round(multiple * dim)
    place = world(setting, dim)
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
    line = line_in_inverse_n(x, y, rng)
    return Repetition(found.value, found.corrected, found.standard_error, line, paired.p_value)


def line_in_inverse_n(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> float:
    """Chong and Forsyth (2020): a line through FD at 15 sizes against 1 / n, read at 0.

    Their recipe draws subsets of the samples against the whole reference; the subsets of the
    reference are drawn together here, so that its bias goes too.
    """
    n, dim = x.shape
    sizes = np.linspace(max(dim + 2, n // 3), n, 15).astype(int)
    rows = [rng.permutation(n)[:size] for size in sizes]
    values = [
        frechet_distance(Moments.from_features(x[r]), Moments.from_features(y[r])) for r in rows
    ]
    return float(np.polyfit(1 / sizes, values, 1)[1])


def summarise(
    setting: str, dim: int, multiple: float, matched: bool, found: list[Repetition]
) -> Coverage:
    """One row from all repetitions of a cell."""
    truth = world(setting, dim).truth
    columns = {
        name: np.array([getattr(r, name) for r in found])
        for name in ("value", "corrected", "standard_error", "line", "p_value")
    }
    reach = 1.959964 * columns["standard_error"]
    deviation = float(columns["corrected"].std(ddof=1))
    return Coverage(
        setting=setting,
        matched=matched,
        multiple=multiple,
        dim=dim,
        repetitions=len(found),
        truth=truth,
        mean_plug_in=float(columns["value"].mean()),
        mean_corrected=float(columns["corrected"].mean()),
        coverage=float((np.abs(columns["corrected"] - truth) <= reach).mean()),
        coverage_plug_in=float((np.abs(columns["value"] - truth) <= reach).mean()),
        error_ratio=float(columns["standard_error"].mean()) / deviation,
        deviation=deviation,
        line_bias=float(columns["line"].mean()) - truth,
        line_deviation=float(columns["line"].std(ddof=1)),
        rejected=float((columns["p_value"] < 0.05).mean()),
    )


def run_cell(setting: str, dim: int, multiple: float, matched: bool, repetitions: int) -> Coverage:
    """All repetitions of one cell."""
    found = [simulate(setting, dim, multiple, matched, r) for r in range(repetitions)]
    return summarise(setting, dim, multiple, matched, found)


def line(r: Coverage) -> str:
    """One row as Markdown."""
    return (
        f"| {r.setting} | {'matched' if r.matched else 'independent'} | {r.multiple:g} "
        f"| {r.truth:.3f} | {r.mean_plug_in:.3f} | {r.mean_corrected:.3f} | {r.coverage:.1%} "
        f"| {r.coverage_plug_in:.1%} | {r.error_ratio:.2f} "
        f"| {r.line_bias:+.3f}, {r.line_deviation:.3f} ({r.deviation:.3f}) | {r.rejected:.1%} |"
    )


def main() -> None:
    """Run all cells and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--settings", nargs="+", default=SETTINGS, choices=SETTINGS)
    parser.add_argument("--multiples", nargs="+", type=float, default=MULTIPLES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    cells = [
        (setting, arguments.dim, multiple, matched, arguments.repetitions)
        for setting in arguments.settings
        for matched in (False, True)
        for multiple in arguments.multiples
    ]
    started = time.perf_counter()
    with ProcessPoolExecutor(arguments.workers) as pool:
        rows = []
        print("\n".join(HEAD))
        for row in pool.map(run_cell, *zip(*cells, strict=True)):
            rows.append(row)
            print(line(row), flush=True)
    print(
        f"\nd = {arguments.dim}, {arguments.repetitions} repetitions a row, seed {SEED}, "
        f"{time.perf_counter() - started:.0f} s"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


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
