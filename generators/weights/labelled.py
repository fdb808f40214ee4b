"""Whether the weights that run are those that a model's label is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from evalkit.core.downloads import sha256_of
from generators.base import GeneratorSpec
from generators.weights.published import PUBLISHED, cached_file
from generators.weights.zoo import ZOO


def known_training_data(spec: GeneratorSpec, weights: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the data sets that the weights were trained on; none if that isn't known.

    The spec names the data of the weights that ship or are published. Files of one's own may be
    trained on anything, unless they are those very files.

    Args:
        spec: What the model says of itself.
        weights: The files given in place of its own, by the name of the weights.
    """
    own = [name for name, path in weights.items() if not _is_the_labelled(name, path)]
    return () if own else spec.training_data


def _is_the_labelled(name: str, path: Path) -> bool:
    shipped = ZOO / f"{name}.safetensors"
    if not path.is_file():
        return False
    if shipped.is_file():
        return sha256_of(path) == sha256_of(shipped)
    expected = cached_file(name).expected if name in PUBLISHED else ""
    return bool(expected) and sha256_of(path).startswith(expected)
