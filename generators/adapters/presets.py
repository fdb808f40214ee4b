"""The published pipelines that have a name of their own; importing it imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from generators.settings import OptionValue


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published pipeline, or a cascade of them."""

    repositories: Mapping[str, str]
    """On the hub, `owner/name[@revision]`, in the order in which they run; by name in
    `--weights`."""
    display_name: str
    summary: str
    size_px: int
    """Edge of its images."""
    training_data: tuple[str, ...] = ()
    """Names of its training data sets; empty: unknown."""
    paper: str = ""
    """The paper of the system that it follows; empty: none."""
    instead: str = "glide:tiny"
    """A model that needs no download, for error messages."""
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    """Defaults of the main stage that differ from the pipeline's."""


IF_SR1 = "DeepFloyd/IF-II-L-v1.0"


def _deepfloyd(size: str) -> Preset:
    return Preset(
        repositories={"if-base": f"DeepFloyd/IF-I-{size}-v1.0", "if-sr1": IF_SR1},
        display_name="DeepFloyd IF (Imagen-style)"
        if size == "XL"
        else f"DeepFloyd IF {size} (Imagen-style)",
        summary=f"DeepFloyd IF ({size}), in Imagen's style, through diffusers: its first two "
        "stages",
        size_px=256,
        training_data=("laion-a",),
        paper="Saharia et al. 2022",
        instead="imagen:tiny-untrained",
    )


PRESETS: dict[str, Preset] = {
    "unclip:karlo": Preset(
        repositories={"karlo": "kakaobrain/karlo-v1-alpha"},
        display_name="Karlo (unCLIP-style)",
        summary="Karlo, a third-party unCLIP, through diffusers",
        size_px=256,
        training_data=("coyo", "cc3m", "cc12m"),
        paper="Ramesh et al. 2022",
        instead="unclip:tiny-untrained",
    ),
    "imagen:if-xl": _deepfloyd("XL"),
    "imagen:if-l": _deepfloyd("L"),
    "imagen:if-m": _deepfloyd("M"),
    "diffusers:sd15": Preset(
        repositories={"sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5"},
        display_name="Stable Diffusion 1.5",
        summary="Stable Diffusion 1.5 (latent diffusion, 0.9 B), with its safety checker",
        size_px=512,
        training_data=("laion-2b-en", "laion-aesthetics"),
        paper="Rombach et al. 2022",
    ),
    "diffusers:sdxl": Preset(
        repositories={"sdxl": "stabilityai/stable-diffusion-xl-base-1.0"},
        display_name="Stable Diffusion XL",
        summary="Stable Diffusion XL 1.0, the base model without refiner (2.6 B U-Net)",
        size_px=1024,
        paper="Podell et al. 2024",
    ),
    "diffusers:sd3": Preset(
        repositories={"sd3": "stabilityai/stable-diffusion-3-medium-diffusers"},
        display_name="Stable Diffusion 3 Medium",
        summary="Stable Diffusion 3 Medium (2 B); its licence must be accepted on the hub",
        size_px=1024,
        paper="Esser et al. 2024",
        options={"dtype": "float16"},
    ),
    "diffusers:flux": Preset(
        repositories={"flux": "black-forest-labs/FLUX.1-dev"},
        display_name="FLUX.1 [dev]",
        summary="FLUX.1 [dev] (12 B, distilled guidance); its licence must be accepted on the hub",
        size_px=1024,
        options={"dtype": "bfloat16"},
    ),
}
"""By the name in the catalog of models."""
