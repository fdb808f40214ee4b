"""What looking early costs: the plan's figures beside simulated studies on DrawBench's layout.

    python -m benchmarks.study.looks --studies 2000

Equal models, five looks after equal shares of the raters; how often some look calls them different.
The seed was fixed before the first run.

Plans take a look's standard error for known. It is estimated from few raters at the first looks,
and that the estimate varies is not in the plan; so the simulated share may be a little larger.
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
    """Print the table in Markdown; fail where a figure leaves the 99.9 % band of the plan's."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each setting and boundary")
    studies = parser.parse_args().studies
    print(f"{studies} studies a row, {LOOKS} looks, seed {SEED}\n")
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
