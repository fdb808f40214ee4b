"""The options of training, apart from where it is written and on what it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evalkit.options.offering import Offer, option


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What is trained on and how it is watched; None and empty: as the recipe says."""

    data: str | None = option(
        None, "--data", "Own images with captions or classes: folder, archive or datasets:NAME."
    )
    hold_out: float | None = option(
        None, "--hold-out", "Share of --data that only the validation loss sees. [default: 0.05]"
    )
    vocabulary: str | None = option(
        None,
        "--vocabulary",
        "Tokens of --data: own (learned from its captions), clip or gpt2. [default: own]",
    )
    freeze: tuple[str, ...] = option(
        (),
        "--freeze",
        "Part that stays as it is: text, unet or the start of parameters' names; repeatable.",
        typed=list[str],
        parse=tuple,
    )
    batch_size: int | None = option(
        None, "--batch-size", "Images per step, of all processes. [default: the recipe's]"
    )
    learning_rate: float | None = option(
        None, "--learning-rate", "Peak of the learning rate. [default: the recipe's]"
    )
    accumulate: int = option(
        1, "--accumulate", "Parts of a batch that are computed in turn, to save memory.", minimum=1
    )
    look_every: int | None = option(
        None,
        "--look-every",
        "Steps between validation losses and grids of samples. [default: a tenth of --data's]",
        minimum=1,
    )


def _build(fields: dict[str, Any], typed: frozenset[str]) -> TrainingOptions:
    del typed
    return TrainingOptions(**fields)


training = Offer(record=TrainingOptions, parameter="training", build=_build)
"""Replace a command's parameter `training` by the options of training."""
