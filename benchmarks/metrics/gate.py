"""Simulate gates with a known truth: how often they pass at the margin, and with equal models.

    python -m benchmarks.metrics.gate --out FILE.jsonl

runs 2,000 simulated gates a cell on one core and resumes where it stopped; `--minutes 4` stops
after four minutes, `--repetitions 200` is a short run, `--table` prints what is there.

Two metrics. The paired Fréchet difference: features of 16 dimensions of a reference and of two
models whose samples share captions, Gaussian or of a t distribution, whose distances are known by
their moments. And a score of single images with skewed captions, four samples each.

A plan comes first: pilots of the same or half the size give the standard error, and with it the
margin that equal models pass with a power of 80 %. Then gates are simulated with the candidate
exactly worse by the margin, equal, and worse by twice the margin. A repetition's seed depends on
the cell and its number only.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402 (one thread, set before numpy starts)

from evalkit.core.results import Interval, ResultRecord  # noqa: E402
from evalkit.gate.power import Spread  # noqa: E402
from evalkit.gate.requirements import Requirement, Rule, Verdict, judge  # noqa: E402
from evalkit.metrics.frechet.difference import paired_frechet_difference  # noqa: E402
from evalkit.metrics.means import mean_interval  # noqa: E402

SEED = 20_261_129
CHUNK = 50
"""Repetitions that are written at once."""
DIM = 16
REFERENCE = 2_000
SHARED = 0.5
"""Correlation of the two models' samples of one caption."""
BASE_SHIFT = 0.3
"""Shift of the baseline's features, whose distance is then 16 * 0.3**2 = 1.44."""
PILOTS = 200
POWER = 0.8
RULE = Rule()
SITUATIONS = {"at the margin": 1.0, "equal": 0.0, "twice the margin": 2.0}
"""How much worse the candidate is, in margins."""


@dataclass(frozen=True)
class Cell:
    """One metric, world and size."""

    metric: str
    world: str
    n: int
    half: bool = True
    """Whether the pilots have half the images of the gate, or as many."""

    @property
    def key(self) -> str:
        """Name in the file."""
        pilot = "" if self.half else ", pilots of its size"
        return f"{self.metric} {self.world} n={self.n}{pilot}"

    @property
    def pilot_n(self) -> int:
        """Images of each pilot run."""
        return self.n // 2 if self.half else self.n


CELLS = (
    Cell("clip-score", "skewed", 200),
    Cell("clip-score", "skewed", 1_000),
    Cell("fid-infinity", "gaussian", 160, half=False),
    Cell("fid-infinity", "gaussian", 320, half=False),
    Cell("fid-infinity", "t8", 320, half=False),
    Cell("fid-infinity", "gaussian", 160),
    Cell("fid-infinity", "gaussian", 320),
    Cell("fid-infinity", "t8", 320),
)


def measure(cell: Cell, worse: float, rng: np.random.Generator, n: int) -> ResultRecord:
    """Draw both models, the candidate worse by a true difference, and measure the difference."""
    draw = _frechet if cell.metric == "fid-infinity" else _score
    return draw(cell.world, worse, rng, n)


def _frechet(name: str, worse: float, rng: np.random.Generator, n: int) -> ResultRecord:
    noise = _noise(name, rng)
    captions = noise(n)
    # The distance of a shift s in every dimension is DIM * s**2; covariances are equal.
    shifts = (np.sqrt(BASE_SHIFT**2 + worse / DIM), BASE_SHIFT)
    candidate, baseline = (
        np.sqrt(SHARED) * captions + np.sqrt(1 - SHARED) * noise(n) + shift for shift in shifts
    )
    seed = int(rng.integers(2**31))
    found = paired_frechet_difference(
        candidate, baseline, noise(REFERENCE), level=RULE.level, seed=seed
    )
    return _record(
        "fid-difference", "lower", n, (found.value, found.standard_error, found.low, found.high),
        {"num_groups": found.num_groups, "p_value": found.p_value},
    )  # fmt: skip


def _noise(name: str, rng: np.random.Generator) -> Callable[[int], np.ndarray]:
    """Return a function that draws features of mean 0 and variance 1."""
    if name == "gaussian":
        return lambda num: rng.normal(size=(num, DIM))
    degrees = float(name.removeprefix("t"))
    scale = np.sqrt((degrees - 2) / degrees)
    return lambda num: scale * rng.standard_t(degrees, size=(num, DIM))


def _score(name: str, worse: float, rng: np.random.Generator, n: int) -> ResultRecord:
    assert name == "skewed"
    per_caption = 4
    captions = n // per_caption
    # Some captions lose much by the candidate and most gain a little: skewed, of mean 0.
    effect = 1 - rng.exponential(1.0, captions)
    samples = rng.normal(0, 2, size=(2, captions, per_caption))
    difference = effect - worse + samples[0].mean(axis=1) - samples[1].mean(axis=1)
    found = mean_interval(difference, level=RULE.level)
    assert found.low is not None
    assert found.high is not None
    assert found.standard_error is not None
    return _record(
        "clip-score-difference", "higher", captions,
        (found.value, found.standard_error, found.low, found.high), {"num_draws": found.num_draws},
    )  # fmt: skip


def _record(metric, direction, n, numbers, details) -> ResultRecord:  # type: ignore[no-untyped-def]
    value, error, low, high = numbers
    interval = Interval(low=low, high=high, level=RULE.level, method="simulated")
    return ResultRecord(
        metric=metric, value=value, n=n, direction=direction, standard_error=error,
        interval=interval, details=details, subject="simulated",
    )  # fmt: skip


@cache
def plan(cell: Cell) -> tuple[float, Spread]:
    """Return the margin that equal models pass with the power, by pilots."""
    records = [
        measure(cell, 0.0, _rng(cell, "pilot", number), cell.pilot_n) for number in range(PILOTS)
    ]
    first = records[0]
    error = float(np.sqrt(np.mean([(record.standard_error or 0) ** 2 for record in records])))
    spread = Spread(
        standard_error=error, n=cell.pilot_n,
        draws=first.details.get("num_draws"), groups=first.details.get("num_groups"),
    )  # fmt: skip
    low, high = 0.0, 20 * spread.error_at(cell.n)
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        enough = spread.probability(middle, cell.n, alpha=RULE.alpha) >= POWER
        low, high = (low, middle) if enough else (middle, high)
    return high, spread


def simulate(cell: Cell, situation: str, number: int) -> dict[str, Verdict]:
    """Run one gate; return the verdict of each kind of requirement."""
    margin, _ = plan(cell)
    rng = _rng(cell, situation, number)
    record = measure(cell, SITUATIONS[situation] * margin, rng, cell.n)
    kinds = {"non-inferior": margin, "equivalent": margin, "superior": 0.0}
    return {
        kind: judge(
            Requirement(metric=cell.metric, kind=kind, value=value),  # type: ignore[arg-type]
            record, RULE, num_images=cell.n,
        ).verdict
        for kind, value in kinds.items()
    }  # fmt: skip


def _rng(cell: Cell, situation: str, number: int) -> np.random.Generator:
    return np.random.default_rng([SEED, *f"{cell.key} {situation}".encode(), number])


def run(path: Path, repetitions: int, minutes: float, only: str = "") -> None:
    """Fill the file until every cell has its repetitions, or the time is up."""
    end = time.monotonic() + 60 * minutes
    for cell in (cell for cell in CELLS if only in cell.key):
        for situation in SITUATIONS:
            done = len(read(path).get((cell.key, situation), []))
            for start in range(done, repetitions, CHUNK):
                numbers = range(start, min(start + CHUNK, repetitions))
                made = [simulate(cell, situation, number) for number in numbers]
                row = {"cell": cell.key, "situation": situation, "rows": made}
                with path.open("a", encoding="utf-8") as handle:
                    handle.write(json.dumps(row) + "\n")
                if time.monotonic() > end:
                    return


def read(path: Path) -> dict[tuple[str, str], list[dict[str, str]]]:
    """Return the verdicts by cell and situation, as far as they go."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    if path.is_file():
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            found.setdefault((row["cell"], row["situation"]), []).extend(row["rows"])
    return found


def shares(verdicts: Sequence[dict[str, str]], kind: str) -> dict[str, float]:
    """Return the share of each verdict, in percent."""
    counts = Counter(row[kind] for row in verdicts)
    return {name: 100 * count / len(verdicts) for name, count in counts.items()}


COLUMNS = (
    ("passed at the margin", "at the margin", "non-inferior", "passed"),
    ("equivalence there", "at the margin", "equivalent", "passed"),
    ("superiority of equals", "equal", "superior", "passed"),
    ("equals passed (80 % planned)", "equal", "non-inferior", "passed"),
    ("failed at twice the margin", "twice the margin", "non-inferior", "failed"),
)
"""Heading, situation, requirement and verdict of each column."""


def table(found: dict[tuple[str, str], list[dict[str, str]]]) -> Iterator[str]:
    """Yield a row for each cell, with the shares of gates; a number in parentheses if fewer."""
    yield f"| simulated gate | {' | '.join(heading for heading, *_ in COLUMNS)} |"
    yield "|" + "---|" * (1 + len(COLUMNS))
    for cell in dict.fromkeys(cell for cell, _ in found):
        shown = []
        for _, situation, kind, verdict in COLUMNS:
            verdicts = found.get((cell, situation), [])
            share = f"{shares(verdicts, kind).get(verdict, 0):.1f} %" if verdicts else ""
            fewer = f" ({len(verdicts):,})" if 0 < len(verdicts) < 2_000 else ""
            shown.append(share + fewer)
        yield f"| {cell} | {' | '.join(shown)} |"


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, added to")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--repetitions", type=int, default=2_000, help="gates a cell")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    options = parser.parse_args()
    if not options.table:
        run(options.out, options.repetitions, options.minutes, options.only)
    print("\n".join(table(read(options.out))))


if __name__ == "__main__":
    main()
