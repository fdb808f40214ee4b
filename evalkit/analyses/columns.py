"""The columns of a matrix: protocols that an image set can serve, and single changes to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.core.errors import ConfigError
from evalkit.measurement import short_of
from evalkit.metrics.task import INCEPTION
from evalkit.options import MeasureOptions
from evalkit.protocols.applying import under
from evalkit.protocols.catalog import PROTOCOLS, open_protocol
from evalkit.protocols.model import MeasurementProtocol

VARIATIONS: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "crop": (
        ("center", {"crop": "center"}),
        ("squash", {"crop": "squash"}),
        ("short-side", {"crop": "short-side"}),
    ),
    "filter": tuple((name, {"filter": name}) for name in ("bicubic", "lanczos", "bilinear", "box")),
    "size": tuple((f"{size} px", {"size_px": size}) for size in (256, 299, 512)),
    "reference-format": tuple((name, {"reencode": name}) for name in ("png", "jpeg-90", "jpeg-75")),
    "sample-format": tuple(
        (name, {"sample_saved": name}) for name in ("png", "jpeg-90", "jpeg-75")
    ),
    "reference": (
        ("all images", {"reference_images": "all"}),
        ("matched", {"reference_images": "matched"}),
    ),
    "resize": tuple(
        (name, {"resize": name, "features": INCEPTION})
        for name in ("tf1", "pytorch-fid", "clean", "torchmetrics")
    ),
    "extractor": tuple((name, {"features": name}) for name in (INCEPTION, "dinov2", "ViT-B/32")),
}
"""What a variation changes, by its name: the change's name, and the options that it sets."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One way to measure the image set."""

    name: str
    """Such as `gigagan-30k`, or `imagen-30k, filter lanczos`."""
    options: MeasureOptions
    """Completed options."""

    def computation(self) -> MeasureOptions:
        """Return the options without what only names them: equal ones give equal numbers."""
        return replace(
            self.options,
            protocol="",
            protocol_sha256="",
            protocol_choices=(0, 0),
            images_short="",
            overrides=(),
            typed=frozenset(),
            default_metrics=(),
        )


def protocol_columns(
    names: Sequence[str], options: MeasureOptions, *, num_samples: int, matchable: bool
) -> tuple[list[Column], dict[str, str]]:
    """Return a column for each protocol that the set can serve, and why the others can't.

    Args:
        names: Names or files of protocols.
        options: Options as they were given; a protocol decides what they leave open.
        num_samples: Number of samples; fewer than a protocol says are noted, not refused.
        matchable: Whether the samples say which reference image belongs to each.
    """
    columns, left_out = [], {}
    for name in names:
        protocol = open_protocol(name)
        reason = _unservable(protocol, matchable=matchable)
        if reason:
            left_out[protocol.name] = reason
            continue
        columns.append(Column(name=protocol.name, options=_named(protocol, options, num_samples)))
        columns += [
            Column(
                name=f"{protocol.name}, blur {radius:g} px",
                options=_named(protocol, replace(options, blur_px=radius), num_samples),
            )
            for radius in protocol.settings.blur_radii_px
        ]
    return columns, left_out


def variation_columns(
    base: Column, kinds: Iterable[str], *, matchable: bool, lacking: Iterable[str] = ()
) -> list[Column]:
    """Return a column for each single change to a base; what changes nothing is left out.

    Args:
        base: The column that is changed.
        kinds: Names of `VARIATIONS`.
        matchable: Whether the samples say which reference image belongs to each.
        lacking: Extractors whose weights are missing.

    Raises:
        ConfigError: No such variation.
    """
    columns = []
    for kind in kinds:
        if kind not in VARIATIONS:
            raise ConfigError(f"Unknown variation {kind!r}; choose from {', '.join(VARIATIONS)}.")
        for name, change in VARIATIONS[kind]:
            needs_match = change.get("reference_images") == "matched" and not matchable
            if needs_match or change.get("features") in set(lacking):
                continue
            changed = Column(
                name=f"{base.name}, {kind} {name}", options=_changed(base.options, change)
            )
            if _is_possible(changed.options) and changed.computation() != base.computation():
                columns.append(changed)
    return columns


def default_protocols(dataset: str | None) -> list[str]:
    """Return the protocols on a data set; all those on COCO for images that are no data set."""
    wanted = dataset or "coco"
    return [name for name in PROTOCOLS if open_protocol(name).dataset == wanted]


def _unservable(protocol: MeasurementProtocol, *, matchable: bool) -> str:
    if protocol.reference.images != "all images" and not matchable:
        return "its reference is matched to captions, and the samples don't name any image"
    if not {"fid", "fd"} & {*protocol.metrics}:
        return "it measures no Fréchet distance"
    return ""


def _named(
    protocol: MeasurementProtocol, options: MeasureOptions, num_samples: int
) -> MeasureOptions:
    found = under(protocol, options)
    return replace(found, images_short=short_of(protocol, num_samples))


def _changed(options: MeasureOptions, change: dict[str, Any]) -> MeasureOptions:
    found = replace(options, **change)
    size_px = found.size_px
    if found.crop not in ("none", "center") and size_px is None:
        size_px = 256
    return replace(found, size_px=size_px, overrides=(*options.overrides, *change))


def _is_possible(options: MeasureOptions) -> bool:
    """Return whether a size has a crop that leads to it: photographs are not square."""
    return not (options.crop == "none" and options.size_px is not None)
