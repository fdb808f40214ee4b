"""Checkpoints of a training run: weights as safetensors, the rest as plain tensors.

Each is written to a temporary name and renamed, so a killed run keeps the previous checkpoint.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from evalkit.core.errors import WeightsError
from evalkit.core.files import writing
from evalkit.core.results import write_atomically
from generators.recipes.recipe import StoredAs
from generators.training.ema import MovingAverage
from generators.weights.quantised import SCALE, quantise


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes during training, and the hash of the recipe."""

    recipe_hash: str
    network: nn.Module
    ema: MovingAverage
    optimizer: torch.optim.Optimizer


def save_checkpoint(path: Path, state: TrainingState, *, step: int, seconds: float) -> None:
    """Store all that is needed to resume the run exactly."""
    tensors: dict[str, Tensor] = {}
    tensors |= {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in state.ema.network.state_dict().items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": torch.as_tensor(v) for key, v in values.items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    meta = {
        "step": step,
        "recipe": state.recipe_hash,
        "seconds": seconds,
        "ema": state.ema.num_updates,
    }
    write_atomically(path, save(tensors, {"training": json.dumps(meta)}))


def load_checkpoint(path: Path, state: TrainingState) -> tuple[int, float]:
    """Restore a run.

    Returns:
        The number of steps done and the seconds they took.

    Raises:
        WeightsError: The checkpoint is damaged or belongs to another recipe.
    """
    try:
        with safe_open(path, framework="pt") as handle:
            meta = json.loads(handle.metadata()["training"])
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
        recipe, step, seconds = meta["recipe"], int(meta["step"]), float(meta["seconds"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a training checkpoint: {error}. Delete it to begin again."
        ) from error
    if recipe != state.recipe_hash:
        raise WeightsError(
            f"{path} belongs to another recipe, or to other data. Choose another --out or "
            "delete it."
        )
    state.network.load_state_dict(_under(tensors, "network."))
    state.ema.network.load_state_dict(_under(tensors, "ema."))
    state.ema.num_updates = meta["ema"]
    values: dict[int, dict[str, Any]] = {}
    for key, value in _under(tensors, "optimizer.").items():
        index, _, name = key.partition(".")
        values.setdefault(int(index), {})[name] = value
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": values, "param_groups": groups})
    return step, seconds


def export_weights(
    path: Path, network: nn.Module, metadata: dict[str, str], *, stored_as: StoredAs = "fp16"
) -> None:
    """Write a network as safetensors in the zoo's format, `fp16` or `int8`."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    if stored_as == "int8":
        state = quantise(state)
    stored = {
        name: (value.half() if value.is_floating_point() and not name.endswith(SCALE) else value)
        for name, value in state.items()
    }
    content = save({k: v.contiguous() for k, v in stored.items()}, metadata)
    write_atomically(path, with_sorted_metadata(content))
    with writing(path):
        os.chmod(path, 0o644)  # noqa: PTH101


def with_sorted_metadata(content: bytes) -> bytes:
    """Return a safetensors file with its metadata in the order of their names.

    The library writes them in an order that differs from process to process.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
