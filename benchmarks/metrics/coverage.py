"""Check the coverage of the interval of FD∞, and the size and power of the paired test.

    python -m benchmarks.metrics.coverage --out FILE.jsonl

runs all cells on one core and resumes where it stopped; `--minutes 4` stops after four minutes,
`--table` prints the cells that are there, and `--large` runs d = 2,048 instead.

The worlds are those of `benchmarks.metrics.worlds`, whose distances are known exactly. A repetition
draws samples and a reference and computes the interval; its seed depends on the cell and its number
only, so that chunks and order change nothing. Cells: every world at d = 64 with 1.5, 2.5 and 5 d
samples against as many reference images and 20 d, two worlds with 3 n and 8 n; four at d = 256; a
statistics file as the reference; samples matched with reference images of their captions, also in a
small reference; four samples per caption; and the paired test of two models of one population, with
equal and unequal numbers of samples and captions shared or not.

Printed: coverage, bias in standard errors, and the width of the interval relative to 2 x 1.96
standard deviations over draws; for the paired test how often it rejects the null hypothesis.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 (one thread, set before numpy starts)

from benchmarks.metrics.worlds import WORLDS, World, world  # noqa: E402
from evalkit.metrics.frechet.difference import paired_frechet_difference  # noqa: E402
from evalkit.metrics.frechet.interval import frechet_interval  # noqa: E402

SEED = 20_261_202
CHUNK = 50
"""Repetitions that are written at once."""
MULTIPLES = (1.5, 2.5, 5.0)
LARGE = 20
"""Reference images a dimension, where the reference is large."""
SIZES_2048 = (3_000, 5_000, 10_000, 30_000)


@dataclass(frozen=True)
class Cell:
    """One setting; its name is its key in the file."""

    name: str
    d: int
    n: int
    m: int
    setup: str = "independent"
    correlation: float = 0.0
    second: int = 0
    """Samples of a second model, for the paired test; 0: none."""
    shift: float = 0.0
    """Scale by which the second model differs."""
    repetitions: int = 1_000

    @property
    def key(self) -> str:
        """Name in the file."""
        extra = f" {self.correlation:g}" if self.correlation else ""
        extra += f" v {self.second} shift {self.shift:g}" if self.second else ""
        return f"{self.name} d={self.d} n={self.n} m={self.m} {self.setup}{extra}"


def cells(*, large: bool) -> list[Cell]:
    """All cells, the ones that matter most first."""
    if large:
        return [Cell("1/k", 2048, n, 40_504, repetitions=5) for n in SIZES_2048]
    d = 64
    sizes = [int(k * d) for k in MULTIPLES]
    found = [Cell(name, d, n, m) for name in WORLDS for n in sizes for m in (n, LARGE * d)]
    found += [Cell(name, d, n, k * n) for name in ("1/k", "relu") for n in sizes for k in (3, 8)]
    found += [
        Cell(name, d, n, 0, "statistics file") for name in ("1/k", "relu", "t10") for n in sizes
    ]
    found += [
        Cell(name, d, n, LARGE * d, "matched", correlation)
        for name in ("1/k", "relu")
        for n in sizes
        for correlation in (0.5, 0.95)
    ]
    found += [Cell(name, d, n, 2 * n, "matched", 0.95) for name in ("1/k", "relu") for n in sizes]
    found += [
        Cell(name, d, k * d, k * d, "matched", 0.95) for name in ("1/k", "relu") for k in (5, 10)
    ]
    found += [
        Cell(name, d, n, LARGE * d, "four per caption", 0.5)
        for name in ("1/k", "relu")
        for n in sizes
    ]
    pairs = ((1.5, 5), (2.5, 5), (5, 10), (5, 5))
    found += [
        Cell(name, d, int(a * d), LARGE * d, "paired", rho, int(b * d))
        for name in ("1/k", "relu")
        for a, b in pairs
        for rho in (0.0, 0.5, 0.95)
    ]
    found += [
        Cell("1/k", d, 5 * d, LARGE * d, "paired", rho, 5 * d, shift)
        for rho, shift in ((0.0, 0.05), (0.5, 0.05), (0.95, 0.02))
    ]
    found += [
        Cell(name, 256, int(k * 256), LARGE * 256, repetitions=400)
        for name in ("1/k", "relu", "t10", "mixture")
        for k in (1.5, 2.5)
    ]
    return list(dict.fromkeys(found))


def measure(cell: Cell, number: int) -> dict[str, float]:
    """One repetition."""
    rng = np.random.default_rng([SEED, *cell.key.encode(), number])
    here = world(cell.name, cell.d)
    if cell.second:
        return _paired(cell, here, rng, number)
    ids = real_ids = None
    reference: Any
    if cell.setup == "statistics file":
        fake, reference = here.fake(cell.n, rng), here.real_moments
    elif cell.setup == "matched":
        assert here.fake_of is not None
        assert here.real_of is not None
        z = rng.normal(size=(cell.m, cell.d))
        fake = here.fake_of(_related(z[: cell.n], cell.correlation, rng))
        reference = here.real_of(z)
        real_ids = [str(i) for i in range(cell.m)]
        ids = real_ids[: cell.n]
    elif cell.setup == "four per caption":
        assert here.fake_of is not None
        captions = rng.normal(size=(cell.n // 4, cell.d)).repeat(4, axis=0)
        fake = here.fake_of(_related(captions, cell.correlation, rng))
        ids = [str(i // 4) for i in range(len(fake))]
        reference = here.real(cell.m, rng)
    else:
        fake, reference = here.fake(cell.n, rng), here.real(cell.m, rng)
    found = frechet_interval(fake, reference, fake_ids=ids, real_ids=real_ids, seed=number)
    assert found.corrected is not None, found.reason
    assert found.low is not None
    assert found.high is not None
    assert found.standard_error is not None
    return {
        "value": found.corrected,
        "error": found.standard_error,
        "low": found.low,
        "high": found.high,
        "plug_in": found.value,
    }


def _paired(cell: Cell, here: World, rng: np.random.Generator, number: int) -> dict[str, float]:
    assert here.fake_of is not None
    z = rng.normal(size=(max(cell.n, cell.second), cell.d))
    first = here.fake_of(_related(z[: cell.n], cell.correlation, rng))
    second = here.fake_of((1 + cell.shift) * _related(z[: cell.second], cell.correlation, rng))
    found = paired_frechet_difference(
        first,
        second,
        here.real(cell.m, rng),
        first_ids=[str(i) for i in range(cell.n)],
        second_ids=[str(i) for i in range(cell.second)],
        seed=number,
    )
    return {
        "value": found.value, "error": found.standard_error, "low": found.low,
        "high": found.high, "p": found.p_value,
    }  # fmt: skip


def _related(z: np.ndarray, correlation: float, rng: np.random.Generator) -> np.ndarray:
    fresh = rng.normal(size=z.shape)
    related: np.ndarray = np.sqrt(correlation) * z + np.sqrt(1 - correlation) * fresh
    return related


def read(path: Path) -> dict[str, list[dict[str, float]]]:
    """Repetitions by cell, as far as they go."""
    found: dict[str, list[dict[str, float]]] = {}
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            found.setdefault(row["cell"], []).extend(row["rows"])
    return found


def run(path: Path, wanted: list[Cell], minutes: float) -> None:
    """Fill the file, cell by cell, until it is full or the time is up."""
    end = time.monotonic() + 60 * minutes
    done = read(path)
    for cell in wanted:
        rows = len(done.get(cell.key, []))
        for start in range(rows, cell.repetitions, CHUNK):
            numbers = range(start, min(start + CHUNK, cell.repetitions))
            made = []
            for number in numbers:
                made.append(measure(cell, number))
                if time.monotonic() > end and cell.d > 1000:
                    break
            with path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps({"cell": cell.key, "rows": made}) + "\n")
            if time.monotonic() > end:
                return
        print(summary(cell, read(path)[cell.key]), flush=True)


def summary(cell: Cell, rows: list[dict[str, float]]) -> str:
    """One line of the table."""
    column = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    spread = column["value"].std(ddof=1)
    width = (column["high"] - column["low"]).mean() / (2 * 1.96 * spread)
    if cell.second:
        rejected = (column["p"] < 0.05).mean()
        return f"| {cell.key} | {len(rows)} | {100 * rejected:.1f} % | {width:.2f} |"
    truth = world(cell.name, cell.d).truth
    covered = ((column["low"] <= truth) & (truth <= column["high"])).mean()
    bias = (column["value"].mean() - truth) / column["error"].mean()
    return (
        f"| {cell.key} | {len(rows)} | {truth:.4g} | {column['plug_in'].mean():.4g} | "
        f"{column['value'].mean():.4g} | {100 * covered:.1f} % | {bias:+.2f} | {width:.2f} |"
    )


def table(wanted: list[Cell], done: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """Tables of what is there."""
    head = "| cell | draws | truth | plug-in | corrected | coverage | bias / se | width |"
    yield from ("", head, "|" + "---|" * 8)
    shown = [(c, done[c.key][: c.repetitions]) for c in wanted if c.key in done]
    yield from (summary(c, rows) for c, rows in shown if not c.second)
    yield from ("", "| paired test | draws | rejected | width |", "|" + "---|" * 4)
    yield from (summary(c, rows) for c, rows in shown if c.second)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, added to")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--large", action="store_true", help="d = 2048 instead")
    parser.add_argument("--table", action="store_true", help="print tables and stop")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    options = parser.parse_args()
    wanted = [cell for cell in cells(large=options.large) if options.only in cell.key]
    if not options.table:
        run(options.out, wanted, options.minutes)
    print("\n".join(table(wanted, read(options.out))))


if __name__ == "__main__":
    main()
