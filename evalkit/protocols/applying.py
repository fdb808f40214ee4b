"""Complete options by a protocol: typed values stay, the protocol decides the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evalkit.options import MeasureOptions
from evalkit.protocols.catalog import UNNAMED, open_protocol, protocol_for
from evalkit.protocols.model import MeasurementProtocol

CROPPED_SIZE_PX = 256
"""Size of cropped references if neither the user nor the protocol gives one."""
ONLY_INCEPTION = ("fid", "is")
"""Metrics that are defined by Inception's features: naming one names the features."""
INCEPTION_OPTIONS = ("inception_weights", "inception_layer", "resize")
"""Options of the Inception network, which name the features likewise."""


def chosen_protocol(options: MeasureOptions, dataset: str | None) -> MeasurementProtocol | None:
    """Return the protocol that the options name, else the data set's own.

    Args:
        options: The options as given.
        dataset: Name of the reference's data set; None for other images, which are used unchanged.

    Raises:
        UnknownNameError: No protocol has this name.
        ConfigError: The file is not a protocol.
    """
    if options.protocol:
        return open_protocol(options.protocol)
    return None if dataset is None else protocol_for(dataset)


def decisions(protocol: MeasurementProtocol) -> dict[str, Any]:
    """Return what a protocol decides, by the fields of `MeasureOptions`."""
    return {
        "features": protocol.extractor.name,
        "resize": protocol.extractor.resize,
        "clip_model": protocol.clip.model,
        "clip_variant": protocol.clip.variant,
        "clip_prefix": protocol.clip.prefix,
        "crop": protocol.reference.crop,
        "size_px": protocol.reference.size_px,
        "filter": protocol.reference.filter,
        "sample_crop": protocol.samples.crop,
        "sample_size_px": protocol.samples.size_px,
    }


def under(protocol: MeasurementProtocol | None, options: MeasureOptions) -> MeasureOptions:
    """Complete the options by a protocol; fields that were given override it.

    Args:
        protocol: None if nothing is known about the reference: its images are used unchanged.
        options: The options as given.

    Returns:
        Options that name the protocol and the fields in which they differ from it.
    """
    decided = decisions(protocol) if protocol else {}
    given = {name for name in _DECIDED if options.is_given(name)}
    chosen = {name: value for name, value in decided.items() if name not in given}
    if "features" not in given and _names_inception(options):
        chosen["features"] = "inception"
    if "clip_variant" in given and "clip_prefix" not in given:
        chosen["clip_prefix"] = None  # the variant's own
    crop = options.crop if "crop" in given else chosen.get("crop", options.crop)
    size_px = options.size_px if "size_px" in given else chosen.get("size_px")
    if "size_px" not in given:
        if "crop" in given:
            size_px = None if crop == "none" else size_px or CROPPED_SIZE_PX
        chosen["size_px"] = size_px
    completed = replace(options, **chosen)
    if protocol is None:
        return completed
    completed = replace(completed, default_metrics=protocol.metrics)
    if protocol.name == UNNAMED:
        return completed
    overrides = tuple(
        _DECIDED[name] for name, value in decided.items() if getattr(completed, name) != value
    )
    return replace(
        completed, protocol=protocol.name, protocol_sha256=protocol.sha256, overrides=overrides
    )


def _names_inception(options: MeasureOptions) -> bool:
    return bool(set(options.metrics or ()) & set(ONLY_INCEPTION)) or any(
        map(options.is_given, INCEPTION_OPTIONS)
    )


_DECIDED = {
    "features": "extractor.name",
    "resize": "extractor.resize",
    "clip_model": "clip.model",
    "clip_variant": "clip.variant",
    "clip_prefix": "clip.prefix",
    "crop": "reference.crop",
    "size_px": "reference.size_px",
    "filter": "reference.filter",
    "sample_crop": "samples.crop",
    "sample_size_px": "samples.size_px",
}
"""The protocol's value behind each option that it decides."""


def options_for(dataset: str | None, options: MeasureOptions) -> MeasureOptions:
    """Complete the options by the protocol that they name, else by the data set's own."""
    return under(chosen_protocol(options, dataset), options)
