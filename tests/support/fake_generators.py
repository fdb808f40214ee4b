"""Specs of generators that tests make up."""

from __future__ import annotations

from generators.base import Conditioning, GeneratorSpec


def plain_spec(name: str = "fake", conditioning: Conditioning = "text") -> GeneratorSpec:
    """A model without stages, settings or weights."""
    return GeneratorSpec(
        name=name,
        display_name=name,
        conditioning=conditioning,
        stages=(),
        size_px=4,
        training_data=(),
        weights="none",
        weights_sha256="0" * 64,
    )
