"""Do the intervals of win rates hold what they promise, on DrawBench's layout?

Simulates whole studies (11 categories, 200 prompts, 25 raters a category) with no, weak and strong
effects of raters and of prompts, with equal and with unequal models, and counts how often the 95 %
intervals hold the true win rate. Beside them stand the naive interval and the plan's prediction.

    python benchmarks/coverage_drawbench.py --studies 2000 --json coverage.json

The seed is fixed here and was fixed before the first run.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.progress import Progress

from drawbench.simulate import DRAWBENCH_RATERS, DRAWBENCH_SIZES, SimulatedPanel, vote_correlations
from drawbench.stats.coverage import Coverage, measure_coverage
from drawbench.stats.power import StudyPlan

SEED = 20_221_207
TIE_THRESHOLD = 0.3
CATEGORY_SD = 0.4
EFFECTS = {
    "no effects": (0.0, 0.0),
    "weak raters": (0.3, 0.0),
    "weak prompts": (0.0, 0.3),
    "weak both": (0.3, 0.3),
    "strong raters": (1.0, 0.0),
    "strong prompts": (0.0, 1.0),
    "strong both": (1.0, 1.0),
}
LEADS = {"equal models": 0.0, "unequal models": 0.25}
GOAL_OVERALL = (0.93, 0.97)
GOAL_CATEGORY = (0.92, 0.99)
GOAL_REJECTED = (0.03, 0.07)


def main() -> None:
    """Run every setting and say which goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows, all_met = [], True
    print(f"{arguments.studies} studies a setting, seed {SEED}")
    print(f"{'models':15}{'effects':16}{'overall':>8}{'mean':>7}{'naive':>7}{'by category':>15}"
          f"{'not 1/2':>9}{'planned':>9}{'+-':>7}{'planned':>9}  goals")  # fmt: skip
    with Progress(transient=True) as bar:
        for lead_name, lead in LEADS.items():
            for effect_name, sds in EFFECTS.items():
                task = bar.add_task(f"{lead_name}, {effect_name}", total=arguments.studies)
                panel = _panel(lead, *sds)
                found = measure_coverage(
                    panel,
                    studies=arguments.studies,
                    seed=SEED,
                    progress=lambda done, total, task=task: bar.update(task, completed=done),
                )
                bar.remove_task(task)
                plan = _plan(panel)
                planned_power = plan.power(found.true_win_rate - 0.5)
                met = _goals(found, equal=lead == 0)
                all_met &= met
                low, high = min(found.by_category.values()), max(found.by_category.values())
                bar.console.print(
                    f"{lead_name:15}{effect_name:16}{found.overall:8.3f}{found.category_mean:7.3f}"
                    f"{found.naive:7.3f}{low:8.3f}-{high:.3f} {found.rejected:8.3f}"
                    f"{planned_power:9.3f}{found.mean_half_width:7.3f}{plan.half_width():9.3f}  "
                    f"{'met' if met else 'MISSED'}",
                    highlight=False,
                    soft_wrap=True,
                )
                rows.append({
                    "models": lead_name, "effects": effect_name, **asdict(found),
                    "planned_power": planned_power, "planned_half_width": plan.half_width(),
                    "goals_met": met,
                })  # fmt: skip
    if arguments.json:
        document = {"seed": SEED, "settings": rows}
        arguments.json.write_text(json.dumps(document, indent=2) + "\n")
    print("all goals met" if all_met else "goals missed, see above")


def _panel(lead: float, rater_sd: float, prompt_sd: float) -> SimulatedPanel:
    """Equal models are equal in every category; unequal ones lead by different amounts."""
    draws = np.random.default_rng(SEED).normal(0, CATEGORY_SD, len(DRAWBENCH_SIZES))
    effects = dict(zip(DRAWBENCH_SIZES, map(float, draws - draws.mean()), strict=True))
    return SimulatedPanel(
        strengths={"A": lead, "B": 0.0},
        category_effects=effects if lead else {},
        rater_sd=rater_sd,
        prompt_sd=prompt_sd,
        tie_threshold=TIE_THRESHOLD,
    )


def _plan(panel: SimulatedPanel) -> StudyPlan:
    """What would have been planned, had the correlations been known."""
    rater, prompt = vote_correlations(panel)
    return StudyPlan(
        category_sizes=tuple(DRAWBENCH_SIZES.values()),
        raters_per_category=DRAWBENCH_RATERS,
        rater_correlation=rater,
        prompt_correlation=prompt,
        tie_share=panel.shares("A", "A").tie,
    )


def _goals(found: Coverage, *, equal: bool) -> bool:
    inside = [_in(found.overall, GOAL_OVERALL), _in(found.category_mean, GOAL_OVERALL)]
    inside += [_in(share, GOAL_CATEGORY) for share in found.by_category.values()]
    if equal:
        inside.append(_in(found.rejected, GOAL_REJECTED))
    return all(inside)


def _in(share: float, goal: tuple[float, float]) -> bool:
    return goal[0] <= share <= goal[1]


if __name__ == "__main__":
    main()
