"""The literal table of models and presets; importing it imports no torch.

A name is `MODEL:PRESET`. A bare `MODEL` means the best weights that the public can get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evalkit.registry import load, third_party, unknown

if TYPE_CHECKING:
    from generators.base import Generator


Weights = Literal["embedded", "to train", "released", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model that can be asked for by name."""

    target: str
    """`module:function`; the function takes (name, device, weights) and returns a Generator."""
    summary: str
    conditioning: Literal["none", "class", "text"]
    size_px: int
    weights: Weights
    """`embedded` works now, `to train` after `evalkit train`, `released` has to be fetched, `none`
    is the architecture only."""


def _tiny(system: str, summary: str, weights: Weights = "to train") -> ModelRow:
    return ModelRow(
        target=f"generators.{system}.generator:load_tiny",
        summary=summary,
        conditioning="text",
        size_px=64,
        weights=weights,
    )


MODELS: dict[str, ModelRow] = {
    "glide:tiny": ModelRow(
        target="generators.glide.generator:load_tiny",
        summary="GLIDE at tiny size, trained on shapes",
        conditioning="text",
        size_px=64,
        weights="embedded",
    ),
    "glide:tiny-untrained": ModelRow(
        target="generators.glide.generator:load_tiny",
        summary="the networks of glide:tiny with random weights: the ceiling of its FD",
        conditioning="text",
        size_px=64,
        weights="none",
    ),
    "glide:released": ModelRow(
        target="generators.glide.generator:load_released",
        summary="GLIDE as OpenAI released it (filtered data, 385 M + 398 M parameters)",
        conditioning="text",
        size_px=256,
        weights="released",
    ),
    "unclip:tiny": _tiny("unclip", "unCLIP at tiny size, trained on shapes"),
    "unclip:tiny-ar": _tiny("unclip", "the same with the autoregressive prior"),
    "unclip:tiny-untrained": _tiny(
        "unclip", "the networks of unclip:tiny with random weights", weights="none"
    ),
    "unclip:tiny-ar-untrained": _tiny(
        "unclip", "the networks of unclip:tiny-ar with random weights", weights="none"
    ),
    "unclip:paper": ModelRow(
        target="generators.unclip.generator:load_paper",
        summary="unCLIP at the published size (6 B parameters); weights were never released",
        conditioning="text",
        size_px=1024,
        weights="none",
    ),
    "unclip:karlo": ModelRow(
        target="generators.adapters.diffusers:load_karlo",
        summary="Karlo, an unCLIP trained by others, through diffusers",
        conditioning="text",
        size_px=256,
        weights="released",
    ),
    "imagen:if-xl": ModelRow(
        target="generators.adapters.diffusers:load_if",
        summary="DeepFloyd IF, in Imagen's style, through diffusers: its first two stages",
        conditioning="text",
        size_px=256,
        weights="released",
    ),
    "imagen:tiny": _tiny("imagen", "Imagen at tiny size, trained on shapes"),
    "imagen:tiny-untrained": _tiny(
        "imagen", "the networks of imagen:tiny with random weights", weights="none"
    ),
    "imagen:paper": ModelRow(
        target="generators.imagen.generator:load_paper",
        summary="Imagen at the published size (3 B and T5-XXL); weights were never released",
        conditioning="text",
        size_px=1024,
        weights="none",
    ),
}

ALIASES = {"glide": "glide:released", "unclip": "unclip:karlo", "imagen": "imagen:if-xl"}
"""What a bare name means."""

CLIP_MODELS: dict[str, str] = {
    "clip:tiny": "generators.clip.tiny:load",
    "clip:tiny-judge": "generators.clip.tiny:load",
}
"""Contrastive models for re-ranking and scoring; the judge only ever scores."""


def full_name(name: str) -> str:
    """The catalog name that a name stands for.

    Raises:
        UnknownNameError: No such model.
    """
    full = ALIASES.get(name, name)
    others = third_party("generators")
    if full not in MODELS and full not in others:
        raise unknown(name, [*MODELS, *ALIASES, *others], kind="models")
    return full


def load_generator(
    name: str, *, device: str = "cpu", weights: Mapping[str, Path] | None = None
) -> Generator:
    """Build the generator behind a name.

    Args:
        name: Such as `glide:tiny`, or `package/name` of an entry point.
        device: A torch device.
        weights: Local files that take the place of downloads, by the name of the weights.

    Raises:
        UnknownNameError: No such model.
        MissingWeightsError: The weights are neither embedded, cached nor downloadable.
    """
    full = full_name(name)
    target = MODELS[full].target if full in MODELS else third_party("generators")[full]
    generator: Generator = load(target)(full, device, dict(weights or {}))
    return generator
