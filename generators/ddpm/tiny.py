"""The small networks of our own: ADM's layout, its sizes from a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from generators.ddpm.adm import NoisyClassifier
from generators.nn.unet import UNet, UNetConfig


def build_network(settings: Mapping[str, Any]) -> UNet:
    """Build the U-Net of a recipe from settings of `UNetConfig`.

    Raises:
        ArchitectureError: A setting is unknown, missing or doesn't fit the others.
    """
    return UNet(UNetConfig.from_flat(settings))


def build_classifier(settings: Mapping[str, Any]) -> NoisyClassifier:
    """Build the noisy classifier of a recipe; `out_channels` is the number of classes.

    Raises:
        ArchitectureError: As in `build_network`.
    """
    return NoisyClassifier(UNetConfig.from_flat(settings), "attention")
