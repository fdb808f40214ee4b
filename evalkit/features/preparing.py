"""Preprocessing of images before an extractor's own resizing, by the options."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import cast, get_args

from evalkit.core.errors import ConfigError
from evalkit.core.pixels import Filter
from evalkit.core.preparations import SIZED_CROPS, Crop, Reencode
from evalkit.features.decoding import usable_cores
from evalkit.features.sources import Preparation
from evalkit.options import MeasureOptions


def reference_preparation(options: MeasureOptions) -> Preparation:
    """Return the preprocessing of the reference.

    Raises:
        ConfigError: An unknown crop, filter or file format, or a crop that needs a size.
    """
    found = _preparation("", options.crop, options.size_px, options.filter)
    reencode = _format("--reencode", options.reencode)
    return replace(
        found, reencode=reencode, blur_px=options.blur_px, jpeg_device=_jpeg_device(options)
    )


def sample_preparation(options: MeasureOptions) -> Preparation:
    """Return the preprocessing of the samples, which by default stay as they are.

    Raises:
        ConfigError: An unknown crop, filter or file format, or a crop that needs a size.
    """
    found = _preparation("sample-", options.sample_crop, options.sample_size_px, options.filter)
    return replace(
        found,
        saved=_format("--sample-saved", options.sample_saved),
        reencode=_format("--sample-reencode", options.sample_reencode),
        blur_px=options.blur_px,
        jpeg_device=_jpeg_device(options),
    )


def decoding_workers(options: MeasureOptions) -> int:
    """Return the number of decoding processes; 0 where threads keep up with the network."""
    if os.name == "nt":  # a temporary file can't be opened twice there
        if options.workers:
            raise ConfigError(
                f"--workers {options.workers}: Windows has no shared files for decoding processes. "
                "Leave it out; threads decode."
            )
        return 0
    if options.workers is not None:
        return options.workers
    if _jpeg_device(options):  # each process would need a part of the GPU
        return 0
    return 0 if options.device == "cpu" else usable_cores()


def _preparation(prefix: str, crop: str, size_px: int | None, resampling: str) -> Preparation:
    if crop not in get_args(Crop):
        known = ", ".join(get_args(Crop))
        raise ConfigError(f"Unknown --{prefix}crop {crop!r}; use one of {known}.")
    if crop in SIZED_CROPS and size_px is None:
        raise ConfigError(f"--{prefix}crop {crop} needs --{prefix}size, the target size.")
    if resampling not in get_args(Filter):
        raise ConfigError(f"Unknown --filter {resampling!r}; use {', '.join(get_args(Filter))}.")
    return Preparation(crop=cast(Crop, crop), size_px=size_px, filter=cast(Filter, resampling))


def _jpeg_device(options: MeasureOptions) -> str:
    if options.jpeg not in ("pillow", "device"):
        raise ConfigError(f"Unknown --jpeg {options.jpeg!r}; use pillow or device.")
    return options.device if options.jpeg == "device" else ""


def _format(flag: str, name: str) -> Reencode:
    if name not in get_args(Reencode):
        raise ConfigError(f"Unknown {flag} {name!r}; use {', '.join(get_args(Reencode))}.")
    return cast(Reencode, name)
