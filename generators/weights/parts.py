"""The networks of a tiny system: from the zoo, from files, or with random weights.

A part is a network under its recipe's name, such as `unclip-tiny-prior`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn

from evalkit.core.errors import ConfigError, MissingWeightsError
from generators.recipes.recipe import Recipe, load_recipe
from generators.weights import state_dicts
from generators.weights.networks import build_network, checked
from generators.weights.zoo import ZOO, check_trained_with, zoo_weights

NetworkT = TypeVar("NetworkT", bound=nn.Module)
NetworkT_co = TypeVar("NetworkT_co", bound=nn.Module, covariant=True)
UNTRAINED_SEED = 0
"""Seed of the random weights of `...-untrained` models."""
UNTRAINED = "-untrained"
"""Suffix of the names of such models."""


@dataclass(frozen=True)
class Part(Generic[NetworkT_co]):
    """A network, how it was made, and the hash of its weights."""

    network: NetworkT_co
    recipe: Recipe
    sha256: str


@dataclass(frozen=True)
class Parts:
    """Loads the networks of one model."""

    model: str
    """The catalog name."""
    weights: Mapping[str, Path]
    """Files of `evalkit train` that replace the shipped ones."""

    @property
    def trained(self) -> bool:
        """False for the variant with random weights."""
        return not self.model.endswith(UNTRAINED)

    def load(
        self,
        kind: type[NetworkT],
        name: str,
        frozen: Mapping[str, str] | None = None,
    ) -> Part[NetworkT]:
        """Load one network.

        Args:
            kind: The class of the network.
            name: The name of its recipe.
            frozen: Hashes of the frozen networks that it reads; they must be those of its training.

        Raises:
            MissingWeightsError: The network does not ship, and no file is given.
            WeightsError: The weights do not fit.
        """
        if not self.trained:
            recipe = load_recipe(name)
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(UNTRAINED_SEED)
                network = build_network(recipe.network, recipe.model)
            return Part(checked(kind, name, network), recipe, "random")
        weights = zoo_weights(name, self.file(name))
        loaded = weights.network(kind, name)
        check_trained_with(name, weights, frozen or {})
        return Part(loaded, weights.recipe, weights.sha256)

    def file(self, name: str) -> Path | None:
        """Return the file that is given for a network; None: the shipped one.

        Raises:
            MissingWeightsError: No file is given, and none ships.
        """
        given = self.weights.get(name)
        if given is None and not (ZOO / f"{name}.safetensors").is_file():
            raise MissingWeightsError(
                f"The weights {name} of {self.model} are not included in evalkit. Train them "
                f"with: evalkit train {name}, then pass "
                f"--weights {name}=runs/train/{name}/weights.safetensors; or use "
                f"{self.model}{UNTRAINED}, which needs no weights."
            )
        return given

    def provenance(self) -> str:
        """Return where the weights came from, for the spec."""
        if not self.trained:
            return f"random, seed {UNTRAINED_SEED}"
        return "given: " + ", ".join(self.weights) if self.weights else "generators/zoo"

    def joint_hash(self, parts: Sequence[Part[nn.Module]], frozen: Sequence[str] = ()) -> str:
        """Return one hash for all networks, in the order of the stages, the frozen ones last."""
        if not self.trained:
            return "random"
        return state_dicts.joint_hash([*(part.sha256 for part in parts), *frozen])


def never_released(name: str, instead: str) -> MissingWeightsError:
    """Build the error of a preset of the published size, which is an architecture only."""
    return MissingWeightsError(
        f"{name} is the published architecture; its weights were never released. Build its "
        f"networks from the presets in generators/{name.partition(':')[0]}/presets.py, or use "
        f"{instead}."
    )


def check_overrides(name: str, weights: Mapping[str, Path], known: Sequence[str]) -> None:
    """Refuse weights that a model does not have.

    Raises:
        ConfigError: The model does not have such weights.
    """
    for part in weights:
        if part not in known:
            raise ConfigError(f"{name} has no weights {part!r}; it has: {', '.join(known)}.")
