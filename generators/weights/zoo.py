"""The tiny trained models that ship with evalkit, in the folder `generators/zoo`.

Each network is a safetensors file (fp16, or int8 with scales: see `quantised.py`) whose metadata
holds the recipe that trained it. The cards beside the files state data, training time and scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from evalkit.core.errors import MissingWeightsError, WeightsError
from generators.recipes.catalog import RECIPES
from generators.recipes.recipe import Recipe
from generators.weights import networks
from generators.weights.networks import NetworkT
from generators.weights.quantised import dequantise
from generators.weights.state_dicts import file_sha256, load_state_dict, read_metadata

ZOO = Path(__file__).parents[1] / "zoo"


@dataclass(frozen=True)
class ZooWeights:
    """A trained network's weights and how it was made."""

    state_dict: dict[str, Tensor]
    """float32."""
    recipe: Recipe
    sha256: str
    trained_with: Mapping[str, str] = field(default_factory=dict)
    """Hashes by name of the frozen networks whose outputs it was trained on."""
    vocabulary: str = ""
    """The vocabulary of its captions (see `generators.tokenizer`); empty: the tiny models'."""

    def network(self, kind: type[NetworkT], name: str) -> NetworkT:
        """Build the network of the recipe and load these weights.

        Args:
            kind: The class that the network must have.
            name: What errors call the weights.

        Raises:
            WeightsError: The weights are of another network.
        """
        loaded = networks.load_released(
            self.recipe.network, self.state_dict, self.recipe.model, source=name
        )
        return networks.checked(kind, name, loaded)


def zoo_weights(name: str, path: Path | None = None) -> ZooWeights:
    """Read weights by the name of their recipe.

    Args:
        name: Such as `glide-tiny-base`.
        path: A file of `evalkit train` that replaces the shipped one.

    Raises:
        MissingWeightsError: The file does not exist, or does not state its recipe.
        WeightsError: The file is damaged.
    """
    file = path or ZOO / f"{name}.safetensors"
    if path is None and not file.is_file():
        raise MissingWeightsError(
            f"The weights {name} are not included in evalkit. Train them with: "
            f"evalkit train {name}, then pass "
            f"--weights {name}=runs/train/{name}/weights.safetensors."
        )
    state = trained_state(file)
    metadata = read_metadata(file)
    if "recipe" not in metadata:
        raise MissingWeightsError(f"{file} holds no recipe. Give a file that evalkit train wrote.")
    try:
        recipe = Recipe(**json.loads(metadata["recipe"]))
        trained_with = dict(json.loads(metadata.get("trained_with", "{}")))
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{file} states no valid recipe ({reason}). Give a file that evalkit train wrote."
        ) from error
    vocabulary = metadata.get("vocabulary", "")
    return ZooWeights(state, recipe, file_sha256(file), trained_with, vocabulary)


def weights_named(name_or_path: str) -> ZooWeights:
    """Read a network's weights by their name in the zoo, or from a file of `evalkit train`.

    Raises:
        MissingWeightsError: They do not ship, the file does not exist, or it states no recipe.
        WeightsError: The file is damaged.
    """
    if name_or_path.endswith(".safetensors"):
        return zoo_weights(Path(name_or_path).stem, Path(name_or_path))
    if not (ZOO / f"{name_or_path}.safetensors").is_file():
        told = (
            f"the file that evalkit train {name_or_path} writes: "
            f"runs/train/{name_or_path}/weights.safetensors"
            if name_or_path in RECIPES
            else "a name of generators/zoo, or a file that ends in .safetensors"
        )
        raise MissingWeightsError(
            f"The weights {name_or_path} are not included in evalkit. Give {told}."
        )
    return zoo_weights(name_or_path)


def trained_state(file: Path) -> dict[str, Tensor]:
    """Read weights that `evalkit train` wrote, in float32."""
    return {name: tensor.float() for name, tensor in dequantise(load_state_dict(file)).items()}


def check_trained_with(name: str, weights: ZooWeights, frozen: Mapping[str, str]) -> None:
    """Compare the frozen networks in use with those of the training.

    Args:
        name: The trained network's, for the message.
        weights: Its weights.
        frozen: Hashes of the frozen networks in use, by their names.

    Raises:
        WeightsError: The network was trained with another frozen network.
    """
    for other, sha256 in frozen.items():
        known = weights.trained_with.get(other)
        if sha256 not in weights.trained_with.values():
            beside = known[:12] if known else "of unknown hash"
            raise WeightsError(
                f"{name} was trained with {other} {beside}, but {sha256[:12]} is in use. "
                f"Train {name} again, or pass the file it was trained with: --weights {other}=PATH"
            )
