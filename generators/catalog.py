"""The literal table of models and presets; importing it imports no torch.

A name is `MODEL:PRESET`. A bare `MODEL` means the best weights that the public can get. A name may
also say where any other model is: `SCHEME:PLACE`, with a row of `SCHEMES` for each scheme.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from evalkit.core.errors import ConfigError, MissingWeightsError
from evalkit.core.registry import Catalog, load, third_party, unknown
from generators.adapters.presets import PRESETS
from generators.weights.published import MODEL_FILES, cached_file, locate

if TYPE_CHECKING:
    from generators.adapters.access import Access
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
    compiles: bool = True
    """Whether one that accelerates can be compiled, too."""
    paper: str = ""
    """The paper that introduced it; empty: none."""


_PAPERS = {
    "glide": "Nichol et al. 2022",
    "dalle": "Ramesh et al. 2021",
    "unclip": "Ramesh et al. 2022",
    "imagen": "Saharia et al. 2022",
}
"""The papers of the systems."""


def _tiny(system: str, summary: str, weights: Weights = "embedded") -> ModelRow:
    return ModelRow(
        target=f"generators.{system}.generator:load_tiny",
        summary=summary,
        conditioning="text",
        size_px=64,
        weights=weights,
        accelerates=True,
        compiles=system != "dalle",  # its sampling grows by a code a call
        paper=_PAPERS[system],
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
        paper=_ddpm_paper(preset),
    )


def _ddpm_paper(preset: str) -> str:
    """Return the paper of a preset of the DDPM family."""
    if preset.startswith("adm"):
        return "Dhariwal & Nichol 2021"
    return "Nichol & Dhariwal 2021" if preset.startswith("improved") else "Ho et al. 2020"


MODELS: dict[str, ModelRow] = {
    "glide:tiny": ModelRow(
        target="generators.glide.loaders:load_tiny",
        summary="GLIDE at tiny size, trained on shapes",
        conditioning="text",
        size_px=64,
        weights="embedded",
        accelerates=True,
        paper=_PAPERS["glide"],
    ),
    "glide:tiny-untrained": ModelRow(
        target="generators.glide.loaders:load_tiny",
        summary="the networks of glide:tiny with random weights: its FD without training",
        conditioning="text",
        size_px=64,
        weights="none",
        accelerates=True,
        paper=_PAPERS["glide"],
    ),
    "glide:released": ModelRow(
        target="generators.glide.loaders:load_released",
        summary="GLIDE as OpenAI released it (filtered data, 385 M + 398 M parameters)",
        conditioning="text",
        size_px=256,
        weights="released",
        files=MODEL_FILES["glide:released"],
        accelerates=True,
        paper=_PAPERS["glide"],
    ),
    "glide:released-inpaint": ModelRow(
        target="generators.glide.loaders:load_released_inpaint",
        summary="GLIDE's networks for inpainting; without an image, text to image",
        conditioning="text",
        size_px=256,
        weights="released",
        files=MODEL_FILES["glide:released-inpaint"],
        accelerates=True,
        paper=_PAPERS["glide"],
    ),
    "glide:paper": ModelRow(
        target="generators.glide.loaders:load_paper",
        summary="GLIDE at the paper's size (3.5 B + 1.5 B), whose weights were never released",
        conditioning="text",
        size_px=256,
        weights="none",
        files=MODEL_FILES["glide:paper"],
        accelerates=True,
        paper=_PAPERS["glide"],
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
        accelerates=True,
        paper=_PAPERS["dalle"],
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
        accelerates=True,
        paper=_PAPERS["unclip"],
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
        accelerates=True,
        paper=_PAPERS["imagen"],
    ),
}


MODELS |= {
    name: ModelRow(
        target="generators.adapters.diffusers:load_preset",
        summary=preset.summary,
        conditioning="text",
        size_px=preset.size_px,
        weights="released",
        accelerates=True,
        paper=preset.paper,
    )
    for name, preset in PRESETS.items()
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
    "karlo": "unclip:karlo",
    "if-xl": "imagen:if-xl",
    "if-l": "imagen:if-l",
    "if-m": "imagen:if-m",
    "sd15": "diffusers:sd15",
    "sdxl": "diffusers:sdxl",
    "sd3": "diffusers:sd3",
    "flux": "diffusers:flux",
}
"""Full names of bare names."""


@dataclass(frozen=True, kw_only=True)
class SchemeRow:
    """One way to name a model that has no row: by its place."""

    target: str
    """`module:function`; the function takes (name, device, weights) and returns a Generator, and
    the server's access as well if the row says so."""
    check: str
    """`module:function` of (name, weights), which fails fast if there is no such model."""
    form: str
    """What follows the colon, for lists."""
    summary: str
    takes_access: bool = False
    """Whether it needs `generators.adapters.access.Access`: the address, and the caps."""
    accelerates: bool = False
    """Whether `--bf16` and `--compile-model` apply to its models."""


SCHEMES: dict[str, SchemeRow] = {
    "diffusers": SchemeRow(
        target="generators.adapters.diffusers:load",
        check="generators.adapters.repositories:check",
        form="FOLDER or OWNER/NAME[@REVISION]; + joins a pipeline and its upsampler",
        summary="any text-to-image, class-conditional or unconditional pipeline of diffusers",
        accelerates=True,
    ),
    "folder": SchemeRow(
        target="evalkit.layouts.generator:load",
        check="evalkit.layouts.generator:check",
        form="PATH[?KEY=VALUE&...], with the keys layout, captions, image, caption, id, category "
        "and name",
        summary="images that something else made, by their captions",
    ),
    "openai": SchemeRow(
        target="generators.adapters.servers:load",
        check="generators.adapters.servers:check",
        form="the model's name on the server that --base-url names",
        summary="a model behind a server with OpenAI's images API",
        takes_access=True,
    ),
    "python": SchemeRow(
        target="generators.adapters.functions:load",
        check="generators.adapters.functions:check",
        form="MODULE:FUNCTION or FILE.py:FUNCTION",
        summary="a function of (prompts, seeds) that returns PIL images, arrays or tensors",
    ),
}
"""By the part before the colon; a row of `MODELS` of the same name goes first."""

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
    """Return the catalog name behind a name or an alias; a name with a place is returned as it is.

    Raises:
        UnknownNameError: The model does not exist.
        MissingWeightsError: The name is of a model whose weights were never released.
    """
    if name in NEVER_RELEASED:
        raise MissingWeightsError(NEVER_RELEASED[name])
    full = ALIASES.get(name, name)
    if full not in CATALOG and scheme_of(full) is None:
        forms = [f"{scheme}:..." for scheme in SCHEMES]
        raise unknown(name, [*CATALOG, *ALIASES, *forms], kind="models")
    return full


def scheme_of(name: str) -> SchemeRow | None:
    """Return the row of a name such as `diffusers:PATH`; None for other names."""
    scheme, colon, place = name.partition(":")
    return SCHEMES.get(scheme) if colon and place and name not in CATALOG else None


def require_model(name: str, weights: Mapping[str, Path]) -> str:
    """Check a model's name and fetch its published files, without importing torch.

    The model's loader refuses weights that the model does not have.

    Returns:
        The catalog name, or the name with its place.

    Raises:
        UnknownNameError: The model does not exist.
        ConfigError: The package of the model cannot be loaded, or its place holds no model.
        MissingWeightsError: A published file is neither given, cached nor downloadable.
    """
    full = full_name(name)
    scheme = scheme_of(full)
    if scheme is not None:
        load(scheme.check)(full, weights)
        return full
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
    fp16: bool = False,
    compiled: bool = False,
    offload: bool = False,
    access: Access | None = None,
) -> Generator:
    """Build the generator behind a name.

    Args:
        name: Such as `glide:tiny`, `package/name` of an entry point, or `diffusers:PATH`.
        device: A torch device.
        weights: Local files that take the place of downloads, by the name of the weights.
        bf16: Sample in bfloat16 where it is safe.
        fp16: Sample in float16 where it is safe.
        compiled: Sample with compiled networks.
        offload: Keep on the device only the network that runs.
        access: Address and caps of the server, for a model behind one.

    Raises:
        ConfigError: The generator cannot run so, the options contradict each other, or there is no
            server.
        UnknownNameError: The model does not exist.
        MissingWeightsError: The weights are neither embedded, cached nor downloadable.
    """
    own = dict(weights or {})
    full = full_name(name)
    scheme = scheme_of(full)
    row = scheme or CATALOG[full]
    chosen = {"bf16": bf16, "fp16": fp16, "compiled": compiled, "offload": offload}
    _check_numerics(chosen)
    if any(chosen.values()) and row.accelerates is False:
        raise _not_accelerated(full)
    if compiled and isinstance(row, ModelRow) and not row.compiles:
        raise ConfigError(
            f"{full} can't be compiled: what its transformer reads grows with each code. Leave "
            "--compile-model out."
        )
    require_model(name, own)
    if access is not None and access.is_given and not (scheme and scheme.takes_access):
        raise ConfigError(
            f"{full} is not behind a server, so {access.flags} do not apply. Leave them out."
        )
    further = (access,) if scheme and scheme.takes_access else ()
    generator: Generator = load(row.target)(full, device, own, *further)
    if any(chosen.values()):
        _accelerate(generator, full, chosen)
    return generator


def _check_numerics(chosen: Mapping[str, bool]) -> None:
    if chosen["bf16"] and chosen["fp16"]:
        raise ConfigError("--bf16 and --fp16 exclude each other. Choose one.")
    if chosen["compiled"] and chosen["offload"]:
        raise ConfigError(
            "--compile-model records where the weights are, and --offload moves them. Choose one."
        )


def _accelerate(generator: Generator, name: str, chosen: Mapping[str, bool]) -> None:
    """Change how a generator runs; imports torch."""
    from generators.base import Accelerated
    from generators.numerics import Numerics

    if not isinstance(generator, Accelerated):
        raise _not_accelerated(name)
    generator.accelerate(Numerics(**chosen))


def _not_accelerated(name: str) -> ConfigError:
    able = sorted({row.partition(":")[0] for row, own in MODELS.items() if own.accelerates})
    return ConfigError(
        f"{name} takes none of --bf16, --fp16, --compile-model and --offload; {', '.join(able)} "
        "do. Leave them out."
    )
