"""What a training starts from, and which parts of the network it leaves as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from evalkit.core.errors import ConfigError, MissingWeightsError, WeightsError
from generators.recipes.catalog import RECIPES
from generators.recipes.needs import needs_of
from generators.recipes.recipe import Recipe
from generators.tokenizer import GPT2, TINY
from generators.training.data import SHAPES_INPUTS, Inputs
from generators.weights.networks import same_network
from generators.weights.published import MODEL_FILES, locate
from generators.weights.state_dicts import check_state_dict, file_sha256, read_metadata
from generators.weights.zoo import ZOO, trained_state

WEIGHTS = "weights.safetensors"
"""The finished weights in the folder of a run."""
UNET = "unet"
"""What is left of a network without its parts of `Needs.parts`."""


def starting_file(recipe: Recipe, start: Path | None, out: Path) -> Path | None:
    """Return the file of the weights that a recipe starts from; None: random weights.

    Args:
        recipe: Its `start_from` is a recipe or a model.
        start: A file to use instead.
        out: Folder of the training; the weights of another recipe may lie beside it.

    Raises:
        MissingWeightsError: The weights do not exist.
        ConfigError: `start` is given to a recipe that starts from random weights, the model has no
            such network, or this kind of training has to start from trained weights.
    """
    if recipe.start_from is None:
        if needs_of(recipe.network).start:
            raise ConfigError(
                f"{recipe.name} leaves a part of its network as it is, so it can't start from "
                "random weights. Set start_from in the recipe."
            )
        if start is not None:
            raise ConfigError(f"{recipe.name} starts from random weights, so it takes no start.")
        return None
    if start is None and ":" in recipe.start_from:
        return model_file(recipe.start_from, recipe)
    beside = out.parent / recipe.start_from / WEIGHTS
    shipped = ZOO / f"{recipe.start_from}.safetensors"
    path = start or (shipped if shipped.is_file() and not beside.is_file() else beside)
    if not path.is_file():
        raise MissingWeightsError(
            f"{recipe.name} starts from the weights of {recipe.start_from}, but {path} does not "
            f"exist. Train it first with: evalkit train {recipe.start_from}, or pass --from FILE."
        )
    return path


def model_file(model: str, recipe: Recipe) -> Path:
    """Return the file of the network of a model that a recipe fine-tunes.

    Raises:
        ConfigError: The model has no network of the recipe's kind, or several.
        MissingWeightsError: The weights are neither cached nor downloadable.
    """
    if recipe.network in MODEL_FILES.get(model, ()):
        try:
            return locate(recipe.network, None)
        except MissingWeightsError as error:
            option = f"--weights {recipe.network}=PATH"
            raise MissingWeightsError(str(error).replace(option, "--from PATH")) from error
    prefix = model.replace(":", "-")
    alike = [
        name
        for name, row in RECIPES.items()
        if same_network(row.network, recipe.network)
        and name.startswith(prefix)
        and (ZOO / f"{name}.safetensors").is_file()
    ]
    chosen = [recipe.name] if recipe.name in alike else alike
    if len(chosen) == 1:
        return ZOO / f"{chosen[0]}.safetensors"
    if chosen:
        files = ", ".join(str(ZOO / f"{name}.safetensors") for name in chosen)
        raise ConfigError(f"{model} has several networks of this kind. Choose a file: {files}.")
    raise ConfigError(
        f"{model} has no network of the kind {recipe.network}, which {recipe.name} trains. Give "
        "another model, such as glide:tiny or glide:released, or a file of weights."
    )


def vocabulary_of(path: Path, start_from: str | None) -> str | None:
    """Return what weights state of their vocabulary; None: they state nothing."""
    metadata = read_metadata(path)
    if "recipe" in metadata:
        return metadata.get("vocabulary", TINY)
    return GPT2 if "gpt2-encoder" in MODEL_FILES.get(start_from or "", ()) else None


def begin_with(
    network: nn.Module,
    recipe: Recipe,
    start: Path | None,
    out: Path,
    inputs: Inputs = SHAPES_INPUTS,
) -> dict[str, Any] | None:
    """Load the weights that a recipe starts from, if any.

    What has a row for each token or class stays random if the vocabulary or the classes are others.

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
    own = network.state_dict()
    new = _of_other_data(recipe, path, inputs) & own.keys()
    shared = {k: w for k, w in weights.items() if k not in new}
    if recipe.start_partly:
        shared = {k: w for k, w in shared.items() if k in own and own[k].shape == w.shape}
        if not shared:
            raise WeightsError(f"{recipe.name} shares no weights with {path.name}.")
        new = own.keys() - shared.keys()
    weights = {**{name: own[name] for name in new}, **shared}
    held = _recipe_of(path).get("network", recipe.network)
    try:
        check_state_dict(own, weights, path.name)
    except WeightsError as error:
        if same_network(held, recipe.network):
            raise
        raise WeightsError(
            f"{path} holds a network of the kind {held}, but {recipe.name} trains one of the kind "
            f"{recipe.network}. Start from another file."
        ) from error
    network.load_state_dict(weights)
    return {"file": path.name, "sha256": file_sha256(path), "random": sorted(new)}


def frozen_parameters(network: nn.Module, recipe: Recipe) -> frozenset[str]:
    """Return the names of the parameters that a recipe, or its kind of training, leaves alone.

    Raises:
        ConfigError: A part does not exist, or nothing is left to train.
    """
    parts = needs_of(recipe.network).parts
    learning = {name: p.requires_grad for name, p in network.named_parameters()}
    names, frozen = list(learning), {name for name, learns in learning.items() if not learns}
    for part in recipe.freeze:
        if part == UNET and parts:
            inside = tuple(start for starts in parts.values() for start in starts)
            found = {name for name in names if not name.startswith(inside)}
        else:
            starts = parts.get(part, (part,))
            found = {name for name in names if part and name.startswith(starts)}
        if not found:
            known = [*parts, *([UNET] if parts else []), *dict.fromkeys(_top(n) for n in names)]
            raise ConfigError(
                f"{recipe.name} has no part {part!r} to freeze; it has: {', '.join(known)}."
            )
        frozen |= found
    if len(frozen) == len(names):
        raise ConfigError(f"All of {recipe.name} is frozen, so nothing is left to train.")
    return frozenset(frozen)


def _top(name: str) -> str:
    first, dot, _ = name.partition(".")
    return first + dot


def _of_other_data(recipe: Recipe, path: Path, inputs: Inputs) -> set[str]:
    """Return the names of the weights that were trained on other tokens or classes."""
    needs = needs_of(recipe.network)
    found: set[str] = set()
    stated = vocabulary_of(path, recipe.start_from)
    ours = inputs.tokenizer.stated if inputs.tokenizer else TINY
    if needs.tokens and stated is not None and stated != ours:
        found.add(needs.tokens)
    if needs.learns_classes(recipe.model) and _classes_of(path) != recipe.data.classes:
        found |= set(needs.of_classes)
    return found


def _classes_of(path: Path) -> list[str]:
    data = _recipe_of(path).get("data", {})
    return list(data.get("classes", [])) if isinstance(data, dict) else []


def _recipe_of(path: Path) -> Mapping[str, Any]:
    """Return the recipe that weights state; empty where they state none."""
    try:
        recipe = json.loads(read_metadata(path).get("recipe", "{}"))
    except ValueError:
        return {}
    return recipe if isinstance(recipe, dict) else {}
