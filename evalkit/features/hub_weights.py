"""Weights from the hub: where they are cached, and a quick error where they are unavailable.

This module imports no torch, so that missing weights are reported before seconds of imports.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from evalkit.core.downloads import require_network
from evalkit.core.errors import MissingWeightsError, NetworkError, as_clause

SHAPES_CLIP = "shapes-clip"
"""The embedded CLIP for drawn shapes: the judge."""
OPENAI_NAMES = {
    "ViT-B/32": "ViT-B-32-quickgelu:openai",
    "ViT-B/16": "ViT-B-16-quickgelu:openai",
    "ViT-L/14": "ViT-L-14-quickgelu:openai",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu:openai",
}
"""The papers' names of CLIP models, and open_clip's."""
CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
OPENAI_REPOSITORIES = {
    "ViT-B/32": "timm/vit_base_patch32_clip_224.openai",
    "ViT-B/16": "timm/vit_base_patch16_clip_224.openai",
    "ViT-L/14": "timm/vit_large_patch14_clip_224.openai",
    "ViT-L/14@336px": "timm/vit_large_patch14_clip_336.openai",
}
"""Repositories of the papers' models; open_clip knows those of its own names."""
DINOV2_REPOSITORY, DINOV2_FILE = "facebook/dinov2-large", "model.safetensors"


def check_hub_weights(extractor: str) -> None:
    """Raise an error if an extractor's weights are neither cached nor reachable, by its name.

    Args:
        extractor: `dinov2`, or `clip:NAME`; others are ignored.

    Raises:
        MissingWeightsError: They are unavailable.
    """
    name = extractor.removeprefix("clip:")
    try:
        if extractor == "dinov2" and cached_file(DINOV2_REPOSITORY, [DINOV2_FILE]) is None:
            require_hub()
        if name in OPENAI_REPOSITORIES and cached_clip(name) is None:
            require_hub()
    except NetworkError as error:
        if extractor == "dinov2":
            raise missing_dinov2(error) from error
        raise missing_clip(OPENAI_NAMES[name], OPENAI_REPOSITORIES[name], error) from error


def cached_clip(name: str) -> Path | None:
    """Return the cached weights of one of `OPENAI_REPOSITORIES`, or None."""
    return cached_file(OPENAI_REPOSITORIES[name], CLIP_FILES)


def cached_file(repository: str, names: Sequence[str]) -> Path | None:
    """Return the first of the named files that the hub's cache holds, or None."""
    from huggingface_hub import try_to_load_from_cache

    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def require_hub() -> None:
    """Raise an error within 5 s if the hub is unreachable; its own client takes 23 to 46 s.

    Raises:
        NetworkError: It is unreachable, or offline mode is on.
    """
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        raise NetworkError("HF_HUB_OFFLINE is set.")
    require_network(os.environ.get("HF_ENDPOINT", "https://huggingface.co"))


def missing_clip(name: str, source: str, error: Exception) -> MissingWeightsError:
    """Build the error for CLIP weights that are neither cached nor downloadable."""
    return MissingWeightsError(
        f"CLIP weights {name} ({source}) are not cached, and the download failed "
        f"({as_clause(error)}). Go online once, pass MODEL:PATH of a file, or use an embedded CLIP "
        f"({SHAPES_CLIP} to score, clip:tiny to re-rank)."
    )


def missing_dinov2(error: Exception) -> MissingWeightsError:
    """Build the error for DINOv2 weights that are neither cached nor downloadable."""
    return MissingWeightsError(
        f"DINOv2 weights {DINOV2_REPOSITORY}/{DINOV2_FILE} are not cached, and the download failed "
        f"({as_clause(error)}). Go online once, or copy the hub's cache folder from a machine that "
        "has it."
    )
