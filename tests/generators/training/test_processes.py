"""Several processes, or several parts of a batch, train what one does, up to the order of sums."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evalkit.commands.train import shapes_training_set
from evalkit.core.errors import ConfigError
from generators.errors import DivergedError
from generators.recipes.recipe import Recipe, load_recipe
from generators.training import loop
from generators.training.data import TrainingSet
from generators.training.log import LOG, forget_rows_after, read_log
from generators.training.loop import Progress, train
from generators.training.prefetch import drawn_ahead
from generators.training.processes import check_launch, check_split, num_processes

STEPS = 4
NUM_IMAGES = 32
SUMS = 2e-3
"""Largest difference that another order of float32 sums makes in weights after `STEPS` steps, as a
share of the largest change of a weight: Adam divides small gradients by themselves."""


def small(name: str = "glide-tiny-base", *, steps: int = STEPS, **changes: object) -> Recipe:
    recipe = load_recipe(name, steps=steps)
    smaller = {"batch_size": 8, "warmup_steps": 1, "precision": "no", **changes}
    data = recipe.data.model_copy(update={"num_images": NUM_IMAGES, "kinds": {}})
    optimizer = recipe.optimizer.model_copy(update=smaller)
    changed = {"optimizer": optimizer, "data": data, "stored_as": "fp16", "start_from": None}
    return recipe.model_copy(update=changed)


def written(recipe: Recipe, path: Path) -> Path:
    told = recipe.model_dump(exclude_none=True)
    told["data"].pop("kinds")
    tables = {key: value for key, value in told.items() if isinstance(value, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in told.items() if k not in tables]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    return shapes_training_set(seed=small().data.seed, num_images=NUM_IMAGES)


@pytest.fixture(scope="module")
def alone(data: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training in one process, whose batches are whole."""
    out = tmp_path_factory.mktemp("alone")
    train(small(), data, out, cpu=True)
    return out


def weights(folder: Path, part: str = "network.") -> dict[str, torch.Tensor]:
    saved = load_file(folder / "checkpoint.safetensors")
    return {key: value for key, value in saved.items() if key.startswith(part)}


def assert_alike(one: Path, other: Path, data: TrainingSet, tmp_path: Path) -> None:
    """Compare two trainings, on the scale of what training changes at all."""
    begun = tmp_path / "begun"
    train(small(steps=1, learning_rate=1e-12), data, begun, cpu=True)
    start, first, second = weights(begun), weights(one), weights(other)
    moved = max(float((first[key] - start[key]).abs().max()) for key in start)
    apart = max(float((first[key] - second[key]).abs().max()) for key in start)
    assert moved > 1e-3
    assert apart < SUMS * moved


@pytest.mark.parametrize("accumulate", [2, 4])
def test_parts_of_a_batch_add_up(
    accumulate: int, alone: Path, data: TrainingSet, tmp_path: Path
) -> None:
    train(small(), data, tmp_path / "parts", cpu=True, accumulate=accumulate)
    assert_alike(alone, tmp_path / "parts", data, tmp_path)
    whole, parts = read_log(alone)[-1], read_log(tmp_path / "parts")[-1]
    assert parts.loss == pytest.approx(whole.loss, rel=1e-4)


def test_two_processes_train_what_one_does(
    alone: Path, data: TrainingSet, root: Path, tmp_path: Path
) -> None:
    """Each takes half of every batch; one speaks and writes, and the log has both losses."""
    recipe = written(small(), tmp_path / "two.toml")
    launched = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "evalkit.cli"]
    out = tmp_path / "together"
    done = subprocess.run(
        [sys.executable, *launched, "train", str(recipe), "--cpu", "--out", str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Trained weights") == 1
    assert_alike(alone, out, data, tmp_path)
    (whole,), (both,) = read_log(alone), read_log(out)
    assert both.step == whole.step == STEPS
    assert both.loss == pytest.approx(whole.loss, rel=1e-4)


def test_a_launch_that_promises_two_processes_and_starts_one_is_refused(
    root: Path, tmp_path: Path
) -> None:
    recipe = written(small(), tmp_path / "two.toml")
    words = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu", "-m"]
    done = subprocess.run(
        [sys.executable, *words, "evalkit.cli", "train", str(recipe), "--out", str(tmp_path / "o")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "asked for several processes and started one" in done.stderr
    assert "torchrun --nproc-per-node N" in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"ACCELERATE_MIXED_PRECISION": "no"},
        {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500", "WORLD_SIZE": "2"},
        {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_PORT": "29500", "PMI_SIZE": "2"},
        {"MASTER_PORT": "29500", "WORLD_SIZE": "1"},
    ],
)
def test_other_launches_are_let_through(environment: dict[str, str]) -> None:
    check_launch(environment)


def test_the_launcher_says_how_many_processes_there_are() -> None:
    assert num_processes({}) == 1
    assert num_processes({"WORLD_SIZE": "4"}) == 4


@pytest.mark.parametrize("name", ["clip-tiny", "clip-tiny-noised", "dalle-tiny-dvae-first"])
def test_losses_that_compare_images_need_the_whole_batch(name: str) -> None:
    check_split(small(name), 1, 1)
    for processes, accumulate in ((2, 1), (1, 2)):
        with pytest.raises(ConfigError, match="compares the images"):
            check_split(small(name), processes, accumulate)


def test_a_batch_that_can_not_be_split_is_refused() -> None:
    check_split(small(), 2, 4)
    with pytest.raises(ConfigError, match="3 processes in 1 parts"):
        check_split(small(), 3, 1)


def test_no_row_of_the_log_is_repeated_after_a_kill(
    data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at step 5 with a checkpoint of step 3: the rows of steps 4 and 5 come once."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    recipe = small("clip-tiny", steps=6)
    train(recipe, data, tmp_path / "whole", cpu=True)
    kept = loop.save_checkpoint
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(
        loop,
        "save_checkpoint",
        lambda path, state, *, step, seconds: (
            kept(path, state, step=step, seconds=seconds) if step in (3, 6) else None
        ),
    )

    class Killed(Exception):
        pass

    def die(progress: Progress) -> None:
        if progress.step == 5:
            raise Killed

    out = tmp_path / "cut"
    with pytest.raises(Killed):
        train(recipe, data, out, cpu=True, report=die)
    assert [row.step for row in read_log(out)] == [1, 2, 3, 4, 5]
    with (out / LOG).open("a") as log:
        log.write("6,0.1")  # a row cut short
    train(recipe, data, out, cpu=True)
    rows = [(r.step, r.loss, r.learning_rate) for r in read_log(out)]
    assert rows == [(r.step, r.loss, r.learning_rate) for r in read_log(tmp_path / "whole")]
    assert [step for step, *_ in rows] == [1, 2, 3, 4, 5, 6]
    forget_rows_after(out, 0)
    assert read_log(out) == []


def test_the_loss_is_read_at_logged_steps_only_where_reading_waits(
    data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU is simulated: the loop believes that there is one, and counts what it reads."""
    read: list[int] = []
    real = loop._Run.read

    def counted(self: loop._Run, loss: torch.Tensor, step: int, *, of_all: bool) -> float:
        read.append(step + 1)
        return real(self, loss, step, of_all=of_all)

    monkeypatch.setattr(loop._Run, "read", counted)
    monkeypatch.setattr(loop, "LOG_EVERY", 4)
    recipe = small("clip-tiny", steps=9)
    train(recipe, data, tmp_path / "cpu", cpu=True)
    assert read == [*range(1, 10)], "nothing waits on a CPU"
    read.clear()
    monkeypatch.setattr(loop, "_waits", lambda device: True)
    train(recipe, data, tmp_path / "gpu", cpu=True)
    assert read == [1, 4, 8, 9]


def test_a_loss_that_is_no_number_ends_the_training_before_it_is_kept(
    data: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_waits", lambda device: True)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 0.0)
    recipe = small("clip-tiny", steps=9, learning_rate=1e9, gradient_clip=1e9)
    with pytest.raises(DivergedError, match=r"Lower optimizer\.learning_rate"):
        train(recipe, data, tmp_path, cpu=True)
    assert not (tmp_path / "weights.safetensors").exists()
    rows = read_log(tmp_path) if (tmp_path / LOG).is_file() else []
    assert all(math.isfinite(row.loss) for row in rows)


def test_what_is_drawn_ahead_comes_in_order_and_so_do_its_errors() -> None:
    def double(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return 2 * number

    taken: list[int] = []

    def counted() -> object:
        for number in range(9):
            taken.append(number)
            yield number

    with drawn_ahead(double, counted(), ahead=2, threads=3) as items:
        assert [next(items) for _ in range(5)] == [0, 2, 4, 6, 8]
        assert len(taken) <= 8, "no further ahead than asked"
        with pytest.raises(ValueError, match="five"):
            next(items)
