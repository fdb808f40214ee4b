"""The literal table of models and presets; importing it imports no torch.

A name is `MODEL:PRESET`. A bare `MODEL` means the best weights that the public can get.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evalkit.core.errors import ConfigError, MissingWeightsError
from evalkit.core.registry import Catalog, load, third_party, unknown
from generators.weights.published import MODEL_FILES, cached_file, locate

if TYPE_CHECKING:
    from generators.base import Generator


Conditioning = Literal["none", "class", "text"]
Weights = Literal["embedded", "released", "none"]


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One model, chosen by name."""

    target: str
    """`module:function`; the function takes (name, device, weights) and returns a Generator."""
    summary: str
    conditioning: Conditioning | None
    """The input of a request; None: not stated by its package."""
    size_px: int | None
    """Edge of its images; None: not stated by its package."""
    weights: Weights | None
    """`embedded` ships with evalkit, `released` is downloaded, `none` is the architecture only;
    None: not stated by its package."""
    files: tuple[str, ...] = ()
    """Rows of `generators.weights.published.PUBLISHED` that it loads, the networks in order."""
    accelerates: bool | None = None
    """Whether it can run in bfloat16 and compiled; None: not stated by its package."""


def _tiny(system: str, summary: str, weights: Weights = "embedded") -> ModelRow:
    return ModelRow(
        target=f"generators.{system}.generator:load_tiny",
        summary=summary,
        conditioning="text",
        size_px=64,
        weights=weights,
        accelerates=False,
    )


def _ddpm(preset: str, summary: str, size_px: int, conditioning: Conditioning = "none") -> ModelRow:
    """Build a row of the DDPM family; weights that are not in the zoo are downloaded."""
    files = MODEL_FILES.get(f"ddpm:{preset}", ())
    return ModelRow(
        target=f"generators.ddpm.generator:{'load_released' if files else 'load_tiny'}",
        summary=summary,
        conditioning=conditioning,
        size_px=size_px,
        weights="released" if files else "embedded",
        files=files,
        accelerates=True,
    )


MODELS: dict[str, ModelRow] = {
    "glide:tiny": ModelRow(
        target="generators.glide.loaders:load_tiny",
        summary="GLIDE at tiny size, trained on shapes",
        conditioning="text",
        size_px=64,
        weights="embedded",
        accelerates=True,
    ),
    "glide:tiny-untrained": ModelRow(
        target="generators.glide.loaders:load_tiny",
        summary="the networks of glide:tiny with random weights: its FD without training",
        conditioning="text",
        size_px=64,
        weights="none",
        accelerates=True,
    ),
    "glide:released": ModelRow(
        target="generators.glide.loaders:load_released",
        summary="GLIDE as OpenAI released it (filtered data, 385 M + 398 M parameters)",
        conditioning="text",
        size_px=256,
        weights="released",
        files=MODEL_FILES["glide:released"],
        accelerates=True,
    ),
    "glide:released-inpaint": ModelRow(
        target="generators.glide.loaders:load_released_inpaint",
        summary="GLIDE's networks for inpainting; without an image, text to image",
        conditioning="text",
        size_px=256,
        weights="released",
        files=MODEL_FILES["glide:released-inpaint"],
        accelerates=True,
    ),
    "glide:paper": ModelRow(
        target="generators.glide.loaders:load_paper",
        summary="GLIDE at the paper's size (3.5 B + 1.5 B), whose weights were never released",
        conditioning="text",
        size_px=256,
        weights="none",
        files=MODEL_FILES["glide:paper"],
        accelerates=True,
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
        accelerates=False,
    ),
    "ddpm:tiny": _ddpm("tiny", "DDPM at tiny size, unconditional, trained on shapes", 16),
    "ddpm:tiny-class": _ddpm(
        "tiny-class",
        "the same, conditioned on the shape, with a noisy classifier for guidance",
        16,
        "class",
    ),
    "ddpm:cifar10": _ddpm("cifar10", "DDPM for CIFAR-10 (Ho et al. 2020), 35.7 M parameters", 32),
    "ddpm:celebahq256": _ddpm(
        "celebahq256", "DDPM for CelebA-HQ (Ho et al. 2020), 114 M parameters", 256
    ),
    "ddpm:improved-cifar10": _ddpm(
        "improved-cifar10", "Improved DDPM for CIFAR-10 (Nichol & Dhariwal 2021)", 32
    ),
    "ddpm:improved-imagenet64": _ddpm("improved-imagenet64", "Improved DDPM for ImageNet", 64),
    "ddpm:improved-imagenet64-class": _ddpm(
        "improved-imagenet64-class", "Improved DDPM for ImageNet, class-conditional", 64, "class"
    ),
    "ddpm:adm64": _ddpm(
        "adm64",
        "ADM for ImageNet (Dhariwal & Nichol 2021), 296 M parameters, with its classifier",
        64,
        "class",
    ),
    "ddpm:adm128": _ddpm("adm128", "ADM for ImageNet at 128 px, with its classifier", 128, "class"),
    "ddpm:adm256": _ddpm("adm256", "ADM for ImageNet at 256 px, with its classifier", 256, "class"),
    "ddpm:adm256-unconditional": _ddpm(
        "adm256-unconditional", "ADM without classes, conditioned by its classifier", 256, "class"
    ),
    "ddpm:adm512": _ddpm("adm512", "ADM for ImageNet at 512 px, with its classifier", 512, "class"),
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
        accelerates=False,
    ),
    "unclip:karlo": ModelRow(
        target="generators.adapters.diffusers:load_karlo",
        summary="Karlo, a third-party unCLIP, through diffusers",
        conditioning="text",
        size_px=256,
        weights="released",
        accelerates=False,
    ),
    "imagen:if-xl": ModelRow(
        target="generators.adapters.diffusers:load_if",
        summary="DeepFloyd IF, in Imagen's style, through diffusers: its first two stages",
        conditioning="text",
        size_px=256,
        weights="released",
        accelerates=False,
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
        accelerates=False,
    ),
}


def _adopted(name: str, loader: object) -> ModelRow:
    """Build the row of a bare loader, which states nothing about its model."""
    target = third_party("generators")[name]
    return ModelRow(target=target, summary=target, conditioning=None, size_px=None, weights=None)


CATALOG = Catalog("generators", MODELS, ModelRow, adopt=_adopted)
"""Built-in models and those of other packages, whose entry points in `evalkit.generators` name a
`ModelRow`, or just a loader that takes (name, device, weights)."""

ALIASES = {
    "ddpm": "ddpm:cifar10",
    "glide": "glide:released",
    "unclip": "unclip:karlo",
    "imagen": "imagen:if-xl",
}
"""Full names of bare names."""

NEVER_RELEASED = {
    "dalle": "dalle: the weights of DALL-E's transformer were never released. Its discrete VAE "
    "alone makes no images from captions. Use dalle:tiny, which is trained on shapes.",
}
"""Error messages of bare names without public weights."""

CLIP_MODELS: dict[str, str] = {
    "clip:tiny": "generators.clip.tiny:load",
    "clip:tiny-judge": "generators.clip.tiny:load",
}
"""Contrastive models for re-ranking and scoring; the judge only ever scores."""


def full_name(name: str) -> str:
    """Return the catalog name behind a name or an alias.

    Raises:
        UnknownNameError: The model does not exist.
        MissingWeightsError: The name is of a model whose weights were never released.
    """
    if name in NEVER_RELEASED:
        raise MissingWeightsError(NEVER_RELEASED[name])
    full = ALIASES.get(name, name)
    if full not in CATALOG:
        raise unknown(name, [*CATALOG, *ALIASES], kind="models")
    return full


def require_model(name: str, weights: Mapping[str, Path]) -> str:
    """Check a model's name and fetch its published files, without importing torch.

    The model's loader refuses weights that the model does not have.

    Returns:
        The catalog name.

    Raises:
        UnknownNameError: The model does not exist.
        ConfigError: The package of the model cannot be loaded.
        MissingWeightsError: A published file is neither given, cached nor downloadable.
    """
    full = full_name(name)
    files = CATALOG[full].files
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
        ConfigError: The generator cannot run in bfloat16 or compiled.
        UnknownNameError: The model does not exist.
        MissingWeightsError: The weights are neither embedded, cached nor downloadable.
    """
    own = dict(weights or {})
    if (bf16 or compiled) and CATALOG[full_name(name)].accelerates is False:
        raise _not_accelerated(full_name(name))
    full = require_model(name, own)
    generator: Generator = load(CATALOG[full].target)(full, device, own)
    if bf16 or compiled:
        _accelerate(generator, full, bf16=bf16, compiled=compiled)
    return generator


def _accelerate(generator: Generator, name: str, *, bf16: bool, compiled: bool) -> None:
    """Run a generator in bfloat16 or compiled; imports torch."""
    from generators.base import Accelerated
    from generators.numerics import Numerics

    if not isinstance(generator, Accelerated):
        raise _not_accelerated(name)
    generator.accelerate(Numerics(bf16=bf16, compiled=compiled))


def _not_accelerated(name: str) -> ConfigError:
    able = sorted({row.partition(":")[0] for row, own in MODELS.items() if own.accelerates})
    return ConfigError(
        f"{name} can run neither in bfloat16 nor compiled; {' and '.join(able)} can. Drop --bf16 "
        "and --compile-model."
    )
