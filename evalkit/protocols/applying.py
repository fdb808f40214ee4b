"""Complete options by a protocol: typed values stay, the protocol decides the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evalkit.core.errors import ConfigError
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
    found: dict[str, Any] = {
        "features": protocol.extractor.name,
        "resize": protocol.extractor.resize,
        "reference_images": _REFERENCES[protocol.reference.images],
        "crop": protocol.reference.crop,
        "size_px": protocol.reference.size_px,
        "filter": protocol.reference.filter,
        "reencode": protocol.reference.reencode,
        "sample_crop": protocol.samples.crop,
        "sample_size_px": protocol.samples.size_px,
        "sample_saved": protocol.samples.saved,
        "sample_reencode": protocol.samples.reencode,
        "sample_exclude": protocol.samples.exclude,
    }
    if protocol.clip is not None:
        found |= {
            "clip_model": protocol.clip.model,
            "clip_variant": protocol.clip.variant,
            "clip_prefix": protocol.clip.prefix,
        }
    if protocol.settings.by_category:
        found["by_category"] = True
    if protocol.settings.neighbours is not None:
        found["neighbours"] = protocol.settings.neighbours
    if protocol.settings.is_split_size is not None:
        found["is_split_size"] = protocol.settings.is_split_size
    return found


_REFERENCES = {"all images": "all", "images of the drawn captions": "matched"}


def under(protocol: MeasurementProtocol | None, options: MeasureOptions) -> MeasureOptions:
    """Complete the options by a protocol; fields that were given override it.

    Args:
        protocol: None if nothing is known about the reference: its images are used unchanged.
        options: The options as given.

    Returns:
        Options that name the protocol and the fields in which they differ from it.

    Raises:
        ConfigError: A blur that the protocol doesn't have.
    """
    decided = decisions(protocol) if protocol else {}
    if protocol is not None and options.blur_px not in (0, *protocol.settings.blur_radii_px):
        radii = ", ".join(f"{radius:g}" for radius in protocol.settings.blur_radii_px) or "none"
        raise ConfigError(
            f"--blur {options.blur_px:g}: {protocol.name} has the radii {radii}. Choose one of "
            "them, or 0."
        )
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
    if options.is_given("is_splits"):
        chosen.pop("is_split_size", None)
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
        completed,
        protocol=protocol.name,
        protocol_sha256=protocol.sha256,
        protocol_choices=(len(protocol.our_choices), protocol.num_values),
        overrides=overrides,
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
    "reference_images": "reference.images",
    "reencode": "reference.reencode",
    "sample_saved": "samples.saved",
    "sample_reencode": "samples.reencode",
    "sample_exclude": "samples.exclude",
    "neighbours": "settings.neighbours",
    "is_split_size": "settings.is_split_size",
    "by_category": "settings.by_category",
}
"""The protocol's value behind each option that it decides."""


def options_for(dataset: str | None, options: MeasureOptions) -> MeasureOptions:
    """Complete the options by the protocol that they name, else by the data set's own."""
    return under(chosen_protocol(options, dataset), options)
