"""False positives of interim looks: planned and simulated, on DrawBench's layout.

    python -m benchmarks.study.looks --studies 2000

Equal models and five looks after equal shares of the raters: how often does any look call them
different? The seed was fixed before the first run.

Plans treat a look's standard error as known. The first looks estimate it from few raters, and plans
ignore the noise of that estimate, so the simulated share may be slightly larger.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.study.coverage import EFFECTS, Setting
from drawbench.stats.coverage import binomial_band, measure_looks
from drawbench.stats.power import Boundary, plan_looks

SEED = 19_770_601
LOOKS = 5
SETTINGS = ("none", "weak both", "strong both")
BOUNDARIES: tuple[Boundary, ...] = ("none", "pocock", "obrien-fleming")


def main() -> None:
    """Print the table in Markdown; fail if a share is outside the plan's 99.9 % band."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="studies per row")
    studies = parser.parse_args().studies
    print(f"{studies} studies per row, {LOOKS} looks, seed {SEED}\n")
    print("| effects | boundary | planned | simulated | |", "|---|---|---|---|---|", sep="\n")
    missed = 0
    for effects in SETTINGS:
        setting = Setting(list(EFFECTS).index(effects), "equal", effects)
        for number, boundary in enumerate(BOUNDARIES):
            plan = plan_looks(setting.plan, LOOKS, boundary=boundary)
            found = measure_looks(
                setting.panel,
                plan.critical_values,
                studies=studies,
                seed=(SEED, setting.number, number),
            )
            low, high = binomial_band(plan.false_positive_rate, studies)
            missed += not low <= found <= high
            verdict = "agrees" if low <= found <= high else "DIFFERS"
            planned = plan.false_positive_rate
            print(f"| {effects} | {boundary} | {planned:.3f} | {found:.3f} | {verdict} |")
    sys.exit(int(missed > 0))


if __name__ == "__main__":
    main()
