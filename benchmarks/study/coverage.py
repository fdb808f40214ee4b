"""Coverage of the intervals of win rates, on DrawBench's layout.

It simulates complete studies (11 categories, 200 prompts, 25 raters per category) with no, weak,
strong and very strong effects of raters and prompts, and counts how often the 95 % intervals
contain the true win rate. The models are equal, or differ by what the plan detects in 80 % of
studies, or differ more, and differently in each category; or one wins 80, 95 or 99 % of the votes.
The table also has the naive interval and the plan.

    python -m benchmarks.study.coverage --studies 5000 --rows coverage.jsonl

Every 500 studies of a setting are a row of the file with their own seed; the same command resumes,
also after `--minutes`. The seed, the settings and the goals below were fixed before the first run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

from drawbench.simulation.raters import (
    DRAWBENCH_RATERS,
    DRAWBENCH_SIZES,
    SimulatedPanel,
    vote_correlations,
)
from drawbench.stats.coverage import Coverage, measure_coverage, merge, true_win_rate
from drawbench.stats.power import StudyPlan

SEED = 20_261_203
CHUNK = 500
TIE_THRESHOLD = 0.3
CATEGORY_SD = 0.4
FAR_LEAD = 0.25
MODELS = ("equal", "80 % power", "far apart", "80 % wins", "95 % wins", "99 % wins")
WIN_RATES = {"80 % wins": 0.8, "95 % wins": 0.95, "99 % wins": 0.99}
EFFECTS = {
    "none": (0.0, 0.0),
    "weak raters": (0.3, 0.0),
    "weak prompts": (0.0, 0.3),
    "weak both": (0.3, 0.3),
    "strong raters": (1.0, 0.0),
    "strong prompts": (0.0, 1.0),
    "strong both": (1.0, 1.0),
    "very strong raters": (2.0, 0.0),
    "very strong prompts": (0.0, 2.0),
    "very strong both": (2.0, 2.0),
}
LARGEST_LEAD = 30.0
GOAL_OVERALL = 0.93  # at least, with effects up to a standard deviation of 1
GOAL_CATEGORY = 0.92
GOAL_VERY_STRONG = 0.90  # overall and by category, with a standard deviation of 2
GOAL_MOST = 0.99  # at most, with effects, where no model wins more than 80 %
GOAL_MOST_OVERALL = 0.97  # at most, for models that don't win 80 %
GOAL_REJECTED = (0.03, 0.07)
GOAL_POWER = 0.05  # largest difference of planned and simulated power
GOAL_WIDTH = 0.05  # largest relative difference of half-widths
HEAD = (
    "| models | effects | overall | mean of categories | by category | naive overall | "
    "naive by category | called different (planned) | half-width in points (planned) | goals |",
    "|---|---|---|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Setting:
    """The simulation of one row of the table."""

    number: int
    models: str
    effects: str

    @cached_property
    def panel(self) -> SimulatedPanel:
        """Its raters."""
        equal = self._panel(0.0, {})
        if self.models == "equal":
            return equal
        if self.models == "far apart":
            draws = np.random.default_rng(SEED).normal(0, CATEGORY_SD, len(DRAWBENCH_SIZES))
            effects = dict(zip(DRAWBENCH_SIZES, map(float, draws - draws.mean()), strict=True))
            return self._panel(FAR_LEAD, effects)
        win_rate = WIN_RATES.get(self.models)
        if win_rate is None:
            difference = _plan(equal).detectable_difference()
            assert difference is not None
            win_rate = 0.5 + difference
        lead = brentq(lambda lead: true_win_rate(equal, lead) - win_rate, 0, LARGEST_LEAD)
        return self._panel(float(lead), {})

    @property
    def very_strong(self) -> bool:
        """Whether effects have a standard deviation of 2."""
        return max(EFFECTS[self.effects]) > 1

    @property
    def is_planned(self) -> bool:
        """Whether the plan, which is for similar models, has goals here."""
        return self.models not in WIN_RATES and not self.very_strong

    @cached_property
    def plan(self) -> StudyPlan:
        """The plan with known correlations."""
        return _plan(self._panel(0.0, {}))

    def _panel(self, lead: float, category_effects: dict[str, float]) -> SimulatedPanel:
        rater_sd, prompt_sd = EFFECTS[self.effects]
        return SimulatedPanel(
            strengths={"A": lead, "B": 0.0},
            category_effects=category_effects,
            rater_sd=rater_sd,
            prompt_sd=prompt_sd,
            tie_threshold=TIE_THRESHOLD,
        )


def main() -> None:
    """Simulate missing studies, then print the table and the goals that are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=5000, help="studies per setting")
    parser.add_argument("--rows", type=Path, default=Path("coverage_drawbench.jsonl"))
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time limit")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    done = _read(arguments.rows)
    for setting, chunk in _chunks(arguments.studies):
        if (setting.number, chunk) in done:
            continue
        if time.monotonic() > end:
            sys.exit(f"{arguments.rows} has {len(done)} rows of {CHUNK} studies. Run it again.")
        found = measure_coverage(setting.panel, studies=CHUNK, seed=(SEED, setting.number, chunk))
        _append(arguments.rows, setting.number, chunk, found)
        done[setting.number, chunk] = found
    sys.exit(_print_table(done, arguments.studies))


def _settings() -> list[Setting]:
    pairs = [(models, effects) for models in MODELS for effects in EFFECTS]
    return [Setting(number, *pair) for number, pair in enumerate(pairs)]


def _num_chunks(studies: int) -> int:
    return -(-studies // CHUNK)


def _chunks(studies: int) -> Iterator[tuple[Setting, int]]:
    """Yield every setting's first chunk, then its second: an early stop leaves a full table."""
    settings = _settings()
    for chunk in range(_num_chunks(studies)):
        for setting in settings:
            yield setting, chunk


def _read(path: Path) -> dict[tuple[int, int], Coverage]:
    """Read rows by setting and chunk, without an incomplete last line."""
    done = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        place = row.pop("setting"), row.pop("chunk")
        done[place] = Coverage(**row)
    return done


def _append(path: Path, setting: int, chunk: int, found: Coverage) -> None:
    row = {"setting": setting, "chunk": chunk, **asdict(found)}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _print_table(done: dict[tuple[int, int], Coverage], studies: int) -> int:
    """Print the table in Markdown; 0 if all goals are met, else 1."""
    chunks, missed = range(_num_chunks(studies)), 0
    print(f"{CHUNK * len(chunks)} studies per setting, seed {SEED}\n", *HEAD, sep="\n")
    for setting in _settings():
        found = merge([done[setting.number, chunk] for chunk in chunks])
        misses = _misses(setting, found)
        missed += len(misses)
        planned = "" if setting.models in WIN_RATES else f" ({_power(setting, found):.3f})"
        width = "" if setting.models in WIN_RATES else f" ({100 * setting.plan.half_width():.2f})"
        print(
            f"| {setting.models} | {setting.effects} | {found.overall:.3f} "
            f"| {found.category_mean:.3f} | {_range(found.by_category.values())} "
            f"| {found.naive:.3f} | {_range(found.naive_by_category.values())} "
            f"| {found.rejected:.3f}{planned} "
            f"| {100 * found.mean_half_width:.2f}{width} "
            f"| {'; '.join(misses) or 'met'} |"
        )
    print("\nall goals met" if not missed else f"\n{missed} goals missed, see the last column")
    return int(missed > 0)


def _misses(setting: Setting, found: Coverage) -> list[str]:
    shares = {"overall": found.overall, "mean": found.category_mean, **found.by_category}
    misses = [
        f"{name} {share:.3f}"
        for name, share in shares.items()
        if not _in(share, _goal(setting, overall=name in ("overall", "mean")))
    ]
    if not setting.is_planned:
        return misses
    power = _power(setting, found)
    if setting.models == "equal" and not _in(found.rejected, GOAL_REJECTED):
        misses.append("called different")
    if abs(power - found.rejected) > GOAL_POWER:
        misses.append("planned power")
    width = found.mean_half_width / setting.plan.half_width()
    if setting.models != "far apart" and abs(width - 1) > GOAL_WIDTH:
        misses.append("planned half-width")
    return misses


def _power(setting: Setting, found: Coverage) -> float:
    return setting.plan.power(found.true_win_rate - 0.5)


def _goal(setting: Setting, *, overall: bool) -> tuple[float, float]:
    """Return the range of the coverage."""
    least = GOAL_OVERALL if overall else GOAL_CATEGORY
    if setting.very_strong:
        least = GOAL_VERY_STRONG
    most = 1.0
    if overall and setting.is_planned:
        most = GOAL_MOST_OVERALL
    elif setting.effects != "none" and WIN_RATES.get(setting.models, 0.5) <= 0.8:
        most = GOAL_MOST
    return least, most


def _plan(panel: SimulatedPanel) -> StudyPlan:
    rater, prompt = vote_correlations(panel)
    return StudyPlan(
        category_sizes=tuple(DRAWBENCH_SIZES.values()),
        raters_per_category=DRAWBENCH_RATERS,
        rater_correlation=rater,
        prompt_correlation=prompt,
        tie_share=panel.shares("A", "A").tie,
    )


def _in(share: float, goal: tuple[float, float]) -> bool:
    return goal[0] <= share <= goal[1]


def _range(shares: Iterable[float]) -> str:
    values = list(shares)
    return f"{min(values):.3f}-{max(values):.3f}"


if __name__ == "__main__":
    main()
