"""How many processes train together, and the launchers that promise several and start one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from evalkit.core.errors import ConfigError
from generators.recipes.needs import needs_of
from generators.recipes.recipe import Recipe

_COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Where torchrun and MPI state the number of processes."""


def check_launch(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a process of a launcher that was asked for several and starts only one.

    `accelerate launch --cpu --num_processes 2` is one: without MPI it sets the address at which
    the processes would meet, and starts a single one that knows of no other.

    Raises:
        ConfigError: This process is such a one.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in environment
    if launched and "MASTER_PORT" in environment and not any(c in environment for c in _COUNTS):
        raise ConfigError(
            "accelerate launch was asked for several processes and started one, because on the "
            "CPU it needs MPI for more. Use: torchrun --nproc-per-node N -m evalkit.cli train ..."
        )


def num_processes(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes the launcher started, 1 without one."""
    found = next((environment[name] for name in _COUNTS if name in environment), "1")
    return int(found) if found.isdigit() else 1


def check_split(recipe: Recipe, num_processes: int, accumulate: int) -> None:
    """Check that each batch can be split among processes and the parts of each process.

    Raises:
        ConfigError: The batch is no multiple of them, or the loss needs whole batches.
    """
    parts = num_processes * accumulate
    if parts == 1:
        return
    if needs_of(recipe.network).together:
        raise ConfigError(
            f"The loss of {recipe.name} compares the images of a batch with each other, so the "
            f"batch can't be split, got {num_processes} processes and --accumulate {accumulate}. "
            "Train it in one process without --accumulate."
        )
    if recipe.optimizer.batch_size % parts:
        raise ConfigError(
            f"A batch of {recipe.optimizer.batch_size} cannot be split among {num_processes} "
            f"processes in {accumulate} parts each. Change optimizer.batch_size, or pass "
            "--batch-size."
        )
