"""The training loop: one for all networks, on one process or several (through accelerate).

A run folder of training holds `recipe.json`, `checkpoint.safetensors`, `log.csv`, `samples/` if it
is looked at, and, when it is done, `weights.safetensors` (the moving average, as fp16 or int8).
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evalkit.core.errors import ConfigError
from evalkit.core.files import writing
from evalkit.core.interrupts import Terminated
from evalkit.core.registry import require, resolve
from evalkit.core.results import write_atomically
from evalkit.core.run import config_hash
from generators.errors import DivergedError
from generators.recipes.recipe import Recipe
from generators.training.checkpoint import (
    TrainingState,
    export_weights,
    load_checkpoint,
    save_checkpoint,
)
from generators.training.data import (
    IMAGE_PX,
    SHAPES_INPUTS,
    Batch,
    Inputs,
    TrainingData,
    draw_batch,
)
from generators.training.draws import Draws
from generators.training.ema import MovingAverage
from generators.training.log import LogRow, append_row, forget_rows_after
from generators.training.looks import (
    NUM_SAMPLES,
    Looks,
    Sampling,
    fixed_batch,
    looking_at,
    loss_sum,
    write_samples,
)
from generators.training.networks import NETWORKS
from generators.training.prefetch import drawn_ahead
from generators.training.processes import check_split
from generators.training.starts import WEIGHTS, begin_with, frozen_parameters

CHECKPOINT_EVERY_S = 120.0
LOG_EVERY = 20
"""Steps between two rows of the log; on a GPU the loss is read at no others."""
MOST_THREADS = 4
"""Threads that draw and decode batches ahead."""
START = "start.json"
"""Where a run records the weights that it started from."""


@dataclass(frozen=True)
class Progress:
    """The state of a training run after a step."""

    step: int
    steps: int
    loss: float
    """The last one that was read."""
    steps_per_s: float
    validation_loss: float | None = None
    """If it was measured after this step."""


def train(
    recipe: Recipe,
    data: TrainingData,
    out: Path,
    *,
    cpu: bool = False,
    start: Path | None = None,
    trainee: nn.Module | None = None,
    inputs: Inputs = SHAPES_INPUTS,
    looks: Looks | None = None,
    accumulate: int = 1,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train a network to the end of its recipe, resuming from the checkpoint in `out`.

    Args:
        recipe: What to train and how.
        data: Captioned images.
        out: Folder of the checkpoint, the log and the finished weights.
        cpu: Train on the CPU even where there is a GPU.
        start: Weights to start from, where the recipe starts from another recipe's or a model's;
            default: those that the other recipe left beside `out`, or the shipped ones.
        trainee: What `build_trainee` returned for the recipe; None: it is built.
        inputs: What the data decide about the network's inputs.
        looks: When the validation loss and samples are made; None: never.
        accumulate: Parts of a process's batch whose gradients are added up, to save memory; the
            weights change by no more than the order of sums does.
        report: Called after each step.

    Returns:
        The file of the finished weights.

    Raises:
        ConfigError: The batch cannot be split among the processes, or the recipe does not fit.
        DataError: An image can't be decoded.
        DivergedError: The loss is no longer a number.
        WeightsError: `out` holds a checkpoint of another recipe.
        MissingWeightsError: The weights that the recipe starts from do not exist.
    """
    accelerate = require("accelerate", extra="train", what="training")
    gpu = torch.cuda.is_available() and not cpu
    settings = recipe.optimizer
    precision = settings.precision_gpu if gpu else settings.precision
    accelerator = accelerate.Accelerator(mixed_precision=precision, cpu=not gpu)
    check_split(recipe, accelerator.num_processes, accumulate)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    recipe_dict = recipe.model_dump()
    if accelerator.is_main_process:
        write_atomically(out / "recipe.json", json.dumps(recipe_dict, indent=2).encode())

    trainee = build_trainee(recipe, inputs) if trainee is None else trainee
    prepare: Callable[[TrainingData], None] = getattr(trainee, "prepare", lambda data: None)
    prepare(data)
    network: nn.Module = trainee.get_submodule("network")
    checkpoint = out / "checkpoint.safetensors"
    if not checkpoint.exists():
        began = begin_with(network, recipe, start, out, inputs)
        begin: Callable[[], None] = getattr(trainee, "begin", lambda: None)
        begin()
        if began is not None and accelerator.is_main_process:
            write_atomically(out / START, json.dumps(began, indent=2).encode())
    frozen = frozen_parameters(network, recipe)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and name not in frozen)
    trainee.to(accelerator.device).to(memory_format=torch.channels_last)
    ema = MovingAverage(network, settings.ema_decay)
    optimizer = torch.optim.AdamW(
        [parameter for parameter in network.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
    )
    state = TrainingState(config_hash(recipe_dict), network, ema, optimizer)
    done, seconds = 0, 0.0
    if checkpoint.exists():
        done, seconds = load_checkpoint(checkpoint, state)
    if accelerator.is_main_process:
        forget_rows_after(out, done)
    wrapped, optimizer = accelerator.prepare(trainee, optimizer)
    run = _Run(accelerator, recipe, trainee, wrapped, optimizer, accumulate)

    def keep(step: int) -> None:
        if accelerator.is_main_process:
            save_checkpoint(checkpoint, state, step=step, seconds=seconds + clock())

    started = last_kept = time.monotonic()

    def clock() -> float:
        return time.monotonic() - started

    def batch_of(place: tuple[int, int]) -> Batch:
        batch = draw_batch(
            data,
            seed=recipe.seed,
            step=place[0],
            batch_size=settings.batch_size,
            part=accelerator.process_index * accumulate + place[1],
            num_parts=accelerator.num_processes * accumulate,
        )
        return batch.pinned() if gpu else batch

    places = ((step, part) for step in range(done, settings.steps) for part in range(accumulate))
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    last_read = math.nan
    with (
        drawn_ahead(batch_of, places, ahead=threads, threads=threads) as batches,
        _deferred_interrupts() as interrupted,
    ):
        for step in range(done, settings.steps):
            loss = run.step(batches, step)
            ema.update(network)
            ended = step + 1
            looked = looks is not None and looks.due(ended, settings.steps)
            logged = looked or ended % LOG_EVERY == 0 or ended == settings.steps
            if logged or step == done or not _waits(accelerator.device):
                last_read = run.read(loss, step, of_all=logged)
            measured = run.look(looks, ema.network, data, out, ended) if looks and looked else None
            if logged and accelerator.is_main_process:
                rate = learning_rate(recipe, step)
                append_row(out, LogRow(ended, last_read, rate, measured, seconds + clock()))
            if accelerator.is_main_process:
                per_s = (ended - done) / max(clock(), 1e-9)
                report(Progress(ended, settings.steps, last_read, per_s, measured))
            stopped = interrupted()
            if stopped or time.monotonic() - last_kept > CHECKPOINT_EVERY_S:
                run.read(loss, step, of_all=False)  # NaN is not kept
                keep(ended)
                last_kept = time.monotonic()
            if stopped:
                raise stopped
    keep(settings.steps)
    weights = out / WEIGHTS
    if accelerator.is_main_process:
        exported: Callable[[nn.Module], nn.Module] = getattr(trainee, "exported", lambda n: n)
        export_weights(
            weights,
            exported(ema.network),
            _metadata(recipe_dict, trainee, inputs, out),
            stored_as=recipe.stored_as,
        )
    return weights


@dataclass(frozen=True)
class _Run:
    """The parts of a training that its steps use."""

    accelerator: Any
    recipe: Recipe
    trainee: nn.Module
    wrapped: nn.Module
    """The trainee, among several processes with its gradients averaged."""
    optimizer: torch.optim.Optimizer
    accumulate: int

    def step(self, batches: Iterator[Batch], step: int) -> Tensor:
        """Do one step; return the mean loss of this process's images, not yet read."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, step)
        self.wrapped.train()
        total: Tensor | None = None
        for part in range(self.accumulate):
            batch = next(batches)
            waits = part + 1 < self.accumulate
            device = self.accelerator.device
            gpus = [device] if device.type == "cuda" else []
            with (
                torch.random.fork_rng(devices=gpus, enabled=self._drops),
                self.accelerator.no_sync(self.wrapped) if waits else nullcontext(),
                _attention(device),
            ):
                if self._drops:  # dropout takes torch's own generators, which are put back
                    torch.manual_seed(self._seed(step, part))
                with self.accelerator.autocast():
                    loss: Tensor = self.wrapped(batch.to(self.accelerator.device)) / self.accumulate
                self.accelerator.backward(loss)
            total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        clip = self.recipe.optimizer.gradient_clip
        self.accelerator.clip_grad_norm_(self.wrapped.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return total

    def read(self, loss: Tensor, step: int, *, of_all: bool) -> float:
        """Return a loss as a number, which waits for the device.

        Args:
            loss: Of this process.
            step: Its step.
            of_all: Average over all processes, each of which must call this.

        Raises:
            DivergedError: It is not finite.
        """
        value = float(self.accelerator.reduce(loss, "mean") if of_all else loss)
        if not math.isfinite(value):
            rate = self.recipe.optimizer.learning_rate
            raise DivergedError(
                f"The loss of {self.recipe.name} became {value} by step {step}. Lower "
                f"optimizer.learning_rate ({rate:g}) in the recipe, and train in another --out."
            )
        return value

    def look(
        self, looks: Looks, network: nn.Module, data: TrainingData, out: Path, step: int
    ) -> float | None:
        """Return the validation loss of the moving average, and write its samples.

        Returns:
            The mean loss over the images held out; None: none are.
        """
        device, main = self.accelerator.device, self.accelerator.is_main_process
        sample: Sampling | None = getattr(self.trainee, "samples", None)
        found: float | None = None
        with (
            looking_at(self.trainee, network) as trainee,
            self.accelerator.autocast(),
            _attention(device),
        ):
            if looks.held_out is not None:
                total = loss_sum(
                    trainee,
                    looks.held_out,
                    seed=self.recipe.seed,
                    step=step,
                    batch_size=self.recipe.optimizer.batch_size,
                    device=device,
                    part=self.accelerator.process_index,
                    num_parts=self.accelerator.num_processes,
                )
                summed, count = self.accelerator.reduce(total, "sum").tolist()
                found = summed / count
            if sample is not None and main:
                shown = data if looks.held_out is None else looks.held_out
                rows = range(min(NUM_SAMPLES, len(shown)))
                batch = fixed_batch(shown, rows, seed=self.recipe.seed, step=step, device=device)
                write_samples(sample, network, batch, out, step)
        return found

    @cached_property
    def _drops(self) -> bool:
        """Whether the network drops units at random, from torch's own generator."""
        return any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.trainee.modules())

    def _seed(self, step: int, part: int) -> int:
        """Return the seed of a step's dropout, so that a resumed training drops the same units."""
        place = self.accelerator.process_index * self.accumulate + part
        return int(np.random.SeedSequence((self.recipe.seed, 2, step, place)).generate_state(1)[0])


def build_trainee(recipe: Recipe, inputs: Inputs = SHAPES_INPUTS) -> nn.Module:
    """Build what a recipe trains, with its initial weights, and try it on two blank images.

    So a recipe whose sizes don't fit together is an error before any data is drawn.

    Raises:
        ConfigError: A setting is unknown, or the sizes don't fit together.
        MissingWeightsError: A frozen network that the training reads is missing.
        UnknownNameError: No such network.
    """
    # Another package's network takes `inputs` only if it is trained on own data.
    plain = inputs.tokenizer is None and inputs.image_px == IMAGE_PX
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        build = resolve(recipe.network, NETWORKS, kind="networks")
        more = () if plain else (inputs,)
        trainee: nn.Module = build(recipe.model, recipe.objective, *more)
        try:
            with torch.no_grad():
                trainee.eval()(_blank_batch(inputs.image_px))
        except (RuntimeError, IndexError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise ConfigError(
                f"The network of {recipe.name} can't be trained on images of {inputs.image_px} px: "
                f"its sizes don't fit together ({reason}). Change [model] or [objective] in the "
                "recipe."
            ) from error
    return trainee


def _blank_batch(image_px: int) -> Batch:
    return Batch(
        images=torch.zeros(2, 3, image_px, image_px),
        captions=["a red circle", "a blue square"],
        labels=torch.zeros(2, dtype=torch.long),
        step=0,
        draws=Draws.seeded([0, 1]),
    )


def _metadata(
    recipe: Mapping[str, Any], trainee: nn.Module, inputs: Inputs, out: Path
) -> dict[str, str]:
    """Return the recipe, the vocabulary, the starting weights and the frozen networks' hashes."""
    metadata = {"recipe": json.dumps(recipe)}
    if inputs.tokenizer is not None and inputs.tokenizer.stated:
        metadata["vocabulary"] = inputs.tokenizer.stated
    if (out / START).is_file():
        metadata["began_with"] = (out / START).read_text("utf-8")
    if trained_with := getattr(trainee, "trained_with", None):
        metadata["trained_with"] = json.dumps(trained_with)
    return metadata


def learning_rate(recipe: Recipe, step: int) -> float:
    """Warm up linearly, then decay along half a cosine to zero at the last step."""
    settings = recipe.optimizer
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    share = (step - settings.warmup_steps) / max(1, settings.steps - settings.warmup_steps)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def _waits(device: torch.device) -> bool:
    """Return whether reading a number waits for the work that was queued on a device."""
    return device.type != "cpu"


def _attention(device: torch.device) -> AbstractContextManager[None]:
    """Use plain products on a CPU, where the fused attention's backward pass is slower."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


@contextmanager
def _deferred_interrupts() -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Let Ctrl-C and SIGTERM finish the current step, so that the checkpoint is of a whole step.

    Yields:
        A function that returns what to raise after the checkpoint; None: nothing was caught.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    kinds = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
    caught: list[KeyboardInterrupt] = []
    previous = {
        number: signal.signal(number, lambda n, frame: caught.append(kinds[signal.Signals(n)]()))
        for number in kinds
    }
    try:
        yield lambda: caught[0] if caught else None
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
