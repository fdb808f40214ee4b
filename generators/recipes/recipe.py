"""A recipe: everything that determines the result of a training run, in a strict TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from evalkit.core.errors import ConfigError
from evalkit.core.registry import unknown
from generators.recipes.catalog import CATALOG

StoredAs = Literal["fp16", "int8"]
SceneKind = Literal["single", "relation", "count", "several"]
"""Kinds of scenes of `shapes`."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataRecipe(_Strict):
    """The training images: which, and how many."""

    dataset: Literal["shapes"] = "shapes"
    kinds: dict[SceneKind, float] = Field(default_factory=dict)
    """Share of each kind of scene, adding up to 1; empty: the data set's own shares."""
    split: Literal["train"] = "train"
    """The validation split is never trained on."""
    num_images: int = Field(gt=0)
    seed: int = Field(ge=0)

    @field_validator("kinds")
    @classmethod
    def _adds_up(cls, kinds: dict[SceneKind, float]) -> dict[SceneKind, float]:
        if kinds and (min(kinds.values()) < 0 or abs(sum(kinds.values()) - 1) > 1e-9):
            raise ValueError("the shares must be at least 0 and add up to 1")
        return kinds


class OptimizerRecipe(_Strict):
    """AdamW with linear warm-up and cosine decay, and an exponential moving average."""

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    beta2: float = Field(default=0.99, gt=0, lt=1)
    gradient_clip: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; `precision_gpu` replaces it on a GPU."""
    precision_gpu: Literal["no", "bf16", "fp16"] = "bf16"


class Recipe(_Strict):
    """One network: its data, size, objective and optimisation."""

    name: str
    network: str
    """A row of `generators.training.networks.NETWORKS`."""
    seed: int = Field(ge=0)
    start_from: str | None = None
    """Recipe whose finished weights training starts from; None: random weights."""
    start_partly: bool = False
    """Load only the weights whose name and shape match; the others stay random."""
    stored_as: StoredAs = "fp16"
    """How the finished weights are written; `int8` halves the file (see `weights.quantised`)."""
    data: DataRecipe
    optimizer: OptimizerRecipe
    model: dict[str, Any]
    """Keywords of the network's configuration."""
    objective: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the network's training loss."""


def list_recipes() -> list[str]:
    """Return the names of all recipes, including those of other packages."""
    return sorted(CATALOG)


def load_recipe(name_or_path: str, *, steps: int | None = None) -> Recipe:
    """Read a recipe of the catalog by name, or any by its path.

    Args:
        name_or_path: Such as `glide-tiny-base`, or `my/recipe.toml`.
        steps: Replaces the recipe's number of steps.

    Raises:
        UnknownNameError: The recipe does not exist.
        ConfigError: The file is not a recipe.
    """
    recipe = _read(_file(name_or_path))
    if steps is None:
        return recipe
    if steps < 1:
        raise ConfigError(f"--steps must be at least 1, got {steps}.")
    optimizer = recipe.optimizer.model_copy(update={"steps": steps})
    return recipe.model_copy(update={"optimizer": optimizer})


def _file(name_or_path: str) -> Path:
    path = Path(name_or_path)
    if path.suffix != ".toml":
        return CATALOG[name_or_path].path()
    if not path.is_file():
        raise unknown(name_or_path, list_recipes(), kind="recipes")
    return path


def _read(path: Path) -> Recipe:
    try:
        return Recipe(**tomllib.loads(path.read_text("utf-8")))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{path}: {where}: {first['msg']}, got {first['input']!r}.") from error
