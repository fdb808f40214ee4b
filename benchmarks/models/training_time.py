"""Training time of GLIDE's and CLIP's tiny recipes: seconds per step times the number of steps.

    OMP_NUM_THREADS=1 python -m benchmarks.models.training_time [--recipes NAME,NAME] [--steps 60]

Each recipe runs a few dozen steps as in `evalkit train`, on one thread; the first ones, which
allocate memory, don't count. On two cores two recipes train at a time, so all of them take half of
the sum, or as long as the longest. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import torch

from evalkit.commands.train import shapes_training_set
from generators.recipes.recipe import load_recipe
from generators.training.data import TrainingSet
from generators.training.log import read_log
from generators.training.loop import LOG_EVERY, train

RECIPES = ("glide-tiny-base", "glide-tiny-upsampler", "clip-tiny", "clip-tiny-judge")
NUM_IMAGES = 256


def main() -> None:
    """Print a row for each recipe, and the sum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--steps", type=int, default=3 * LOG_EVERY)
    options = parser.parse_args()
    data = shapes_training_set(0, NUM_IMAGES)
    # accelerate keeps one precision per process, so each recipe gets its own process.
    processes = multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1)
    print("| recipe | steps x batch | seconds per step | minutes on one core |\n|---|---|---|---|")
    all_minutes = []
    for name in options.recipes.split(","):
        optimizer = load_recipe(name).optimizer
        taken = processes.apply(seconds_a_step, (name, data, options.steps))
        minutes = taken * optimizer.steps / 60
        all_minutes.append(minutes)
        size = f"{optimizer.steps:,} x {optimizer.batch_size}"
        print(f"| `{name}` | {size} | {taken:.3f} | {minutes:.1f} |", flush=True)
    total = sum(all_minutes)
    on_two = max(total / 2, *all_minutes)
    print(f"\n{total:.0f} minutes on one core, at least {on_two:.0f} on two")


def seconds_a_step(name: str, data: TrainingSet, steps: int) -> float:
    """Measure a recipe's seconds per step, without its first `LOG_EVERY` steps."""
    torch.set_num_threads(1)
    recipe = load_recipe(name, steps=steps)
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, data, Path(folder), cpu=True)
        first, *_, last = read_log(Path(folder))
    return (last.seconds - first.seconds) / (last.step - first.step)


if __name__ == "__main__":
    main()
