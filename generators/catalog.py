"""The literal table of models and presets; importing it imports no torch.

A name is `MODEL:PRESET`. A bare `MODEL` means the best weights that the public can get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evalkit.core.errors import ConfigError, MissingWeightsError
from evalkit.core.registry import load, third_party, unknown
from generators.weights import cached_file, locate

if TYPE_CHECKING:
    from generators.base import Generator


Weights = Literal["embedded", "released", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model that can be asked for by name."""

    target: str
    """`module:function`; the function takes (name, device, weights) and returns a Generator."""
    summary: str
    conditioning: Literal["none", "class", "text"]
    size_px: int
    weights: Weights
    """`embedded` works now, `released` has to be fetched, `none` is the architecture only."""
    files: tuple[str, ...] = ()
    """Rows of `generators.weights.PUBLISHED` that it is loaded from, the networks in order."""


def _tiny(system: str, summary: str, weights: Weights = "embedded") -> ModelRow:
    return ModelRow(
        target=f"generators.{system}.generator:load_tiny",
        summary=summary,
        conditioning="text",
        size_px=64,
        weights=weights,
    )


MODELS: dict[str, ModelRow] = {
    "glide:tiny": ModelRow(
        target="generators.glide.loaders:load_tiny",
        summary="GLIDE at tiny size, trained on shapes",
        conditioning="text",
        size_px=64,
        weights="embedded",
    ),
    "glide:tiny-untrained": ModelRow(
        target="generators.glide.loaders:load_tiny",
        summary="the networks of glide:tiny with random weights: the ceiling of its FD",
        conditioning="text",
        size_px=64,
        weights="none",
    ),
    "glide:released": ModelRow(
        target="generators.glide.loaders:load_released",
        summary="GLIDE as OpenAI released it (filtered data, 385 M + 398 M parameters)",
        conditioning="text",
        size_px=256,
        weights="released",
        files=("glide-base", "glide-upsampler", "gpt2-encoder", "gpt2-merges"),
    ),
    "glide:released-inpaint": ModelRow(
        target="generators.glide.loaders:load_released_inpaint",
        summary="GLIDE's networks for inpainting; without an image to keep, text to image",
        conditioning="text",
        size_px=256,
        weights="released",
        files=("glide-base-inpaint", "glide-upsampler-inpaint", "gpt2-encoder", "gpt2-merges"),
    ),
    "glide:paper": ModelRow(
        target="generators.glide.loaders:load_paper",
        summary="GLIDE at the paper's size (3.5 B + 1.5 B), whose weights were never released",
        conditioning="text",
        size_px=256,
        weights="none",
        files=("glide-paper-base", "glide-paper-upsampler", "gpt2-encoder", "gpt2-merges"),
    ),
    "dalle:tiny": _tiny("dalle", "DALL-E at tiny size, trained on shapes"),
    "dalle:tiny-untrained": _tiny(
        "dalle", "the networks of dalle:tiny with random weights", weights="none"
    ),
    "dalle:paper": ModelRow(
        target="generators.dalle.generator:load_paper",
        summary="DALL-E at the published size (12 B parameters); weights were never released",
        conditioning="text",
        size_px=256,
        weights="none",
    ),
    "ddpm:tiny": ModelRow(
        target="generators.ddpm.generator:load_tiny",
        summary="DDPM at tiny size, unconditional, trained on shapes",
        conditioning="none",
        size_px=16,
        weights="embedded",
    ),
    "ddpm:tiny-class": ModelRow(
        target="generators.ddpm.generator:load_tiny",
        summary="the same told the shape, with a noisy classifier for guidance",
        conditioning="class",
        size_px=16,
        weights="embedded",
    ),
    "ddpm:cifar10": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="DDPM for CIFAR-10 (Ho et al. 2020), 35.7 M parameters",
        conditioning="none",
        size_px=32,
        weights="released",
        files=("ddpm-cifar10",),
    ),
    "ddpm:celebahq256": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="DDPM for CelebA-HQ (Ho et al. 2020), 114 M parameters",
        conditioning="none",
        size_px=256,
        weights="released",
        files=("ddpm-celebahq256",),
    ),
    "ddpm:improved-cifar10": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="Improved DDPM for CIFAR-10 (Nichol & Dhariwal 2021)",
        conditioning="none",
        size_px=32,
        weights="released",
        files=("ddpm-improved-cifar10",),
    ),
    "ddpm:improved-imagenet64": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="Improved DDPM for ImageNet",
        conditioning="none",
        size_px=64,
        weights="released",
        files=("ddpm-improved-imagenet64",),
    ),
    "ddpm:improved-imagenet64-class": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="Improved DDPM for ImageNet, class-conditional",
        conditioning="class",
        size_px=64,
        weights="released",
        files=("ddpm-improved-imagenet64-class",),
    ),
    "ddpm:adm64": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="ADM for ImageNet (Dhariwal & Nichol 2021), 296 M parameters, with its classifier",
        conditioning="class",
        size_px=64,
        weights="released",
        files=("ddpm-adm64", "ddpm-adm64-classifier"),
    ),
    "ddpm:adm128": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="ADM for ImageNet at 128 px, with its classifier",
        conditioning="class",
        size_px=128,
        weights="released",
        files=("ddpm-adm128", "ddpm-adm128-classifier"),
    ),
    "ddpm:adm256": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="ADM for ImageNet at 256 px, with its classifier",
        conditioning="class",
        size_px=256,
        weights="released",
        files=("ddpm-adm256", "ddpm-adm256-classifier"),
    ),
    "ddpm:adm256-unconditional": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="ADM without classes, which the classifier brings in",
        conditioning="class",
        size_px=256,
        weights="released",
        files=("ddpm-adm256-unconditional", "ddpm-adm256-classifier"),
    ),
    "ddpm:adm512": ModelRow(
        target="generators.ddpm.generator:load_released",
        summary="ADM for ImageNet at 512 px, with its classifier",
        conditioning="class",
        size_px=512,
        weights="released",
        files=("ddpm-adm512", "ddpm-adm512-classifier"),
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

ALIASES = {
    "ddpm": "ddpm:cifar10",
    "glide": "glide:released",
    "unclip": "unclip:karlo",
    "imagen": "imagen:if-xl",
}
"""What a bare name means."""

NEVER_RELEASED = {
    "dalle": "no transformer of DALL-E was ever released, only its discrete VAE, which makes no "
    "images of captions; use dalle:tiny, which is trained on shapes",
}
"""Bare names behind which there is nothing public, and what to say instead."""

CLIP_MODELS: dict[str, str] = {
    "clip:tiny": "generators.clip.tiny:load",
    "clip:tiny-judge": "generators.clip.tiny:load",
}
"""Contrastive models for re-ranking and scoring; the judge only ever scores."""


def full_name(name: str) -> str:
    """The catalog name that a name stands for.

    Raises:
        UnknownNameError: No such model.
        MissingWeightsError: A bare name of a model that nobody ever released.
    """
    if name in NEVER_RELEASED:
        raise MissingWeightsError(f"{name}: {NEVER_RELEASED[name]}")
    full = ALIASES.get(name, name)
    others = third_party("generators")
    if full not in MODELS and full not in others:
        raise unknown(name, [*MODELS, *ALIASES, *others], kind="models")
    return full


def require_model(name: str, weights: Mapping[str, Path]) -> str:
    """Everything that can be told of a model before torch is imported; fetches published files.

    Names of weights that the model doesn't have are left to its loader, which refuses them.

    Returns:
        The catalog name.

    Raises:
        UnknownNameError: No such model.
        MissingWeightsError: A published file is neither given, cached nor downloadable.
    """
    full = full_name(name)
    files = MODELS[full].files if full in MODELS else ()
    if set(weights) <= set(files):
        for part in files:
            if part not in weights and not cached_file(part).is_there:
                locate(part, instead=f"{full.partition(':')[0]}:tiny")
    return full


def load_generator(
    name: str,
    *,
    device: str = "cpu",
    weights: Mapping[str, Path] | None = None,
    bf16: bool = False,
    compiled: bool = False,
) -> Generator:
    """Build the generator behind a name.

    Args:
        name: Such as `glide:tiny`, or `package/name` of an entry point.
        device: A torch device.
        weights: Local files that take the place of downloads, by the name of the weights.
        bf16: Sample with bfloat16 autocast.
        compiled: Sample with compiled networks.

    Raises:
        ConfigError: The generator can't be run in bfloat16 or compiled.
        UnknownNameError: No such model.
        MissingWeightsError: The weights are neither embedded, cached nor downloadable.
    """
    own = dict(weights or {})
    full = require_model(name, own)
    target = MODELS[full].target if full in MODELS else third_party("generators")[full]
    generator: Generator = load(target)(full, device, own)
    if bf16 or compiled:
        accelerate = getattr(generator, "accelerate", None)
        if accelerate is None:
            raise ConfigError(f"{full} can be run neither in bfloat16 nor compiled")
        accelerate(load("generators.numerics:Numerics")(bf16=bf16, compiled=compiled))
    return generator
