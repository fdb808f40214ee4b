"""The training loop: one for all networks, on one process or several (through accelerate).

A run folder of training holds `recipe.json`, `checkpoint.safetensors`, `log.jsonl` and, when it is
done, `weights.safetensors` (the moving average, as fp16 or int8).
"""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
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
from generators.training.data import IMAGE_PX, Batch, TrainingSet, draw_batch
from generators.training.ema import MovingAverage
from generators.training.networks import NETWORKS
from generators.weights.state_dicts import check_state_dict, file_sha256
from generators.weights.zoo import ZOO, trained_state

CHECKPOINT_EVERY_S = 120.0
LOG_EVERY = 20
WEIGHTS = "weights.safetensors"
"""The finished weights in the folder of a run."""
START = "start.json"
"""Where a run records the weights that it started from."""


@dataclass(frozen=True)
class Progress:
    """The state of a training run after a step."""

    step: int
    steps: int
    loss: float
    steps_per_s: float


def train(
    recipe: Recipe,
    data: TrainingSet,
    out: Path,
    *,
    cpu: bool = False,
    start: Path | None = None,
    trainee: nn.Module | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Path:
    """Train a network to the end of its recipe, resuming from the checkpoint in `out`.

    Args:
        recipe: What to train and how.
        data: Captioned images.
        out: Folder of the checkpoint, the log and the finished weights.
        cpu: Train on the CPU even where there is a GPU.
        start: Weights to start from, where the recipe starts from another recipe's; default:
            those that the other recipe left beside `out`, or the shipped ones.
        trainee: What `build_trainee` returned for the recipe; None: it is built.
        report: Called after each step.

    Returns:
        The file of the finished weights.

    Raises:
        ConfigError: The batch cannot be split among the processes, or the recipe does not fit.
        DivergedError: The loss is no longer a number.
        WeightsError: `out` holds a checkpoint of another recipe.
        MissingWeightsError: The weights that the recipe starts from do not exist.
    """
    accelerate = require("accelerate", extra="train", what="training")
    gpu = torch.cuda.is_available() and not cpu
    settings = recipe.optimizer
    precision = settings.precision_gpu if gpu else settings.precision
    accelerator = accelerate.Accelerator(mixed_precision=precision, cpu=not gpu)
    if settings.batch_size % accelerator.num_processes:
        raise ConfigError(
            f"A batch of {settings.batch_size} cannot be split among {accelerator.num_processes} "
            "processes. Change optimizer.batch_size."
        )
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    recipe_dict = recipe.model_dump()
    if accelerator.is_main_process:
        write_atomically(out / "recipe.json", json.dumps(recipe_dict, indent=2).encode())

    trainee = build_trainee(recipe) if trainee is None else trainee
    prepare: Callable[[TrainingSet], None] = getattr(trainee, "prepare", lambda data: None)
    prepare(data)
    network: nn.Module = trainee.get_submodule("network")
    checkpoint = out / "checkpoint.safetensors"
    if not checkpoint.exists():
        began = begin_with(network, recipe, start, out)
        if began is not None and accelerator.is_main_process:
            write_atomically(out / START, json.dumps(began, indent=2).encode())
    trainee.to(accelerator.device).to(memory_format=torch.channels_last)
    ema = MovingAverage(network, settings.ema_decay)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=settings.learning_rate,
        betas=(0.9, settings.beta2),
        weight_decay=settings.weight_decay,
    )
    state = TrainingState(config_hash(recipe_dict), network, ema, optimizer)
    done, seconds = 0, 0.0
    if checkpoint.exists():
        done, seconds = load_checkpoint(checkpoint, state)
    wrapped, optimizer = accelerator.prepare(trainee, optimizer)

    def keep(step: int) -> None:
        if accelerator.is_main_process:
            save_checkpoint(checkpoint, state, step=step, seconds=seconds + clock())

    started = last_kept = time.monotonic()

    def clock() -> float:
        return time.monotonic() - started

    with _deferred_interrupts() as interrupted:
        for step in range(done, settings.steps):
            batch = draw_batch(
                data,
                seed=recipe.seed,
                step=step,
                batch_size=settings.batch_size,
                rank=accelerator.process_index,
                world_size=accelerator.num_processes,
            )
            loss = _step(accelerator, wrapped, optimizer, batch, recipe, step)
            ema.update(network)
            rate = (step + 1 - done) / max(clock(), 1e-9)
            if accelerator.is_main_process:
                report(Progress(step + 1, settings.steps, loss, rate))
            if accelerator.is_main_process and (step + 1) % LOG_EVERY == 0:
                _log(out / "log.jsonl", step=step + 1, loss=loss, seconds=seconds + clock())
            if interrupted() or time.monotonic() - last_kept > CHECKPOINT_EVERY_S:
                keep(step + 1)
                last_kept = time.monotonic()
            if stopped := interrupted():
                raise stopped
    keep(settings.steps)
    weights = out / WEIGHTS
    if accelerator.is_main_process:
        exported: Callable[[nn.Module], nn.Module] = getattr(trainee, "exported", lambda n: n)
        export_weights(
            weights,
            exported(ema.network),
            _metadata(recipe_dict, trainee, out),
            stored_as=recipe.stored_as,
        )
    return weights


def build_trainee(recipe: Recipe) -> nn.Module:
    """Build what a recipe trains, with its initial weights, and try it on two blank images.

    So a recipe whose sizes don't fit together is an error before any data is drawn.

    Raises:
        ConfigError: A setting is unknown, or the sizes don't fit together.
        MissingWeightsError: A frozen network that the training reads is missing.
        UnknownNameError: No such network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        build = resolve(recipe.network, NETWORKS, kind="networks")
        trainee: nn.Module = build(recipe.model, recipe.objective)
        try:
            with torch.no_grad():
                trainee.eval()(_blank_batch())
        except (RuntimeError, IndexError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise ConfigError(
                f"The network of {recipe.name} can't be trained on images of {IMAGE_PX} px: its "
                f"sizes don't fit together ({reason}). Change [model] or [objective] in the recipe."
            ) from error
    return trainee


def _blank_batch() -> Batch:
    return Batch(
        images=torch.zeros(2, 3, IMAGE_PX, IMAGE_PX),
        captions=["a red circle", "a blue square"],
        labels=torch.zeros(2, dtype=torch.long),
        step=0,
        rng=torch.Generator().manual_seed(0),
    )


def starting_file(recipe: Recipe, start: Path | None, out: Path) -> Path | None:
    """Return the file of the weights that a recipe starts from; None: random weights.

    Raises:
        MissingWeightsError: The weights do not exist.
        ConfigError: `start` is given to a recipe that starts from random weights.
    """
    if recipe.start_from is None:
        if start is not None:
            raise ConfigError(f"{recipe.name} starts from random weights, so it takes no --start.")
        return None
    beside = out.parent / recipe.start_from / WEIGHTS
    shipped = ZOO / f"{recipe.start_from}.safetensors"
    path = start or (shipped if shipped.is_file() and not beside.is_file() else beside)
    if not path.is_file():
        raise MissingWeightsError(
            f"{recipe.name} starts from the weights of {recipe.start_from}, but {path} does not "
            f"exist. Train it first with: evalkit train {recipe.start_from}, or pass --start FILE."
        )
    return path


def begin_with(
    network: nn.Module, recipe: Recipe, start: Path | None, out: Path
) -> dict[str, Any] | None:
    """Load the weights that a recipe starts from, if any.

    Returns:
        The file, its hash, and the names of the weights that stayed random.

    Raises:
        MissingWeightsError: The weights do not exist.
        ConfigError: `start` is given to a recipe that starts from random weights.
        WeightsError: The weights do not fit the network, or share nothing with it.
    """
    path = starting_file(recipe, start, out)
    if path is None:
        return None
    weights = trained_state(path)
    own, random = network.state_dict(), []
    if recipe.start_partly:
        shared = {k: w for k, w in weights.items() if k in own and own[k].shape == w.shape}
        if not shared:
            raise WeightsError(f"{recipe.name} shares no weights with {path.name}.")
        random = sorted(own.keys() - shared.keys())
        weights = own | shared
    check_state_dict(own, weights, path.name)
    network.load_state_dict(weights)
    return {"file": path.name, "sha256": file_sha256(path), "random": random}


def _metadata(recipe: Mapping[str, Any], trainee: nn.Module, out: Path) -> dict[str, str]:
    """Return the recipe, the starting weights and the hashes of the frozen networks."""
    metadata = {"recipe": json.dumps(recipe)}
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


def _step(
    accelerator: Any,
    wrapped: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    recipe: Recipe,
    step: int,
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)
    wrapped.train()
    with _attention(accelerator.device):
        with accelerator.autocast():
            loss: Tensor = wrapped(batch.to(accelerator.device))
        accelerator.backward(loss)
    accelerator.clip_grad_norm_(wrapped.parameters(), recipe.optimizer.gradient_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise DivergedError(
            f"The loss of {recipe.name} became {value} at step {step}. Lower "
            f"optimizer.learning_rate ({recipe.optimizer.learning_rate:g}) in the recipe, and "
            "train in another --out."
        )
    return value


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


def _log(path: Path, **row: float) -> None:
    with writing(path), path.open("a") as handle:
        handle.write(json.dumps(row) + "\n")
