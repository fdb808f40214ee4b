"""A recipe: everything that determines the result of a training run, in a strict TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evalkit.core.errors import ConfigError
from evalkit.core.registry import unknown
from generators.recipes.catalog import CATALOG
from generators.recipes.objectives import OBJECTIVES, check_objective

StoredAs = Literal["fp16", "int8"]
SceneKind = Literal["single", "relation", "count", "several"]
"""Kinds of scenes of `shapes`."""


Vocabulary = Literal["shapes", "own", "gpt2", "clip"]
"""Byte pairs of the captions of shapes, of the training captions, GPT-2's, or CLIP's."""

SHAPES = "shapes"
SHAPES_PX = 64
MOST_IMAGES = 10_000_000
"""Those of shapes are held in memory."""
MOST_OWN_IMAGES = 10**10
MOST_SEED = 2**63
MOST_PX = 4096


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataRecipe(_Strict):
    """The training images: which, and how many."""

    dataset: str = Field(default=SHAPES, min_length=1)
    """`shapes`, or the name of own data, which `evalkit train --data` gives."""
    kinds: dict[SceneKind, float] = Field(default_factory=dict)
    """Share of each kind of scene, adding up to 1; empty: the data set's own shares."""
    split: Literal["train"] = "train"
    """The validation split is never trained on."""
    num_images: int = Field(default=0, ge=0, le=MOST_OWN_IMAGES)
    """Of `shapes`; of own data it is their number without those held out."""
    seed: int = Field(ge=0, lt=MOST_SEED)
    """Of the draw; of own data it decides which images are held out."""
    image_px: int = Field(default=SHAPES_PX, ge=1, le=MOST_PX)
    """Edge to which own images are cropped (centred) and resized; `shapes` has 64."""
    hold_out: float = Field(default=0.0, ge=0, lt=1)
    """Share of own images that are left out of training, for the validation loss."""
    vocabulary: Vocabulary = "shapes"
    """How captions become tokens."""
    num_merges: int = Field(default=640, ge=0, le=100_000)
    """Most merges of an `own` vocabulary."""
    classes: list[str] = Field(default_factory=list)
    """Names of own classes, in the order of their numbers; found in the data."""
    fingerprint: str = ""
    """Hash of the names, captions and classes of own data; found in the data."""

    @property
    def is_shapes(self) -> bool:
        """Whether the images are drawn by evalkit."""
        return self.dataset == SHAPES

    @field_validator("kinds")
    @classmethod
    def _adds_up(cls, kinds: dict[SceneKind, float]) -> dict[SceneKind, float]:
        if kinds and (min(kinds.values()) < 0 or abs(sum(kinds.values()) - 1) > 1e-9):
            raise ValueError("the shares must be at least 0 and add up to 1")
        return kinds

    @model_validator(mode="after")
    def _shapes_are_drawn(self) -> DataRecipe:
        if self.is_shapes and not 1 <= self.num_images <= MOST_IMAGES:
            raise ValueError(f"num_images must be from 1 to {MOST_IMAGES:,}")
        own = self.image_px != SHAPES_PX or self.hold_out or self.classes or self.fingerprint
        if self.is_shapes and (own or self.vocabulary != SHAPES):
            raise ValueError(
                "image_px, hold_out, vocabulary, classes and fingerprint are for own data; set "
                'dataset = "own" and give --data'
            )
        return self


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

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Also the name of the default folder."""
    network: str
    """A row of `generators.training.networks.NETWORKS`."""
    seed: int = Field(ge=0, lt=MOST_SEED)
    start_from: str | None = None
    """Recipe whose finished weights training starts from, or a model such as `glide:released`;
    None: random weights."""
    start_partly: bool = False
    """Load only the weights whose name and shape match; the others stay random."""
    freeze: list[str] = Field(default_factory=list)
    """Parts of the network that stay as they are: `text` or `unet` of GLIDE, or what the names of
    the parameters begin with."""
    stored_as: StoredAs = "fp16"
    """How the finished weights are written; `int8` halves the file (see `weights.quantised`)."""
    data: DataRecipe
    optimizer: OptimizerRecipe
    model: dict[str, Any]
    """Keywords of the network's configuration."""
    objective: dict[str, Any] = Field(default_factory=dict)
    """Keywords of the network's training loss, checked by `generators.recipes.objectives`."""


def list_recipes() -> list[str]:
    """Return the names of all recipes, including those of other packages."""
    return sorted(CATALOG)


def load_recipe(
    name_or_path: str,
    *,
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> Recipe:
    """Read a recipe of the catalog by name, or any by its path.

    Args:
        name_or_path: Such as `glide-tiny-base`, or `my/recipe.toml`.
        steps: Replaces the recipe's number of steps; likewise `batch_size` and `learning_rate`.
        batch_size: See `steps`.
        learning_rate: See `steps`.

    Raises:
        UnknownNameError: The recipe does not exist.
        ConfigError: The file is not a recipe.
    """
    recipe = _read(_file(name_or_path))
    given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}
    changes = {key: value for key, value in given.items() if value is not None}
    for key, value in changes.items():
        if not value > 0 or value == float("inf"):
            least = "above 0" if key == "learning_rate" else "at least 1"
            raise ConfigError(f"--{key.replace('_', '-')} must be {least}, got {value}.")
    optimizer = recipe.optimizer.model_copy(update=changes)
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
        raw = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from error
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}).") from error
    try:
        recipe = Recipe(**raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first_fault(error, [], '')}") from error
    try:
        check_objective(recipe.network, recipe.objective)
    except ValidationError as error:
        fault = _first_fault(error, ["objective"], recipe.network)
        raise ConfigError(f"{path}: {fault}") from error
    return recipe


def _first_fault(error: ValidationError, table: list[str], network: str) -> str:
    """Say the first fault: where, what, the value seen; for an unknown key, which are known.

    A missing key comes last, since a misspelt one is missing as well.
    """
    first = min(error.errors(), key=lambda fault: fault["type"] == "missing")
    path = [*table, *(str(part) for part in first["loc"])]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _known_keys(path[:-1], network)
        return f"unknown key {where}; known: {', '.join(sorted(known)) or 'none'}."
    if first["type"] == "missing":
        return f"{where} is missing."
    return f"{where}: {first['msg']}, got {first['input']!r}."


def _known_keys(table: list[str], network: str) -> Iterable[str]:
    if table == ["objective"]:
        return OBJECTIVES[network].model_fields
    tables: dict[str, type[BaseModel]] = {"data": DataRecipe, "optimizer": OptimizerRecipe}
    owner = tables[table[0]] if table else Recipe
    return owner.model_fields
